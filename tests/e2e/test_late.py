"""Pictures that were not finished when their call's wait ended: they come by themselves, to whoever asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import pytest

from flux2_tool.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.e2e.conftest import KEY, World
from tests.e2e.scripted_model import SYSTEM_EVENT, Say, Step, ToolCall
from tests.e2e.telegram import GROUP, Telegram
from tests.e2e.test_turns import task_of
from tests.e2e.webchat import as_told, running_webchat
from tests.support.waiting import wait_until

OWNER, ANNA = 7, 8
LINE = r"^MEDIA:.*$"
LATER = "It takes longer; it will come."


@pytest.fixture(scope="module")
def sandbox() -> Iterator[tuple[str, Sandbox]]:
    """Pictures take longer than a call waits."""
    options = SandboxOptions(api_keys=frozenset({KEY}), duration_s=8.0, drawn_images=False)
    with running_sandbox(options) as (base_url, running):
        yield base_url, running


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], telegram: Telegram, sandbox: tuple[str, Sandbox]) -> Iterator[World]:
    """A gateway with a group chat and an owner, and without heartbeats."""
    # Long enough to save a picture on a busy machine, and shorter than one takes.
    made = make_world(config={"wait_s": 3}, RUNAPI_API_KEY=KEY, RUNAPI_BASE_URL=sandbox[0])
    made.openclaw.configure(
        channels={"telegram": telegram.channel(owner=OWNER)},
        commands={"ownerAllowFrom": [f"telegram:{OWNER}"]},
        agents={"defaults": {"heartbeat": {"every": "0m"}}},
    )
    made.openclaw.add_plugin()
    with made.openclaw.gateway():
        yield made


def teach(world: World, prompt: str, said: Callable[[Sequence[str]], str]) -> str:
    """Script a turn that does not wait for its picture, and the one in which it comes; return the marker."""
    refs: list[str] = []

    def later(results: Sequence[str]) -> str:
        refs.append(task_of(results[0]))
        assert "this conversation is told by itself" in results[0]
        return LATER

    def fetch(_results: Sequence[str]) -> ToolCall:
        return ToolCall(tool="get_image_task", arguments={"task_id": refs[0]})

    name = prompt.replace(" ", "-").lower()
    steps: list[Step] = [ToolCall(tool="text_to_image", arguments={"prompt": prompt}), Say(text=later)]
    marker = world.model.script(name, steps)
    world.model.script(SYSTEM_EVENT, [fetch, Say(text=said)])
    return marker


def test_a_late_picture_comes_into_its_group_and_nowhere_else(world: World, telegram: Telegram) -> None:
    """Nobody asks for it again; the owner's direct messages are none of its business."""
    marker = teach(world, "A slow tortoise", as_told("Here is the tortoise."))

    telegram.post(f"A tortoise, please. {marker}", sender=ANNA)
    photos = wait_until(lambda: [one for one in telegram.sent if one.files])

    [photo] = photos
    assert photo.text == "Here is the tortoise."
    assert {str(one.fields["chat_id"]) for one in telegram.sent} == {str(GROUP)}
    assert [one.text for one in telegram.sent] == [LATER, "Here is the tortoise."]
    assert len(world.sandbox.ledger.billed_tasks) == 1


def test_late_pictures_of_one_call_come_in_one_message(world: World, telegram: Telegram) -> None:
    """The conversation is woken once for both."""
    telegram.sent.clear()
    arguments = {"prompt": "Two slow tortoises", "count": 2}
    refs: list[str] = []

    def later(results: Sequence[str]) -> str:
        refs.extend(re.findall(r"task:tsk_\w+(?= \(processing\))", results[0]))
        return LATER

    def fetch(index: int) -> Callable[[Sequence[str]], ToolCall]:
        return lambda _results: ToolCall(tool="get_image_task", arguments={"task_id": refs[index]})

    marker = world.model.script("two", [ToolCall(tool="text_to_image", arguments=arguments), Say(text=later)])
    told = Say(text=lambda results: "\n\n".join(["Here are both.", *re.findall(LINE, "\n".join(results[-2:]), re.M)]))
    world.model.script(SYSTEM_EVENT, [fetch(0), fetch(1), told])

    telegram.post(f"Two tortoises, please. {marker}", sender=ANNA)
    [album] = wait_until(lambda: [one for one in telegram.sent if one.files])

    assert len(refs) == len(album.files) == 2
    assert [one.text for one in telegram.sent] == [LATER, "Here are both."]


def test_a_late_picture_comes_into_the_web_chat(world: World, telegram: Telegram) -> None:
    """With its words and its cost, once, and with no message to the owner's Telegram."""
    telegram.sent.clear()
    told = "Here is the snail. It cost 0.05 USD."
    marker = teach(world, "A slow snail", as_told(told))

    with running_webchat(world.openclaw) as chat:
        chat.say(f"A snail, please. {marker}")
        waiting = chat.until(LATER)
        came = chat.until(told, pictures=1)
        chat.shot("late")
        # A page that has watched a message come in may show it twice; what was said stands in the conversation.
        chat.reload()
        kept = chat.until(told, pictures=1)

    assert "Here is the snail" not in waiting.text
    assert told in came.text
    assert kept.text.count(told) == 1, kept.text
    assert [alt.partition(".")[0] for alt in kept.alts] == ["A slow snail"]
    assert telegram.sent == []
    assert len([one for one in world.sandbox.ledger.tasks.values() if "snail" in one.arguments["prompt"]]) == 1
