"""OpenClaw's own web chat: picture, words and cost together, before and after a reload."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from flux2_tool.sandbox import Sandbox
from tests.e2e.conftest import KEY, World
from tests.e2e.openclaw_host import TOKEN
from tests.e2e.scripted_model import Say, ToolCall
from tests.e2e.webchat import WebChat, as_told, running_webchat
from tests.support.waiting import wait_until

FOX = "A red fox in the snow"


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], sandbox: tuple[str, Sandbox]) -> Iterator[World]:
    made = make_world(RUNAPI_API_KEY=KEY, RUNAPI_BASE_URL=sandbox[0])
    made.openclaw.add_plugin()
    with made.openclaw.gateway():
        yield made


@pytest.fixture(scope="module")
def chat(world: World) -> Iterator[WebChat]:
    with running_webchat(world.openclaw) as running:
        yield running


def test_picture_words_and_cost_stand_together(world: World, chat: WebChat) -> None:
    """What a tool attaches takes the place of the words there; before, they were folded away for good.

    The sandbox's picture shows, though OpenClaw fetches nothing from this machine.
    """
    call = ToolCall(tool="text_to_image", arguments={"prompt": FOX})
    marker = world.model.script("fox", [call, Say(text=as_told("Here is your fox. It cost 0.05 USD."))])

    chat.say(f"A fox in the snow, please. {marker}")
    during = chat.until("Text To Image")
    chat.shot("during")
    after = chat.until("It cost 0.05 USD.", pictures=1)
    chat.shot("after")
    chat.reload()
    reloaded = chat.until("It cost 0.05 USD.", pictures=1)
    chat.shot("reloaded")

    assert "Here is your fox" not in during.text
    for seen in (after, reloaded):
        assert "Here is your fox. It cost 0.05 USD." in seen.text
        assert "MEDIA:" not in seen.text
        assert "Not sent" not in seen.text
        assert seen.alts == [FOX]
    assert world.sandbox.ledger.tasks


def test_four_pictures_of_one_call_are_shown_together(world: World, chat: WebChat) -> None:
    """One call, one answer, four pictures in it, each of a task of its own and paid once."""
    call = ToolCall(tool="text_to_image", arguments={"prompt": "Four owls", "count": 4})
    marker = world.model.script("owls", [call, Say(text=as_told("Here are your owls. They cost 0.20 USD."))])
    before = len(chat.until("", pictures=0).pictures)

    chat.say(f"Four owls, please. {marker}")
    after = chat.until("They cost 0.20 USD.", pictures=before + 4)
    chat.shot("four")

    tasks = [task for task in world.sandbox.ledger.tasks.values() if task.arguments["prompt"] == "Four owls"]
    [result] = world.model.tool_results("owls")
    assert after.alts.count("Four owls") == 4
    assert "MEDIA:" not in after.text
    assert len({task.idempotency_key for task in tasks}) == len(tasks) == 4
    assert "0.2 USD (billed)" in result
    # The service may have got them in another order than they stand in the result.
    assert {f"task:{task.id}" for task in tasks} <= set(re.findall(r"task:tsk_\w+", result))


def test_a_picture_asked_for_while_the_agent_answers_is_shown_too(world: World, chat: WebChat) -> None:
    """From another page: the message waits in a queue, and the page knows its turn's picture by the name alone."""
    may_go_on = threading.Event()
    busy = world.model.script("busy", [Say(text=lambda _results: f"Done: {may_go_on.wait(120)}.")])
    call = ToolCall(tool="text_to_image", arguments={"prompt": "a brown hare"})
    queued = world.model.script("queued", [call, Say(text=as_told("Here is your hare."))])
    before = len(chat.until("", pictures=0).pictures)

    chat.say(f"Take your time. {busy}")
    wait_until(lambda: world.model.seen("busy"))
    message = {"sessionKey": "agent:main:main", "message": f"A hare, please. {queued}", "idempotencyKey": "hare"}
    world.openclaw.call_gateway("chat.send", **message)
    may_go_on.set()
    chat.until("Here is your hare.", pictures=before + 1)
    chat.reload()
    after = chat.until("Here is your hare.", pictures=before + 1)
    chat.shot("queued")

    assert "a brown hare.png" in after.alts, after.text
    assert len([one for one in world.sandbox.ledger.tasks.values() if "hare" in one.arguments["prompt"]]) == 1


def test_a_model_that_leaves_the_line_out_is_told_of_no_attachment(world: World, chat: WebChat) -> None:
    """The sandbox's link cannot be fetched, so that nothing is called attached."""
    call = ToolCall(tool="text_to_image", arguments={"prompt": "a green parrot"})
    marker = world.model.script("parrot", [call, Say(text="Your parrot.")])

    chat.say(f"A parrot, please. {marker}")
    chat.until("Your parrot.")

    [result] = world.model.tool_results("parrot")
    assert "already attached" not in result
    assert "You attach the picture" in result


def test_the_pictures_are_a_tab_of_the_control_ui(world: World, chat: WebChat) -> None:
    """For the gateway's operators alone: whoever asks for the page without being one gets nothing.

    The copies that were kept meanwhile serve the pictures, whatever becomes of the links.
    """
    kept = world.openclaw.state / "flux2-tool" / "pictures"
    made = len(world.sandbox.ledger.billed_tasks)
    wait_until(lambda: kept.is_dir() and len(list(kept.glob("*.png"))) == made)
    address = f"http://127.0.0.1:{world.openclaw.port}/flux2/gallery"

    seen = chat.tab("flux2", "gallery", "/flux2/gallery", pictures=made)
    with httpx.Client() as stranger:
        refused = [stranger.get(address).status_code, stranger.get(f"{address}/picture/a-0").status_code]
        operator = {"Authorization": f"Bearer {TOKEN}"}
        nothing = [stranger.get(f"{address}/{name}", headers=operator).status_code for name in ("x", "picture/a-0")]

    assert [one["loaded"] for one in seen["pictures"]] == [True] * made, seen["text"]
    assert {FOX, "a green parrot"} <= {one["alt"] for one in seen["pictures"]}
    assert "sandbox, no real cost" in seen["text"]
    assert seen["opened"] == {"status": 200, "type": "image/png"}
    assert refused == [401, 401]
    assert nothing == [404, 404]
