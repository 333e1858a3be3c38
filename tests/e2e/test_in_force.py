"""What guards money is in force when it is set: in the middle of a call, and after OpenClaw has emptied the config."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import KEY, World
from tests.e2e.openclaw_host import Gateway
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


def test_a_cap_set_in_mid_call_binds_the_next(world: World, gateway: Gateway) -> None:
    """OpenClaw reloads no plugin that has a call waiting; paid pictures followed a lowered cap."""
    quick = world.sandbox.options
    world.sandbox.options = quick.changed({"duration_s": 60.0})
    marker = world.model.script("slow", drawing("a slow ship"))
    waiting = world.openclaw.begin_turn(f"Please. {marker}", session="slow")
    wait_until(lambda: drawn(world, "a slow ship"))

    world.openclaw.run("config", "set", f"{CONFIG}.daily_cap_usd", "0.05")
    capped = result_of(world, "a capped ship")
    world.openclaw.run("config", "set", f"{CONFIG}.daily_cap_usd", "4")
    # OpenClaw then applies no change any more; the stricter value holds all the same, and doctor says so.
    world.openclaw.run("config", "set", "gateway.reload.mode", "off")
    world.openclaw.run("config", "set", f"{CONFIG}.max_image_usd", "0.01")
    refused = result_of(world, "a refused ship")
    healthy = findings(world)
    world.openclaw.run("config", "unset", f"{CONFIG}.max_image_usd")
    world.openclaw.run("config", "set", "gateway.reload.mode", "hybrid")
    waiting.kill()
    waiting.communicate()
    world.sandbox.options = quick

    assert "budget_exceeded" in capped
    assert "daily cap of $0.05" in capped
    assert "budget_exceeded" in refused
    assert "$0.01" in refused
    assert drawn(world, "a slow ship") == 1
    assert drawn(world, "a capped ship") + drawn(world, "a refused ship") == 0
    assert {one["state"] for one in healthy.values()} == {"ok"}, healthy
    assert f"{world.sandbox_url} responds" in healthy["runapi"]["message"]
    assert "the key is valid" in healthy["balance"]["message"]


def test_doctor_judges_the_gateways_key_and_not_the_shells(world: World, gateway: Gateway) -> None:
    """What a shell has exported makes no image; what the gateway has does."""
    environ = dict(world.openclaw.environ)
    try:
        world.openclaw.environ.update(RUNAPI_API_KEY="sk-another-key-of-this-shell", RUNAPI_BASE_URL="https://no.test")
        other = findings(world)
        del world.openclaw.environ["RUNAPI_API_KEY"]
        none = findings(world)
        status = world.openclaw.flux2_tool("openclaw", "status")
    finally:
        world.openclaw.environ.clear()
        world.openclaw.environ.update(environ)

    assert {one["state"] for one in (*other.values(), *none.values())} == {"ok", "note"}, (other, none)
    assert other["shell key"]["message"].endswith("the commands of this shell use it")
    assert none["shell key"]["message"].startswith("none in this shell")
    assert status.returncode == 0, status.stdout
    assert f"address    {world.sandbox_url} (the gateway's)" in status.stdout
    assert "in force" in status.stdout


def test_a_misspelt_cap_stops_images_and_not_the_gateway(world: World, gateway: Gateway) -> None:
    """One unknown key made OpenClaw's whole config invalid, and its repair emptied the plugin's."""
    world.openclaw.run("config", "set", f"{CONFIG}.dayly_cap_usd", "1")
    misspelt = result_of(world, "a misspelt ship")
    named = findings(world)["plugin"]
    world.openclaw.run("config", "unset", f"{CONFIG}.dayly_cap_usd")

    served = result_of(world, "a ship in order")

    assert f"{CONFIG}.dayly_cap_usd is not a setting (nearest: daily_cap_usd)" in misspelt
    assert "configuration_error, charged: no" in misspelt
    assert drawn(world, "a misspelt ship") == 0
    assert named["state"] == "failure"
    assert named["fix"].endswith(f"openclaw config unset {CONFIG}.dayly_cap_usd")
    assert "0.05 USD (billed)" in served


def test_an_entry_emptied_by_doctor_is_not_loosened_unasked(make_world: Callable[..., World]) -> None:
    """`openclaw doctor --fix` leaves a disabled entry without caps, and enabling it brings the defaults."""
    emptied = make_world(config={"daily_cap_usd": 1, "spenders": "owner"}, RUNAPI_API_KEY=KEY).openclaw
    emptied.install_plugin()
    path = emptied.state / "openclaw.json"
    config = json.loads(path.read_text())
    config["plugins"]["entries"]["flux2"]["config"]["wait_s"] = "long"
    path.write_text(json.dumps(config))
    emptied.run("doctor", "--fix", "--yes", "--non-interactive")
    entry = json.loads(path.read_text())["plugins"]["entries"]["flux2"]

    refused = emptied.flux2_tool("openclaw", "install", "--yes")
    for line in refused.stderr.splitlines():
        if line.strip().startswith("openclaw config set"):
            subprocess.run(["sh", "-c", line], env=emptied.full_environ(), check=True, capture_output=True)
    restored = emptied.flux2_tool("openclaw", "install", "--yes")
    without_gateway = json.loads(emptied.flux2_tool("doctor", "--json").stdout)["findings"]

    assert entry == {"enabled": False}
    assert refused.returncode == 3
    assert "daily_cap_usd was 1 and would be 5" in refused.stderr
    assert restored.returncode == 0, restored.stderr
    assert "In force after it: daily_cap_usd 1, spenders owner." in restored.stderr
    [said] = [one["message"] for one in without_gateway if one["area"] == "gateway"]
    assert "key and account are those of this shell" in said
    assert len([one for one in without_gateway if one["area"] == "budget"]) == 1
