"""Two real OpenClaw gateways with a state folder each, as on two machines, and one journal in PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flux2_tool.sandbox import Sandbox
from tests.e2e.conftest import KEY, World
from tests.e2e.openclaw_host import Gateway
from tests.e2e.scripted_model import Say, Step, ToolCall
from tests.e2e.test_never_twice import interrupt, tasks_of
from tests.e2e.test_turns import run, task_of
from tests.support.postgres import INSTALL, PostgresServer, programs, running_postgres
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(programs() is None, reason=f"there is no PostgreSQL here: {INSTALL}"),
]

PASSWORD = "hunter2-of-this-test"
SESSION = "shared"
TASK_S = 12.0
"""How long a picture takes that outlives its gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """Two worlds, each with its gateway, and the address that they share."""

    worlds: tuple[World, World]
    gateways: tuple[Gateway, Gateway]
    url: str
    server: PostgresServer

    def command(self, index: int, *arguments: str) -> str:
        """Run `flux2-tool` on a machine whose shell has the address, and return what it prints."""
        openclaw = self.worlds[index].openclaw
        openclaw.environ["FLUX2_TOOL_JOURNAL_URL"] = self.url
        try:
            done = openclaw.flux2_tool(*arguments)
        finally:
            del openclaw.environ["FLUX2_TOOL_JOURNAL_URL"]
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def machines(make_world: Callable[..., World], sandbox: tuple[str, Sandbox]) -> Iterator[Machines]:
    """Set up as docs/postgresql.md says: the address in OpenClaw's `.env`, its name in the plugin's config."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_postgres())
        server.query(f"CREATE ROLE gateways LOGIN PASSWORD '{PASSWORD}'")
        server.query("CREATE DATABASE flux2 OWNER gateways")
        url = f"postgresql://gateways:{PASSWORD}@127.0.0.1:{server.port}/flux2"
        worlds, gateways = [], []
        for _ in range(2):
            config = {"daily_cap_usd": 0.25, "journal_url": "${FLUX2_TOOL_JOURNAL_URL}"}
            made = make_world(config=config, RUNAPI_API_KEY=KEY, RUNAPI_BASE_URL=sandbox[0])
            (made.openclaw.state / ".env").write_text(f"FLUX2_TOOL_JOURNAL_URL='{url}'\n")
            made.openclaw.add_plugin()
            worlds.append(made)
            gateways.append(stack.enter_context(made.openclaw.gateway()))
        yield Machines(worlds=(worlds[0], worlds[1]), gateways=(gateways[0], gateways[1]), url=url, server=server)


def test_two_gateways_share_tasks_and_caps(machines: Machines) -> None:
    """A picture of the first is edited through the second; killed in mid-generation, its picture comes, paid once.

    What the first has spent leaves the second less of their cap.
    """
    first, second = machines.worlds
    gateway = machines.gateways[0]
    _, made = run(first, [picture("a red fox"), Say(text="A fox.")], session=SESSION)
    turn, edited = run(second, [remix("make it night"), Say(text="At night.")], session=SESSION)

    fox = task_of(made[0]).removeprefix("task:")
    [create] = [c for c in second.sandbox.ledger.creates if c.task_id == task_of(edited[0]).removeprefix("task:")]
    assert first.sandbox.ledger.tasks[fox].image_id in create.body.decode()
    assert len(turn.media_urls) == 1

    checked = {one["area"]: one for one in json.loads(machines.command(1, "doctor", "--json"))["findings"]}
    for area in ("journal", "gateway journal"):
        assert checked[area]["state"] == "ok", checked[area]
        assert checked[area]["facts"]["tasks"] == 2
        # Its own worker, or the shell, is not another one.
        assert sum(checked[area]["facts"]["others"].values()) == {"journal": 2, "gateway journal": 1}[area]
    titles = [gateway.process_text(pid, name) for pid in gateway.workers() for name in ("cmdline", "comm", "environ")]

    first.sandbox.options = first.sandbox.options.changed({"duration_s": TASK_S})
    task = interrupt(first, gateway, "a broken vase", lambda: kill_once_accepted(machines, gateway))
    turn, results = run(
        second,
        [
            ToolCall(tool="get_image_task", arguments={}),
            lambda results: ToolCall(
                tool="get_image_task", arguments={"task_id": newest(results), "timeoutSeconds": 60}
            ),
            picture("three more", count=3),
            Say(text="Here it is, after all."),
        ],
        session="a-broken-vase",
    )
    first.sandbox.options = first.sandbox.options.changed({"duration_s": 1.0})

    assert task.image_id in turn.media_urls[0], results
    assert len(tasks_of(first, "a broken vase")) == 1
    assert sum(one.billed_cents for one in first.sandbox.ledger.billed_tasks) == 15
    # With a cap of its own the second gateway would have made them.
    assert "budget_exceeded" in results[2]

    assert "a-broken-vase" in machines.command(0, "tasks")
    assert "nothing was interrupted" in machines.command(0, "resume")
    assert "forgot 0 tasks" in machines.command(0, "tasks", "prune")
    page = Path(machines.command(0, "gallery").splitlines()[0]).read_text()
    assert "broken vase" in page
    assert "no problems found" in machines.command(1, "openclaw", "status")
    assert PASSWORD not in "".join([*made, *edited, *results, *titles, *checked_texts(machines)])


def kill_once_accepted(machines: Machines, gateway: Gateway) -> None:
    """Kill a gateway with its worker as soon as the shared journal has its task's id."""
    wait_until(lambda: machines.server.query("SELECT 1 FROM flux2_tool.records WHERE state = 'processing'", "flux2"))
    os.killpg(gateway.process.pid, signal.SIGKILL)


def picture(prompt: str, **more: int) -> ToolCall:
    return ToolCall(tool="text_to_image", arguments={"prompt": prompt, **more})


def remix(prompt: str) -> Step:
    return ToolCall(tool="remix_image", arguments={"prompt": prompt, "source_image_urls": ["task:last"]})


def newest(results: tuple[str, ...]) -> str:
    [line] = [line for line in results[0].splitlines() if line.startswith("1. ")]
    return task_of(line)


def checked_texts(machines: Machines) -> list[str]:
    """Return everything that both machines have written but for the file that has the password by intention."""
    found = [machines.command(0, name) for name in ("doctor", "tasks")]
    for world in machines.worlds:
        home = world.openclaw.home
        for path in [*home.glob("*.log"), *world.openclaw.state.rglob("*")]:
            if path.is_file() and path.name != ".env":
                found.append(path.read_bytes().decode(errors="replace"))
    return found
