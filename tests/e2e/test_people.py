"""Several people in one group chat, through OpenClaw's own Telegram channel: whose image is paid for, and by whom."""

from __future__ import annotations

import os
import re

import pytest

from tests.e2e.conftest import World
from tests.e2e.group_gateway import OWNER, let_spend, telegram, world
from tests.e2e.recorded_turn import CHINESE, ENGLISH, Turn, difference
from tests.e2e.scripted_model import Say, SeenRequest, Step, ToolCall
from tests.e2e.telegram import GROUP, OTHER_GROUP, Telegram
from tests.e2e.test_sources import files_sent, jpeg
from tests.e2e.test_turns import run, task_of
from tests.support.readme import read
from tests.support.waiting import wait_until

__all__ = ["ask", "telegram", "world"]

ANNA, BEN, CARLA, DORA, EVA, FAY, XIAOYA = range(8002, 8009)


@pytest.fixture(scope="module", autouse=True)
def _everyone(world: World) -> None:
    let_spend(world, "everyone")


def ask(
    world: World, telegram: Telegram, step: Step, *, sender: int, group: int = GROUP, photo: bytes | None = None
) -> SeenRequest:
    """Have a person ask in a group, the model take a step and say so; return the last request of that turn."""
    name = world.model.unused("people")
    marker = world.model.script(name, [step, Say(text="That was it.")])
    telegram.post(f"A picture, please. {marker}", sender=sender, group=group, photo=photo)
    wait_until(lambda: world.model.seen(name) and (isinstance(step, Say) or world.model.seen(name)[-1].tool_results))
    return world.model.seen(name)[-1]


def make(world: World, telegram: Telegram, prompt: str, *, sender: int, group: int = GROUP) -> str:
    """Have a person ask for a picture; return what the tool told the model."""
    step = ToolCall(tool="text_to_image", arguments={"prompt": prompt})
    return ask(world, telegram, step, sender=sender, group=group).tool_results[0]


def remix(world: World, telegram: Telegram, source: str, *, sender: int, group: int = GROUP) -> str:
    """Have a person ask for a change of a picture; return what the tool told the model."""
    step = ToolCall(tool="remix_image", arguments={"prompt": "as a drawing", "source_image_urls": [source]})
    return ask(world, telegram, step, sender=sender, group=group).tool_results[0]


def prompts_billed(world: World, words: str) -> list[str]:
    """Return the prompts with these words that the sandbox has billed, oldest first."""
    return [task.arguments["prompt"] for task in world.sandbox.ledger.billed_tasks if words in task.arguments["prompt"]]


def test_a_guests_cap_refuses_that_guest_alone(world: World, telegram: Telegram) -> None:
    """One member of a group must not spend what the others may, and the model must be able to say why."""
    first = make(world, telegram, "a boat of Anna", sender=ANNA)
    refused = make(world, telegram, "another boat of Anna", sender=ANNA)
    other = make(world, telegram, "a boat of Ben", sender=BEN)

    assert "0.05 USD (billed)" in first
    assert "0.05 USD (billed)" in other
    assert "budget_exceeded, charged: no" in refused
    assert "daily cap per person of $0.07" in refused
    assert prompts_billed(world, "boat of") == ["a boat of Anna", "a boat of Ben"]


def test_the_guests_cap_does_not_apply_to_the_owner(world: World, telegram: Telegram) -> None:
    """`commands.ownerAllowFrom` names who pays the bill."""
    results = [make(world, telegram, f"a castle, {number}", sender=OWNER) for number in (1, 2)]

    assert all("0.05 USD (billed)" in result for result in results)
    assert len(prompts_billed(world, "a castle")) == 2


@pytest.mark.parametrize(("turn", "sender"), [(ENGLISH, FAY), (CHINESE, XIAOYA)], ids=["English", "Chinese"])
def test_the_pages_show_a_recorded_turn(world: World, telegram: Telegram, turn: Turn, sender: int) -> None:
    """From a message in the group to the picture in it; `FLUX2_TEST_RECORD=1` writes what was seen into its page."""
    made = world.sandbox.options
    world.sandbox.options = made.changed({"drawn_images": True})
    marker = world.model.script(turn.name, [turn.call, Say(text=turn.said)])

    telegram.post(f"{turn.asked} {marker}", sender=sender)
    sent = wait_until(lambda: [one for one in telegram.sent if one.text == turn.said])[0]

    world.sandbox.options = made
    [photo] = sent.files.values()
    record = turn.record(answered=world.model.tool_results(turn.name)[0], said=sent.text)
    if os.environ.get("FLUX2_TEST_RECORD") == "1":
        turn.write(record, photo)
    assert sent.method == "sendPhoto"
    assert record in read(turn.page)
    assert difference(photo, turn.picture.read_bytes()) < 10


def test_a_photo_that_somebody_sends_is_remixed(world: World, telegram: Telegram) -> None:
    """By the path that the model reads beside the message, which is all that a model can give back."""
    photo = jpeg("olive")

    shown = ask(world, telegram, Say(text="A fine photo."), sender=CARLA, photo=photo)
    attached = re.search(r"\[media attached: (\S+)", shown.said)
    assert attached, shown.said
    result = remix(world, telegram, attached.group(1), sender=CARLA)

    assert "0.05 USD (billed)" in result, attached.group(1)
    assert files_sent(world, result) == [photo]


def test_another_conversations_picture_is_refused_except_to_the_owner(world: World, telegram: Telegram) -> None:
    """A group must not get at what was made in another, by knowing or guessing a reference."""
    reference = task_of(make(world, telegram, "a secret garden", sender=DORA))

    refused = remix(world, telegram, reference, sender=EVA, group=OTHER_GROUP)
    nothing = remix(world, telegram, "task:last", sender=EVA, group=OTHER_GROUP)
    served = remix(world, telegram, reference, sender=OWNER, group=OTHER_GROUP)

    assert "source_refused" in refused
    assert "belongs to another conversation" in refused
    assert "no finished picture of this conversation" in nothing
    assert "0.05 USD (billed)" in served


def test_spenders_owner_refuses_everybody_else(world: World, telegram: Telegram) -> None:
    """For a bot in a public group, set while a picture is made; who types on the machine is the owner, too."""
    quick = world.sandbox.options
    world.sandbox.options = quick.changed({"duration_s": 60.0})
    step = ToolCall(tool="text_to_image", arguments={"prompt": "a slow house of Carla's"})
    telegram.post(f"Please. {world.model.script('slow-house', [step])}", sender=ANNA + 100)
    wait_until(lambda: [one for one in world.sandbox.ledger.tasks.values() if "slow house" in one.arguments["prompt"]])
    world.sandbox.options = quick
    world.openclaw.run("config", "set", "plugins.entries.flux2.config.spenders", "owner")
    steps: list[Step] = [
        ToolCall(tool="text_to_image", arguments={"prompt": "a tower of the command line"}),
        Say(text="Built."),
    ]

    refused = make(world, telegram, "a tower of a guest", sender=BEN)
    served = make(world, telegram, "a tower of the owner", sender=OWNER)
    run(world, steps)

    assert "Only the owner of this installation may make images" in refused
    assert "budget_exceeded" in refused
    assert "0.05 USD (billed)" in served
    assert prompts_billed(world, "a tower") == ["a tower of the owner", "a tower of the command line"]
