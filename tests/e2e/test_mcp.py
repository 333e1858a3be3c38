"""Agent turns in the real OpenClaw that reach the tools through `openclaw mcp set` instead of the plugin.

There a server's tools stand behind OpenClaw's tool search, under names such as `flux2__text_to_image`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.sandbox import Fault, Sandbox, SandboxOptions, running_sandbox
from tests.e2e.conftest import KEY, World
from tests.e2e.openclaw_host import Gateway, Turn
from tests.e2e.scripted_model import Say, Step, ToolCall
from tests.support.waiting import wait_until

if os.environ.get("FLUX2_TEST_REQUIRE_OPENCLAW") != "1":
    pytest.importorskip("mcp", reason="the MCP server needs the extra mcp")
pytestmark = pytest.mark.usefixtures("gateway")

# Longer than the 50 s a call waits over MCP, and than the 60 s after which a host gives up unless told otherwise.
SLOW_TASK_S = 75


@pytest.fixture(scope="module")
def sandbox() -> Iterator[tuple[str, Sandbox]]:
    """A sandbox where a picture takes a second, and a [slow] one longer than a call waits."""
    options = SandboxOptions(api_keys=frozenset({KEY}), duration_s=1.0, slow_s=SLOW_TASK_S, drawn_images=False)
    with running_sandbox(options) as (base_url, running):
        yield base_url, running


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], sandbox: tuple[str, Sandbox]) -> World:
    """A world without the plugin, where the MCP server is registered by the command that `mcp config` prints.

    Its operator has switched small copies on, which OpenClaw must not get all the same.
    """
    made = make_world(RUNAPI_API_KEY=KEY, RUNAPI_BASE_URL=sandbox[0], FLUX2_TOOL_MCP_IMAGE_KIB="64")
    printed = made.openclaw.flux2_tool("mcp", "config", "--host", "openclaw")
    assert printed.returncode == 0, printed.stderr
    command, *arguments = shlex.split(printed.stdout)
    assert command == "openclaw"
    made.openclaw.run(*arguments)
    return made


@pytest.fixture(scope="module")
def gateway(world: World) -> Iterator[Gateway]:
    with world.openclaw.gateway() as running:
        yield running


def call(tool: str, **arguments: Any) -> ToolCall:
    """Return a step that calls one of the server's tools."""
    return ToolCall(tool="tool_call", arguments={"id": f"flux2__{tool}", "args": arguments})


def said(result: str, name: str) -> str:
    """Return a member of the result object in a tool result, whose JSON is not whole where OpenClaw masks a link."""
    found = re.search(rf'\\?"{name}\\?": \\?"([^"\\]+)', result)
    assert found, result
    return found.group(1)


def servers_of(world: World) -> list[str]:
    """Return the process ids of the servers that this world's OpenClaw has started."""
    return [
        path.name
        for path in Path("/proc").glob("[0-9]*")
        if "flux2_tool mcp" in Gateway.process_text(int(path.name), "cmdline")
        and str(world.openclaw.home) in Gateway.process_text(int(path.name), "environ")
    ]


def run(world: World, steps: Sequence[Step]) -> tuple[Turn, tuple[str, ...]]:
    """Run a turn in which the model takes these steps; return it and the tool results the model read."""
    name = world.model.unused("mcp")
    marker = world.model.script(name, steps)
    turn = world.openclaw.turn(f"A picture, please. {marker}", session=name)
    return turn, world.model.tool_results(name)


def test_the_registered_mcp_server_works_without_a_stored_key(world: World) -> None:
    """OpenClaw's own check starts it. People share their config, so the key is only named there."""
    report = json.loads(world.openclaw.run("mcp", "doctor", "flux2", "--probe", "--json").stdout)
    config = (world.openclaw.state / "openclaw.json").read_text()

    assert report["ok"], report
    assert KEY not in config
    assert "${RUNAPI_API_KEY}" in config


def test_tool_search_finds_the_tools_by_purpose(world: World) -> None:
    """Nothing else leads a model to them there."""
    search = ToolCall(tool="tool_search", arguments={"query": "make an image of a fox"})

    _turn, [found] = run(world, [search, Say(text="I found them.")])

    assert '"flux2__text_to_image"' in found


def test_over_mcp_a_picture_is_made_once_and_reported_once(world: World) -> None:
    """The same object as text and as structured content must not fill the model's context twice.

    Nor must a picture: behind its tool search OpenClaw gives a model the letters of the picture's base64.
    """
    _turn, [result] = run(world, [call("text_to_image", prompt="a red fox"), Say(text="Here is your fox.")])

    assert said(result, "state") == "completed"
    assert result.count('"type": "text"') == 1
    assert '"type": "image"' not in result
    assert len([task for task in world.sandbox.ledger.tasks.values() if task.arguments["prompt"] == "a red fox"]) == 1


def test_over_mcp_a_failure_is_readable_and_marked_as_error(world: World) -> None:
    """The agent must be able to tell its user to top up."""
    world.sandbox.faults.queue(Fault(kind="status", on="create", status=402))

    turn, [result] = run(world, [call("text_to_image", prompt="a golden palace"), Say(text="The account is empty.")])

    assert said(result, "code") == "insufficient_credits"
    assert turn.failed_calls > 0


def test_a_task_longer_than_the_wait_is_fetched_and_paid_once(world: World) -> None:
    """Not by a host's time-out: each call answers in time, and says how to go on."""
    prompt = "[slow] a cathedral"

    def fetch(results: Sequence[str]) -> ToolCall:
        return call("get_image_task", task_id=said(results[0], "ref"), timeoutSeconds=50)

    _turn, [first, second] = run(world, [call("text_to_image", prompt=prompt), fetch, Say(text="It is done.")])

    assert said(first, "state") == "processing"
    assert "get_image_task" in said(first, "next")
    assert said(second, "state") == "completed"
    assert said(second, "ref") == said(first, "ref")
    assert len([task for task in world.sandbox.ledger.tasks.values() if task.arguments["prompt"] == prompt]) == 1


def test_no_server_outlives_the_gateway(world: World, gateway: Gateway) -> None:
    """Restarting a service for months must not gather processes. Last, because it stops the gateway."""
    run(world, [call("text_to_image", prompt="a sunset"), Say(text="Good night.")])
    servers = servers_of(world)
    assert servers

    gateway.stop()

    wait_until(lambda: not servers_of(world))
