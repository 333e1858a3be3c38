"""How the work behind a task ends when it does not end by itself: interrupted, or by a defect."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.engine.wait import CancelToken
from tests.support.harness import CREATED, DONE, FOX, MockService, Seen, json_answer, opened_tool, run_call, scripted
from tests.support.journal import slow_at
from tests.support.stores import records_of
from tests.support.virtual_time import run_virtual


def test_an_interrupted_request_that_was_never_sent_is_not_created(home: Path) -> None:
    """Ctrl-C cancels everything at once; a later process must not send what nobody waits for any more."""
    transport = scripted([json_answer({"error": "slow down"}, 429, retry_after="20"), (200, CREATED)])

    async def main() -> dict[str, Any]:
        async with opened_tool(home, transport) as tool:
            call = asyncio.create_task(tool.call("text_to_image", FOX, session="s"))
            await asyncio.sleep(5.0)
            for task in asyncio.all_tasks() - {call}:
                if "ImageTask._run" in repr(task):
                    task.cancel()
            return await call

    error = run_virtual(main())["error"]

    assert (error["code"], error["charged"]) == ("cancelled", "no")
    assert [record.state for record in records_of(home)] == ["not_created"]
    assert len(transport.posts) == 1


def test_a_call_that_leaves_unsent_leaves_nothing_at_work(home: Path) -> None:
    """What goes on for nobody would take a turn of the account's rate limit from the calls that wait."""
    transport = scripted([json_answer({"error": "slow down"}, 429, retry_after="20"), (200, CREATED)])

    async def main() -> tuple[dict[str, Any], list[str]]:
        async with opened_tool(home, transport) as tool:
            cancel = CancelToken()
            call = asyncio.create_task(tool.call("text_to_image", FOX, session="s", cancel=cancel))
            await asyncio.sleep(5.0)
            cancel.set()
            result = await call
            await asyncio.sleep(0.0)
            left = [repr(task) for task in asyncio.all_tasks() if "ImageTask._run" in repr(task)]
            await asyncio.sleep(60.0)
            return result, left

    result, left = run_virtual(main())

    assert (result["error"]["code"], result["error"]["charged"]) == ("cancelled", "no")
    assert left == []
    assert len(transport.posts) == 1


@pytest.mark.transport_only("a defect is raised by the transport, and no response over a socket raises one")
def test_a_defect_while_following_is_an_error_and_the_image_is_kept(home: Path) -> None:
    """The image was accepted and may be charged: the call must end, and a later one must find it."""
    is_defective = True

    def answer(request: Seen) -> Any:
        if request.method == "POST":
            return 200, CREATED
        return RuntimeError("a defect") if is_defective else (200, DONE)

    async def main() -> list[dict[str, Any]]:
        nonlocal is_defective
        async with opened_tool(home, MockService(answer)) as tool:
            failed = await tool.call("text_to_image", FOX, session="s")
            state = [record.state for record in records_of(home)]
            is_defective = False
            return [failed, {"state": state}, await tool.call("get_image_task", {"task_id": "tsk_abc123"}, session="s")]

    failed, recorded, found = run_virtual(main())

    assert (failed["error"]["code"], failed["error"]["charged"]) == ("internal_error", "unknown")
    assert failed["error"]["task_ref"] == "task:tsk_abc123"
    assert "RuntimeError" in failed["error"]["message"]
    assert recorded == {"state": ["unknown"]}
    assert found["task"]["state"] == "completed"


def _check_left_in_doubt(home: Path, transport: MockService, left: dict[str, Any]) -> None:
    """Check that a call that left may have paid, and that an equal one gets the image under the same key."""
    states = [record.state for record in records_of(home)]
    again = run_call(home, transport, session="s")

    assert left["error"]["charged"] == "unknown"
    assert states == ["sending"]
    assert again["task"]["state"] == "completed"
    assert len({post.headers["idempotency-key"] for post in transport.posts}) == 1


def test_a_post_that_closing_cuts_off_may_have_been_paid(home: Path) -> None:
    """It is on its way: the next process asks under the same key what became of it."""
    transport = scripted()
    transport.delay_s = 5.0

    async def main() -> dict[str, Any]:
        async with opened_tool(home, transport) as tool:
            call = asyncio.create_task(tool.call("text_to_image", FOX, session="s"))
            await asyncio.sleep(1.0)
            assert len(transport.posts) == 1
            await tool.aclose()
            return await call

    _check_left_in_doubt(home, transport, run_virtual(main()))


def test_one_task_for_two_processes_requests_is_accepted_by_one_of_them(home: Path) -> None:
    """A service that gives one id twice at the same moment: each has looked before the other has written."""
    opener = slow_at("note_accepted", seconds=0.5)

    async def main() -> list[dict[str, Any]]:
        services = [scripted(), scripted()]
        async with (
            opened_tool(home, services[0], opener=opener) as a,
            opened_tool(home, services[1], opener=opener) as b,
        ):
            calls = [a.call("text_to_image", FOX, session="a"), b.call("text_to_image", FOX, session="b")]
            return list(await asyncio.gather(*calls))

    made, refused = sorted(run_virtual(main()), key=lambda result: "error" in result)

    assert (made["task"]["state"], made["task"]["id"]) == ("completed", "tsk_abc123")
    assert (refused["error"]["code"], refused["error"]["charged"]) == ("unexpected_answer", "unknown")
    assert sorted((record.state, record.task_id) for record in records_of(home)) == [
        ("completed", "tsk_abc123"),
        ("unknown", None),
    ]


@pytest.mark.parametrize("leaves", ["cancelled", "timed out", "closed"])
def test_a_call_that_leaves_while_an_acceptance_is_checked_may_have_paid(home: Path, leaves: str) -> None:
    """The journal is asked whose task it is; until it answers, the task exists, and nobody may pay for another."""
    transport = scripted()

    async def main() -> dict[str, Any]:
        async with opened_tool(home, transport, opener=slow_at("has_other", seconds=30.0)) as tool:
            cancel = CancelToken()
            wait_s = 2.0 if leaves == "timed out" else 60.0
            call = asyncio.create_task(tool.call("text_to_image", FOX, session="s", wait_s=wait_s, cancel=cancel))
            await asyncio.sleep(1.0)
            assert len(transport.posts) == 1
            if leaves == "cancelled":
                cancel.set()
            if leaves == "closed":
                await tool.aclose()
            return await call

    _check_left_in_doubt(home, transport, run_virtual(main()))
