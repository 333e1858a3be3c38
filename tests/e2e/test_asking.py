"""Asking before paying in the real OpenClaw: its own approval in a Telegram chat, and runs that can ask nobody."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.conftest import World
from tests.e2e.group_gateway import OWNER, let_spend, telegram, world
from tests.e2e.scripted_model import Say, SeenRequest, ToolCall
from tests.e2e.telegram import GROUP, Telegram
from tests.e2e.test_never_twice import tasks_of
from tests.e2e.test_turns import run
from tests.support.waiting import wait_until

__all__ = ["telegram", "world"]
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", autouse=True)
def _everyone(world: World) -> None:
    let_spend(world, "everyone")


def flex(prompt: str) -> ToolCall:
    """Return a call for a picture of fourteen cents."""
    return ToolCall(tool="text_to_image", arguments={"prompt": prompt, "model": "flux-2-flex-text-to-image"})


def large(prompt: str) -> ToolCall:
    """Return a call for a picture of seven cents, which is all that one who is not the owner may spend in a day."""
    return ToolCall(tool="text_to_image", arguments={"prompt": prompt, "output_resolution": "2k"})


def begin(world: World, telegram: Telegram, call: ToolCall) -> str:
    """Have the owner ask in the group, and the model make a call; return the script's name."""
    name = world.model.unused("asking")
    marker = world.model.script(name, [call, Say(text="That was it.")])
    telegram.post(f"A picture, please. {marker}", sender=OWNER, group=GROUP)
    return name


def asked(telegram: Telegram, prompt: str) -> str:
    """Wait until the owner is asked about a picture, and return the question."""
    found: list[str] = wait_until(
        lambda: [text for text in telegram.texts() if f'"{prompt}"' in text and "Title:" in text]
    )
    return found[0]


def ended(world: World, name: str) -> SeenRequest:
    """Wait for the result of a script's call, and return the request in which the model reads it."""
    wait_until(lambda: world.model.seen(name) and world.model.seen(name)[-1].tool_results)
    return world.model.seen(name)[-1]


def decide(telegram: Telegram, question: str, decision: str) -> None:
    """Have the owner answer a question."""
    found = re.search(r"plugin:[\w-]+", question)
    assert found, question
    telegram.post(f"/approve {found.group()} {decision}", sender=OWNER)


def test_the_owner_agrees_and_the_picture_comes(world: World, telegram: Telegram) -> None:
    """OpenClaw shows what is paid to whom; the call goes on when the owner has answered."""
    name = begin(world, telegram, flex("a golden gate"))
    question = asked(telegram, "a golden gate")
    tasks_before = tasks_of(world, "a golden gate")
    decide(telegram, question, "allow-once")

    [result] = ended(world, name).tool_results

    assert "Pay 0.14 USD for an image?" in question
    assert "Scope: Pay 0.14 USD to RunAPI" in question
    assert "Without your consent nothing is sent and nothing is charged." in question
    assert tasks_before == []
    assert "0.14 USD (billed)" in result
    [task] = tasks_of(world, "a golden gate")
    assert task.billed_cents == 14


def test_a_denied_call_costs_nothing_and_the_model_knows_it(world: World, telegram: Telegram) -> None:
    """The host's words say that it did not run; the tool's description, that it then costs nothing."""
    name = begin(world, telegram, flex("a golden goose"))
    decide(telegram, asked(telegram, "a golden goose"), "deny")

    read = ended(world, name)

    [result] = read.tool_results
    assert "Denied by user. The tool call did not run." in result
    description = read.tools["text_to_image"]["description"]
    assert "a call denied" in description
    assert "is not sent and costs nothing" in description
    assert tasks_of(world, "a golden goose") == []


def test_a_picture_below_the_limit_asks_nobody(world: World, telegram: Telegram) -> None:
    """A question that is not needed teaches people to agree without reading."""
    name = begin(world, telegram, ToolCall(tool="text_to_image", arguments={"prompt": "a tin cup"}))

    [result] = ended(world, name).tool_results

    assert "0.05 USD (billed)" in result
    assert not [text for text in telegram.texts() if "a tin cup" in text]


def test_a_run_that_can_ask_nobody_is_refused_with_the_settings_name(world: World) -> None:
    """`openclaw agent` has no chat to ask in."""
    _turn, [result] = run(world, [flex("a golden ring"), Say(text="No ring, then.")])

    assert "(setting ask_above_usd). Nobody was asked here, or could be." in result
    assert "not_approved, charged: no" in result
    assert tasks_of(world, "a golden ring") == []


def test_a_scheduled_run_is_refused_with_the_settings_name(world: World) -> None:
    """At night nobody answers."""
    marker = world.model.script("scheduled", [large("a golden dawn"), Say(text="No dawn, then.")])
    options = ("--at", "+1h", "--session", "isolated", "--agent", "main", "--message", f"A picture, please. {marker}")
    added = world.openclaw.run("cron", "add", "--name", "dawn", *options, "--json").stdout
    world.openclaw.run("cron", "run", json.loads(added)["id"])

    [result] = ended(world, "scheduled").tool_results

    assert "(setting ask_above_usd). Nobody was asked here, or could be." in result
    assert tasks_of(world, "a golden dawn") == []
