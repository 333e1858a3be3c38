"""What guards money is in force when it is set: in the middle of a call, and after OpenClaw has emptied the config."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from flux2_tool.sandbox import Sandbox
from tests.e2e.conftest import KEY, World
from tests.e2e.scripted_model import Say, Step, ToolCall
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

CONFIG = "plugins.entries.flux2.config"


def drawing(prompt: str) -> list[Step]:
    return [ToolCall(tool="text_to_image", arguments={"prompt": prompt}), Say(text="Done.")]


def drawn(world: World, prompt: str) -> int:
    """How many pictures of a prompt RunAPI was paid for."""
    return len([task for task in world.sandbox.ledger.tasks.values() if task.arguments["prompt"] == prompt])


def result_of(world: World, prompt: str) -> str:
    """Have one picture drawn in a conversation of its own, and return what the model read."""
    name = prompt.replace(" ", "-")
    world.openclaw.turn(f"Please. {world.model.script(name, drawing(prompt))}", session=name)
    return world.model.tool_results(name)[0]


def findings(world: World) -> dict[str, dict[str, Any]]:
    """doctor's findings by area, the worst of each."""
    done = world.openclaw.flux2_tool("doctor", "--json")
    order = {"failure": 3, "warning": 2, "note": 1, "ok": 0}
    found: dict[str, dict[str, Any]] = {}
    for one in json.loads(done.stdout)["findings"]:
        if order[one["state"]] > order.get(found.get(one["area"], {}).get("state", ""), -1):
            found[one["area"]] = one
    return found


def test_a_cap_and_spenders_set_in_mid_call_bind_the_next(
    make_world: Callable[..., World], sandbox: tuple[str, Sandbox]
) -> None:
    """OpenClaw reloads no plugin that has a call waiting; paid pictures followed a lowered cap."""
    world = make_world(RUNAPI_API_KEY=KEY, RUNAPI_BASE_URL=sandbox[0])
    world.openclaw.install_plugin()
    with world.openclaw.gateway():
        quick = world.sandbox.options
        world.sandbox.options = quick.changed({"duration_s": 60.0})
        marker = world.model.script("slow", drawing("a slow ship"))
        waiting = world.openclaw.begin_turn(f"Please. {marker}", session="slow")
        wait_until(lambda: drawn(world, "a slow ship"))

        world.openclaw.run("config", "set", f"{CONFIG}.daily_cap_usd", "0.05")
        capped = result_of(world, "a capped ship")
        world.openclaw.run("config", "set", f"{CONFIG}.daily_cap_usd", "5")
        world.openclaw.run("config", "set", f"{CONFIG}.max_image_usd", "0.01")
        # A restart that is put off keeps the rest of the same edit out of force; the stricter value holds all the same.
        path = world.openclaw.state / "openclaw.json"
        config = json.loads(path.read_text())
        config["gateway"]["port"] += 1
        config["plugins"]["entries"]["flux2"]["config"] = {"spenders": "owner"}
        path.write_text(json.dumps(config))
        deferred = wait_until(lambda: "deferring until" in (world.openclaw.home / "gateway.log").read_text())
        owned = result_of(world, "an owned ship")
        config["gateway"]["port"] -= 1
        path.write_text(json.dumps(config))
        world.sandbox.options = quick
        waiting.kill()
        waiting.communicate()

    assert deferred
    assert "budget_exceeded" in capped
    assert "daily_cap_usd" in capped
    assert "budget_exceeded" in owned
    assert drawn(world, "a slow ship") == 1
    assert drawn(world, "a capped ship") + drawn(world, "an owned ship") == 0
