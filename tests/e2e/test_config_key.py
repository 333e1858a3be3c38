"""The key from OpenClaw's config alone, with waits shorter than the picture; and no key at all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence

import pytest

from flux2_tool.sandbox import Sandbox
from tests.e2e.conftest import KEY, World
from tests.e2e.openclaw_host import scripted_provider
from tests.e2e.scripted_model import Say, ToolCall
from tests.e2e.test_turns import run, task_of


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], sandbox: tuple[str, Sandbox]) -> Iterator[World]:
    """A gateway whose environment has no key; RunAPI is configured as a provider, as for chat."""
    runapi = scripted_provider(f"{sandbox[0]}/v1", api_key=KEY, model="some-chat-model")
    made = make_world(providers={"runapi": runapi}, config={"wait_s": 1, "tiers": ["pro", "max", "klein"]})
    made.openclaw.add_plugin()
    with made.openclaw.gateway():
        yield made


def test_a_key_and_base_url_in_the_config_are_enough(world: World) -> None:
    """Whoever has RunAPI as chat provider needs to set nothing else."""

    def fetch(results: Sequence[str]) -> ToolCall:
        return ToolCall(tool="get_image_task", arguments={"task_id": task_of(results[0]), "timeoutSeconds": 60})

    call = ToolCall(tool="text_to_image", arguments={"prompt": "a key"})
    turn, _ = run(world, [call, fetch, Say(text="Here.")])

    assert len(turn.media_urls) == 1


def test_doctor_finds_a_key_that_only_the_gateway_has(world: World) -> None:
    """Whoever runs it in a shell without a key must not be sent to set one that is there."""
    found = json.loads(world.openclaw.flux2_tool("doctor", "--json").stdout)["findings"]

    [key] = [finding for finding in found if finding["area"] == "gateway key"]
    assert (key["state"], key["facts"]["source"]) == ("ok", "provider"), key


def test_enabled_tiers_decide_what_the_model_is_offered(world: World) -> None:
    """An operator who leaves a tier out does not want to see it billed."""
    marker = world.model.script("tiers", [Say(text="Pro and max.")])

    world.openclaw.turn(f"Which tiers? {marker}", session="tiers")

    offered = world.model.seen("tiers")[0].tools["text_to_image"]
    assert offered["parameters"]["properties"]["model"]["enum"] == [
        "flux-2-pro-text-to-image",
        "flux-2-max-text-to-image",
        "flux-2-klein",
    ]
    assert "flex" not in offered["description"]
    assert "klein" not in str(world.model.seen("tiers")[0].tools["remix_image"])


def test_a_picture_by_klein_reaches_the_chat(world: World) -> None:
    """Made by another service of RunAPI's, which nobody in the chat notices."""

    def fetch(results: Sequence[str]) -> ToolCall:
        [ref] = set(re.findall(r"task:[0-9a-f-]{36}", results[1]))
        return ToolCall(tool="get_image_task", arguments={"task_id": ref, "timeoutSeconds": 60})

    wrong = ToolCall(
        tool="text_to_image", arguments={"prompt": "a draft", "model": "flux-2-klein", "output_resolution": "2k"}
    )
    call = ToolCall(tool="text_to_image", arguments={"prompt": "a draft", "model": "flux-2-klein"})
    turn, results = run(world, [wrong, call, fetch, Say(text="Here.")], session="klein")

    assert "flux-2-klein does not take output_resolution; leave it out" in results[0]
    assert "flux-2-klein, 0.03 USD (billed)" in results[2]
    assert len(turn.media_urls) == 1


def test_a_slow_picture_is_fetched_and_attached_once(world: World) -> None:
    """A wait that ends early is no failure, costs no second image, and never shows the picture twice."""
    made = world.sandbox.options
    world.sandbox.options = made.changed({"duration_s": 4.0})

    def fetch(results: Sequence[str]) -> ToolCall:
        return ToolCall(tool="get_image_task", arguments={"task_id": task_of(results[0]), "timeoutSeconds": 60})

    turn, results = run(
        world,
        [
            ToolCall(tool="text_to_image", arguments={"prompt": "a slow tortoise"}),
            fetch,
            fetch,
            Say(text="Here is the tortoise."),
        ],
    )

    world.sandbox.options = made
    first, second, third = results
    assert "get_image_task" in first
    assert "attached" not in first
    assert "is already attached to this conversation: write a caption" in second
    assert "is already attached to this conversation" in third
    assert len(turn.media_urls) == 1
    assert turn.failed_calls == 0
    assert len([t for t in world.sandbox.ledger.tasks.values() if "tortoise" in t.arguments["prompt"]]) == 1


def test_a_changed_setting_holds_from_the_next_turn(world: World) -> None:
    """Nobody should have to restart a gateway to offer another tier."""
    world.openclaw.run("config", "set", "plugins.entries.flux2.config.tiers", '["flex"]')
    marker = world.model.script("changed", [Say(text="Flex only.")])

    world.openclaw.turn(f"And now? {marker}", session="changed")

    parameters = world.model.seen("changed")[0].tools["text_to_image"]["parameters"]
    assert parameters["properties"]["model"]["enum"] == ["flux-2-flex-text-to-image"]
    assert parameters["required"] == ["prompt", "model"]


def test_without_a_key_the_model_learns_what_to_set(make_world: Callable[..., World]) -> None:
    """The commonest fault of a first installation; the tools stay visible and say so."""
    keyless = make_world()
    keyless.openclaw.add_plugin()
    marker = keyless.model.script(
        "keyless", [ToolCall(tool="text_to_image", arguments={"prompt": "a moth"}), Say(text="No key.")]
    )

    turn = keyless.openclaw.turn(f"Please. {marker}", session="keyless", local=True)

    [result] = keyless.model.tool_results("keyless")
    assert turn.failed_calls == 1
    assert "missing_api_key" in result
    assert "RUNAPI_API_KEY" in result
