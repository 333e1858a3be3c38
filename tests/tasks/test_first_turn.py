"""The note of a picture's first POST: one commit with its claim where nothing comes between, else one of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from flux2_tool.engine.wait import CancelToken, unless_cancelled
from tests.support.harness import CREATED, DONE, FOX, MockService, Seen, json_answer, numbered, opened_tool, scripted
from tests.support.journal import Watched, slow_at
from tests.support.stores import records_of
from tests.support.virtual_time import run_virtual

pytestmark = pytest.mark.sqlite_only("on a server a claim is as short as it can be, so each POST is noted by itself")

_WRITES: Final = ("claim", "note_", "POST")


def until_posts(home: Path, transport: MockService, **arguments: Any) -> list[str]:
    """Make a picture, and return what was written before each of its POSTs and after it, up to the acceptance."""
    watch = Watched()

    def mark(request: Seen) -> Any:
        if request.method == "POST":
            watch.asked.append("POST")
        return answer(request)

    answer, transport.handler = transport.handler, mark

    async def main() -> None:
        async with opened_tool(home, transport, opener=watch) as tool:
            await tool.call("text_to_image", FOX | arguments, session="s")

    run_virtual(main())
    written = [name for name in watch.asked if name.startswith(_WRITES)]
    return written[: written.index("note_accepted") + 1]


def test_one_commit_stands_before_a_picture_is_requested(home: Path) -> None:
    """It says all that must be known after a crash: the whole request, its route, and that it may have been sent."""
    found: list[tuple[str, str, bool]] = []

    def answer(request: Seen) -> Any:
        if request.method == "POST":
            [record] = records_of(home)
            found.append((record.state, record.route, record.body == request.body))
            return 200, CREATED
        return 200, DONE

    asked = until_posts(home, MockService(answer))

    assert asked == ["claim", "POST", "note_accepted"]
    assert found == [("sending", "guide", True)]


@pytest.mark.parametrize(
    ("posts", "noted"),
    [
        pytest.param([json_answer({"error": "busy"}, 503), (200, CREATED)], 1, id="a second attempt"),
        pytest.param([json_answer({"error": "no such route"}, 404), (200, CREATED)], 1, id="the other route"),
    ],
)
def test_each_further_post_is_noted_before_it_is_sent(home: Path, posts: Any, noted: int) -> None:
    """By then the claim says nothing of what is sent, or of whose the record is."""
    asked = until_posts(home, scripted(posts))

    assert asked == ["claim", "POST", *("note_route", "POST") * noted, "note_accepted"]


def test_the_pictures_of_a_set_are_noted_one_by_one(home: Path) -> None:
    """They may have to wait for slots, each by itself."""
    asked = until_posts(home, scripted(), count=2)

    assert asked.index("note_route") < asked.index("POST")


@pytest.mark.parametrize(
    ("seconds", "is_noted"), [pytest.param(0.9, False, id="a moment"), pytest.param(1.1, True, id="longer")]
)
def test_a_claim_counts_as_the_note_of_a_post_for_a_moment(home: Path, seconds: float, is_noted: bool) -> None:
    """Whose the record is, and whether its file is in place, is looked at right before the POST."""
    watch = Watched(slow_at("durations", seconds=seconds))

    async def main() -> dict[str, Any]:
        async with opened_tool(home, scripted(), opener=watch) as tool:
            return await tool.call("text_to_image", FOX, session="s")

    assert run_virtual(main())["task"]["state"] == "completed"
    assert ("note_route" in watch.asked) == is_noted


def test_a_request_that_waits_for_a_slot_is_noted_when_it_has_one(home: Path) -> None:
    """Until then it may wait for minutes."""
    watch, transport = Watched(), numbered()
    transport.delay_s = 3.0

    async def main() -> None:
        async with opened_tool(home, transport, opener=watch, max_creates=1) as tool:
            prompts = [{"prompt": f"fox {number}"} for number in range(2)]
            await asyncio.gather(*(tool.call("text_to_image", prompt, session="s") for prompt in prompts))

    run_virtual(main())

    assert watch.asked.count("claim") == 2
    assert watch.asked.count("note_route") == 1


@pytest.mark.parametrize("how", ["joined", "over a cap"])
def test_a_call_that_makes_nothing_new_keeps_no_slot(home: Path, how: str) -> None:
    """The only one is free for the next call."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, numbered(), max_creates=1, session_cap_usd=0.07) as tool:
            first = await tool.call("text_to_image", FOX, session="s", wait_s=0)
            same = FOX if how == "joined" else {"prompt": "another fox"}
            second = await tool.call("text_to_image", same, session="s")
            return [first, second, await tool.call("text_to_image", FOX, session="t", wait_s=5)]

    first, second, third = run_virtual(main())

    assert (second["task"]["joined"] if how == "joined" else second["error"]["code"]) in (True, "budget_exceeded")
    assert "error" not in first
    assert third["task"]["state"] == "completed"


