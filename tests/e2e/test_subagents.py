"""Runs whose picture nobody sees, in the real OpenClaw: who shows it, who may use it, and for whom it is paid.

Subagents, scheduled runs, and turns that are stopped between the tool's result and the agent's answer.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence

import pytest

from tests.e2e.conftest import World
from tests.e2e.group_gateway import OWNER, let_spend, telegram, world
from tests.e2e.scripted_model import Say, Step, ToolCall, answered
from tests.e2e.telegram import GROUP, OTHER_GROUP, Telegram
from tests.e2e.test_never_twice import tasks_of
from tests.e2e.test_people import ask
from tests.e2e.test_turns import task_of
from tests.support.waiting import wait_until

__all__ = ["telegram", "world"]
pytestmark = pytest.mark.timeout(600)

GUEST = 8010


@pytest.fixture(scope="module", autouse=True)
def _only_the_owner(world: World) -> None:
    let_spend(world, "owner")


def picture(prompt: str) -> ToolCall:
    return ToolCall(tool="text_to_image", arguments={"prompt": prompt})


def spawn(world: World, steps: Sequence[Step], *, then: Sequence[Step]) -> str:
    """Script a subagent, the turn that spawns it and the one in which it answers; return the subagent's script."""
    child = world.model.unused("child")
    spawning = ToolCall(tool="sessions_spawn", arguments={"task": f"A picture. {world.model.script(child, steps)}"})
    world.model.script(f"parent-of-{child}", [spawning, Say(text="It is under way.")])
    world.model.script(answered(child), then)
    return child


def results_of(world: World, script: str) -> tuple[str, ...]:
    """Wait for the results of a script's calls, and return them."""
    wait_until(lambda: world.model.seen(script) and world.model.seen(script)[-1].tool_results)
    return world.model.tool_results(script)


def hand_over(results: Sequence[str]) -> str:
    """Answer as the tool asks a subagent to."""
    return f"The picture is {task_of(results[0])}."


def schedule(world: World, prompt: str, said: str) -> str:
    """Run a scheduled job that makes a picture and is announced in the group; return what its tool said."""
    name = world.model.unused("scheduled")
    marker = world.model.script(name, [picture(prompt), Say(text=said)])
    job = ("--at", "+1h", "--session", "isolated", "--agent", "main", "--message", f"A picture, please. {marker}")
    where = ("--announce", "--channel", "telegram", "--to", str(GROUP))
    added = world.openclaw.run("cron", "add", "--name", name, *job, *where, "--json").stdout
    world.openclaw.run("cron", "run", json.loads(added)["id"])
    return results_of(world, name)[0]


def test_a_subagents_picture_reaches_its_parents_chat(world: World, telegram: Telegram) -> None:
    """Nobody sees a subagent's session. The owner's leave goes along; no other conversation gets the picture."""

    def fetch(_results: Sequence[str]) -> ToolCall:
        ref = task_of(world.model.tool_results(child)[0])
        return ToolCall(tool="get_image_task", arguments={"task_id": ref})

    child = spawn(world, [picture("a kite"), Say(text=hand_over)], then=[fetch, Say(text="Here is the kite.")])
    telegram.post(f"A kite, please. [script parent-of-{child}]", sender=OWNER)
    [photo] = wait_until(lambda: [one for one in telegram.sent if one.text == "Here is the kite."])

    [made] = results_of(world, child)
    assert "nobody sees what is attached here" in made
    assert "already attached" not in made
    assert (len(photo.files), str(photo.fields["chat_id"])) == (1, str(GROUP))
    assert "already attached to this conversation" in results_of(world, answered(child))[0]
    assert [task.billed_cents for task in tasks_of(world, "a kite")] == [5]
    fetched = ToolCall(tool="get_image_task", arguments={"task_id": task_of(made)})
    other = ask(world, telegram, fetched, sender=GUEST, group=OTHER_GROUP).tool_results[0]
    assert "belongs to another conversation" in other


def test_a_guests_subagent_may_not_spend_what_the_guest_may_not(world: World, telegram: Telegram) -> None:
    """Its run has no sender, but OpenClaw's hooks say whose turn spawned it."""
    child = spawn(world, [picture("a kite of a guest"), Say(text="No kite.")], then=[Say(text="No kite, then.")])
    telegram.post(f"A kite, please. [script parent-of-{child}]", sender=GUEST)

    [refused] = results_of(world, child)

    assert "the requester is not the owner" in refused
    assert tasks_of(world, "a kite of a guest") == []


def test_a_picture_whose_turn_was_stopped_is_named_in_the_next_result(world: World, telegram: Telegram) -> None:
    """The tool had returned it, and it is paid; the person stopped the agent before it answered."""
    aborted = threading.Event()

    def answer(_results: Sequence[str]) -> str:
        assert aborted.wait(60)
        return "Nobody reads this."

    marker = world.model.script("stopped", [picture("an unseen kite"), Say(text=answer)])
    telegram.post(f"A kite, please. {marker}", sender=OWNER)
    [made] = results_of(world, "stopped")
    telegram.post("/stop", sender=OWNER)
    wait_until(lambda: [text for text in telegram.texts() if "aborted" in text])
    aborted.set()
    results = [ask(world, telegram, picture(prompt), sender=OWNER).tool_results[0] for prompt in ("one more", "a last")]

    assert [task_of(made) in result for result in results] == [True, False]
    assert "its turn ended before it was shown" in results[0]


def test_a_scheduled_run_spends_with_leave_alone(world: World, telegram: Telegram) -> None:
    """Nobody asked for it, which is not somebody else; with leave its picture is announced."""
    refused = schedule(world, "a dawn", "No dawn.")
    # Nobody's pictures count together, and the command line has had one in another module.
    leave = json.dumps({"unattended": "allow", "sender_daily_cap_usd": 1})
    world.openclaw.run("config", "set", "plugins.entries.flux2.config", leave, "--strict-json", "--merge")
    allowed = schedule(world, "a bright dawn", "A bright dawn.")
    photo = wait_until(lambda: [one for one in telegram.sent if one.text == "A bright dawn." and one.files])[0]

    assert "Nobody in a chat asked for this image: this is a scheduled run" in refused
    assert "the setting unattended" in refused
    assert tasks_of(world, "a dawn") == []
    assert "0.05 USD (billed)" in allowed
    assert str(photo.fields["chat_id"]) == str(GROUP)
