"""What a crash and a misled model cost in the real OpenClaw: one image each time, and none is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from flux2_tool.sandbox import Sandbox
from flux2_tool.sandbox.tasks import Task
from tests.e2e.conftest import KEY, World
from tests.e2e.openclaw_host import Gateway, Turn
from tests.e2e.scripted_model import Say, Step, ToolCall
from tests.e2e.test_turns import run
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

TASK_S = 12.0


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], sandbox: tuple[str, Sandbox]) -> World:
    made = make_world(RUNAPI_API_KEY=KEY, RUNAPI_BASE_URL=sandbox[0])
    made.openclaw.add_plugin()
    return made


def tasks_of(world: World, prompt: str) -> list[Task]:
    """Return the sandbox's tasks with this prompt."""
    return [task for task in list(world.sandbox.ledger.tasks.values()) if task.arguments["prompt"] == prompt]


def interrupt(world: World, gateway: Gateway, prompt: str, kill: Callable[[], None]) -> Task:
    """Kill the gateway while it waits for a picture with this prompt, and return the picture's task."""
    name = prompt.replace(" ", "-")
    steps: list[Step] = [ToolCall(tool="text_to_image", arguments={"prompt": prompt}), Say(text="Here it is.")]
    process = world.openclaw.begin_turn(f"A picture, please. {world.model.script(name, steps)}", session=name)
    task: Task = wait_until(lambda: tasks_of(world, prompt))[0]
    workers = gateway.workers()

    kill()

    gateway.process.wait()
    with process:
        process.communicate(timeout=60)
    wait_until(lambda: not [pid for pid in workers if gateway.process_text(pid, "cmdline")])
    assert task.state(world.sandbox.clock()) != "completed"
    return task


def test_a_killed_gateway_loses_no_picture_and_pays_once(world: World) -> None:
    """Killed with its worker as when memory runs out, or alone: the next gateway brings the picture of the old one.

    A gateway that is stopped leaves no worker behind: a service that is restarted for months must not gather processes.
    """
    world.sandbox.options = world.sandbox.options.changed({"duration_s": TASK_S})
    with world.openclaw.gateway() as gateway:
        first = interrupt(world, gateway, "a broken vase", lambda: os.killpg(gateway.process.pid, signal.SIGKILL))
    with world.openclaw.gateway() as gateway:
        turn, results = fetch(world, first, session="a-broken-vase")

        assert first.image_id in turn.media_urls[0], results
        second = interrupt(world, gateway, "a broken jug", gateway.process.kill)
    with world.openclaw.gateway() as gateway:
        turn, results = fetch(world, second, session="a-broken-jug")

        assert second.image_id in turn.media_urls[0], results
        [worker] = gateway.workers()
        gateway.stop()
    wait_until(lambda: not gateway.process_text(worker, "cmdline"))
    for task in (first, second):
        assert len(tasks_of(world, task.arguments["prompt"])) == 1
        assert task.billed_cents == 5
    world.sandbox.options = world.sandbox.options.changed({"duration_s": 1.0})


def fetch(world: World, task: Task, *, session: str) -> tuple[Turn, tuple[str, ...]]:
    """Run a turn in which the model asks for a task."""
    return run(
        world,
        [
            ToolCall(tool="get_image_task", arguments={"task_id": task.id, "timeoutSeconds": 60}),
            Say(text="Here it is, after all."),
        ],
        session=session,
    )