# ---- calls that leave between the claim and the POST -----------------------------------------------------------------


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
def test_a_call_that_leaves_before_its_post_leaves_nothing(home: Path, how: str) -> None:
    """Not to be sent later by anybody, and no slot: the only one is free for the next call, here and elsewhere."""
    transport, cancel = numbered(), CancelToken()

    async def main() -> tuple[list[str], int, list[dict[str, Any]]]:
        slow = slow_at("durations", seconds=20.0)
        async with (
            opened_tool(home, transport, opener=slow, max_creates=1) as one,
            opened_tool(home, transport, max_creates=1) as two,
        ):
            call = asyncio.create_task(one.call("text_to_image", FOX, session="s", cancel=cancel))
            await asyncio.sleep(2.0)
            if how == "stopped":
                cancel.set()
            else:
                call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await asyncio.sleep(0.0)
            left = [record.state for record in records_of(home)], len(transport.posts)
            others = [await tool.call("text_to_image", FOX, session="t", new=True, wait_s=5) for tool in (two, one)]
            return *left, others

    states, posts, others = run_virtual(main())

    assert (states, posts) == (["not_created"], 0)
    assert [other["task"]["state"] for other in others] == ["completed"] * 2


@pytest.mark.parametrize("ticks", range(8))
def test_a_call_cancelled_just_after_its_claim_leaves_nothing_unsent(home: Path, ticks: int) -> None:
    """At whichever step of the loop: what was claimed is sent, or ended as not sent, and its slot is free again."""
    transport, calls = numbered(), list[asyncio.Task[Any]]()

    def step(left: int) -> None:
        if left:
            asyncio.get_running_loop().call_soon(step, left - 1)
        else:
            calls[0].cancel()

    watch = Watched(after=lambda name: step(ticks) if name == "claim" and len(calls) == 1 else None)

    async def main() -> tuple[list[str], int, dict[str, Any]]:
        async with opened_tool(home, transport, opener=watch, max_creates=1) as tool:
            calls.append(asyncio.create_task(tool.call("text_to_image", FOX, session="s")))
            await asyncio.gather(*calls, return_exceptions=True)
            await asyncio.sleep(30.0)
            left = [record.state for record in records_of(home)], len(transport.posts)
            calls.append(asyncio.create_task(tool.call("text_to_image", FOX, session="t", wait_s=5)))
            return *left, await calls[1]

    states, posts, other = run_virtual(main())

    assert states == (["completed"] if posts else ["not_created"])
    assert other["task"]["state"] == "completed"


@pytest.mark.parametrize("ticks", range(6))
def test_a_result_is_handed_on_or_dropped_and_never_lost(ticks: int) -> None:
    """A call may be cancelled at the very step in which its work has ended."""
    dropped = list[int]()

    async def main() -> tuple[bool, Any]:
        begin, is_made = asyncio.Event(), False

        async def work() -> int:
            nonlocal is_made
            await begin.wait()
            is_made = True
            return 7

        call = asyncio.create_task(unless_cancelled(work(), CancelToken(), drop=dropped.append))
        for _ in range(3):
            await asyncio.sleep(0.0)
        begin.set()
        for _ in range(ticks):
            await asyncio.sleep(0.0)
        call.cancel()
        [result] = await asyncio.gather(call, return_exceptions=True)
        return is_made, result

    is_made, result = asyncio.run(main())

    assert (result == 7) + len(dropped) == is_made
