"""A journal that cannot be used: nothing is spent where it is required, and nothing is lost that was spent."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool.context import CallContext
from flux2_tool.journal.sqlite import FILE_NAME
from tests.support.harness import (
    CREATED,
    DONE,
    FOX,
    Answer,
    MockService,
    SandboxTransport,
    Seen,
    opened_tool,
    run_call,
    scripted,
)
from tests.support.stores import drop_records, full_disk, name_of, raw, records_of
from tests.support.virtual_time import run_virtual


@contextlib.contextmanager
def corrupt(home: Path) -> Iterator[None]:
    home.mkdir(exist_ok=True)
    (home / FILE_NAME).write_bytes(b"nonsense " * 1000)
    yield


@contextlib.contextmanager
def a_folder_in_its_place(home: Path) -> Iterator[None]:
    (home / FILE_NAME).mkdir(parents=True)
    yield


@contextlib.contextmanager
def a_file_in_the_folders_place(home: Path) -> Iterator[None]:
    home.write_text("not a folder")
    yield


@contextlib.contextmanager
def disk_is_full(_home: Path) -> Iterator[None]:
    with full_disk():
        yield


Trouble = Callable[[Path], contextlib.AbstractContextManager[None]]
of_files = pytest.mark.sqlite_only("another file or folder is in the journal's place")
TROUBLES = [
    *(
        pytest.param(trouble, marks=of_files)
        for trouble in (corrupt, a_folder_in_its_place, a_file_in_the_folders_place)
    ),
    disk_is_full,
]


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("host", ["native", "mcp", "cli"])
def test_by_default_nothing_is_spent_without_a_usable_journal(
    home: Path, runapi: SandboxTransport, trouble: Trouble, host: str
) -> None:
    """An image without a record would be paid twice."""
    with trouble(home):
        error = run_call(home, runapi, host=host)["error"]

    assert error["code"] == "journal_unavailable"
    assert error["charged"] == "no"
    assert name_of(home) in error["message"]
    assert "best_effort" in error["hint"]
    assert runapi.sandbox.ledger.creates == []


@of_files
def test_nothing_is_spent_with_a_read_only_home(runapi: SandboxTransport) -> None:
    """Here a place where nobody can write, not even the administrator."""
    error = run_call(Path("/proc/flux2-tool"), runapi)["error"]

    assert error["code"] == "journal_unavailable"
    assert runapi.sandbox.ledger.creates == []


@pytest.mark.parametrize("trouble", TROUBLES)
def test_best_effort_falls_back_to_memory_and_warns(home: Path, runapi: SandboxTransport, trouble: Trouble) -> None:
    """Joins, the guard and everything else hold within the process."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi, journal="best_effort") as tool:
            both = await asyncio.gather(*(tool.call("text_to_image", dict(FOX), session="s") for _ in range(2)))
            found = await tool.call("get_image_task", {"task_id": both[0]["task"]["id"]}, session="s")
            more = [await tool.call("text_to_image", dict(FOX), session="s") for _ in range(4)]
            return [*both, found, *more]

    with trouble(home):
        one, other, found, *more = run_virtual(main())

    assert one["task"]["id"] == other["task"]["id"] == found["task"]["id"]
    assert [any("journal_unavailable" in said for said in result["warnings"]) for result in (one, other)] == [True] * 2
    assert ["task" in result for result in more] == [True, True, True, False]
    assert more[3]["error"]["code"] == "repeated_request"
    assert runapi.billed == 4


def test_journal_off_writes_no_file_and_warns(home: Path, runapi: SandboxTransport) -> None:
    """The result's warning says so."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi, journal="off") as tool:
            return await asyncio.gather(*(tool.call("text_to_image", dict(FOX), session="s") for _ in range(2)))

    one, other = run_virtual(main())

    assert one["task"]["id"] == other["task"]["id"]
    assert any(said.startswith("journal_unavailable: the task journal is off") for said in one["warnings"])
    assert not (home / FILE_NAME).exists()


# ---- it breaks in the middle -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _disk_that_fills_up() -> Iterator[Callable[[], None]]:
    with contextlib.ExitStack() as until_then:
        full = [full_disk()]
        yield lambda: until_then.enter_context(full.pop()) if full else None


def test_after_acceptance_a_failing_journal_keeps_the_image(home: Path) -> None:
    """The money is spent: the image is returned, and the record written as far as possible."""

    def answer(request: Seen) -> Any:
        fill_up()
        return (200, CREATED if request.method == "POST" else DONE)

    with _disk_that_fills_up() as fill_up:
        result = run_call(home, MockService(answer))

    assert result["task"]["state"] == "completed"
    assert len(result["images"]) == 1
    assert any(said.startswith("journal_unavailable") for said in result["warnings"])


def test_failed_writes_are_repeated_once_the_disk_has_space(home: Path) -> None:
    """Else the next process would send an accepted request again, and list a finished one as open."""
    full = full_disk()

    def answer(request: Seen) -> Any:
        if request.method == "POST":
            full.__enter__()
            asyncio.get_running_loop().call_later(5.0, full.__exit__, None, None, None)
        is_done = asyncio.get_running_loop().time() > 3.0
        active = {"id": "tsk_abc123", "status": "processing"}
        return (200, CREATED if request.method == "POST" else DONE if is_done else active)

    async def main() -> dict[str, Any]:
        async with opened_tool(home, MockService(answer)) as tool:
            result = await tool.call("text_to_image", dict(FOX))
            await asyncio.sleep(30.0)
            return result

    result = run_virtual(main())
    record = records_of(home)[0]

    assert result["task"]["state"] == "completed"
    assert (record.state, record.task_id, len(record.images)) == ("completed", "tsk_abc123", 1)
    assert record.delivered_at is not None


def test_failed_writes_are_repeated_when_the_tool_is_closed(home: Path) -> None:
    """A command ends before any heartbeat: without the task's id the next one would send the request again."""
    full = full_disk()
    transport = scripted(gets=[(200, {"id": "tsk_abc123", "status": "processing"})])
    transport.delay_s = 1.0

    async def main() -> None:
        async with opened_tool(home, transport, host="cli") as tool:
            call = asyncio.ensure_future(tool.call("text_to_image", dict(FOX), wait_s=4.0))
            await asyncio.sleep(0.5)
            with full:
                await call

    run_virtual(main())
    run_call(home, transport, host="cli", wait_s=0)

    assert [(record.state, record.task_id) for record in records_of(home)] == [("processing", "tsk_abc123")]
    assert len(transport.posts) == 1


def test_a_full_disk_stops_the_next_image_and_not_the_one_in_flight(home: Path, runapi: SandboxTransport) -> None:
    """And after somebody made room everything goes on."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            first = asyncio.ensure_future(tool.call("text_to_image", dict(FOX), session="s"))
            await asyncio.sleep(2.0)
            with full_disk():
                second = await tool.call("text_to_image", {"prompt": "another picture"}, session="s")
                first_result = await first
            return [first_result, second, await tool.call("text_to_image", {"prompt": "another picture"}, session="s")]

    first, second, third = run_virtual(main())

    assert first["task"]["state"] == "completed"
    assert second["error"]["code"] == "journal_unavailable"
    assert third["task"]["state"] == "completed"
    assert runapi.billed == 2


def test_a_full_disk_after_a_lost_response_may_have_been_charged(home: Path) -> None:
    """The second POST is not sent, because it cannot be recorded; the first one may have arrived."""
    with contextlib.ExitStack() as until_then:

        def answer(_request: Seen) -> Answer:
            until_then.enter_context(full_disk())
            return httpx.ReadError("lost")

        transport = MockService(answer)
        error = run_call(home, transport, session="s")["error"]

    assert (error["code"], error["charged"]) == ("journal_unavailable", "unknown")
    assert len(transport.posts) == 1


@of_files
def test_without_a_journal_the_last_image_is_an_error(home: Path, runapi: SandboxTransport) -> None:
    """ "There is none" would be wrong, and would hide the cause that the operator has to fix."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            _replace_with_a_folder(home)
            last = await tool.call("get_image_task", {"task_id": "last"}, session="s")
            return [last, await tool.resend("0123456789")]

    home.mkdir()
    for result in run_virtual(main()):
        assert result["error"]["code"] == "journal_unavailable"


def _delete(home: Path) -> None:
    for path in home.iterdir():
        path.unlink()


def _delete_the_folder(home: Path) -> None:
    shutil.rmtree(home)


def _replace_with_a_folder(home: Path) -> None:
    _delete(home)
    (home / FILE_NAME).mkdir()


@of_files
@pytest.mark.parametrize("vanish", [_delete, _delete_the_folder])
def test_a_deleted_journal_is_recreated_with_the_tasks_in_flight(
    home: Path, runapi: SandboxTransport, vanish: Callable[[Path], None]
) -> None:
    """Somebody cleans up; the equal call that comes next still gets the image that is being made."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            first = asyncio.ensure_future(tool.call("text_to_image", dict(FOX), session="s"))
            await asyncio.sleep(2.0)
            vanish(home)
            return [await tool.call("text_to_image", dict(FOX), session="s"), await first]

    joined, first = run_virtual(main())

    assert joined["task"]["id"] == first["task"]["id"]
    assert joined["task"]["joined"]
    assert [(record.state, record.task_id) for record in records_of(home)] == [("completed", first["task"]["id"])]
    assert runapi.billed == 1


@of_files
def test_nothing_is_spent_after_the_journal_was_replaced(home: Path, runapi: SandboxTransport) -> None:
    """The task in flight is followed to its end."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            first = asyncio.ensure_future(tool.call("text_to_image", dict(FOX), session="s"))
            await asyncio.sleep(2.0)
            _replace_with_a_folder(home)
            return [await tool.call("text_to_image", {"prompt": "another picture"}, session="s"), await first]

    refused, first = run_virtual(main())

    assert refused["error"]["code"] == "journal_unavailable"
    assert first["task"]["state"] == "completed"
    assert len(runapi.sandbox.ledger.creates) == 1


def _drop_the_table(home: Path) -> None:
    drop_records(home)


@pytest.mark.parametrize(
    ("harm", "is_noticed"), [(_drop_the_table, True), pytest.param(_replace_with_a_folder, False, marks=of_files)]
)
def test_a_journal_that_breaks_costs_neither_the_image_nor_a_lookup(
    home: Path, harm: Callable[[Path], None], is_noticed: bool
) -> None:
    """The poll schedule, the leases and the search for a task read it too; RunAPI knows the task all the same."""

    def answer(request: Seen) -> Any:
        if request.method == "POST":
            harm(home)
            return 200, CREATED
        asked_for = {"id": request.path.rpartition("/")[2]}
        return 200, {**DONE, **asked_for} if request.at_s > 40.0 else {**asked_for, "status": "processing"}

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, MockService(answer)) as tool:
            made = await tool.call("text_to_image", dict(FOX))
            # Anybody but the owner is refused: only the journal knows whose a task is.
            owner = CallContext(is_owner=True)
            return [made, await tool.call("get_image_task", {"task_id": "tsk_other"}, caller=owner)]

    made, found = run_virtual(main())

    assert [result["task"]["state"] for result in (made, found)] == ["completed"] * 2
    if is_noticed:
        assert any(said.startswith("journal_unavailable") for said in made["warnings"])


def test_who_watches_another_process_task_outlives_a_broken_journal(home: Path) -> None:
    """It cannot tell any more whether that process lives: it must neither fail nor send the request itself."""

    def answer(request: Seen) -> Any:
        return (200, CREATED) if request.method == "POST" else (200, {"id": "tsk_abc123", "status": "processing"})

    transport = MockService(answer)

    async def main() -> dict[str, Any]:
        async with opened_tool(home, transport) as old, opened_tool(home, transport) as new:
            first = asyncio.create_task(old.call("text_to_image", dict(FOX), session="s", wait_s=30))
            await asyncio.sleep(1.0)
            second = asyncio.create_task(new.call("text_to_image", dict(FOX), session="s", wait_s=20))
            await asyncio.sleep(1.0)
            _drop_the_table(home)
            await first
            return await second

    watched = run_virtual(main())

    assert (watched["task"]["state"], watched["task"]["id"]) == ("processing", "tsk_abc123")
    assert len(transport.posts) == 1


@pytest.mark.parametrize("is_back", [False, True])
def test_best_effort_joins_across_a_failure_and_recovery_of_the_file(
    home: Path, runapi: SandboxTransport, is_back: bool
) -> None:
    """The image in flight is in one journal, the equal call asks the other."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi, journal="best_effort") as tool:
            with full_disk() if is_back else contextlib.nullcontext():
                first = asyncio.ensure_future(tool.call("text_to_image", dict(FOX), session="s"))
                await asyncio.sleep(2.0)
            with contextlib.nullcontext() if is_back else full_disk():
                again = await tool.call("text_to_image", dict(FOX), session="s")
            await asyncio.sleep(60.0)
            return [again, await first, await tool.call("text_to_image", dict(FOX), session="s")]

    again, first, later = run_virtual(main())

    assert again["task"]["id"] == first["task"]["id"] != later["task"]["id"]
    assert again["task"]["joined"]
    assert runapi.billed == 2
    assert {record.task_id for record in records_of(home)} == {first["task"]["id"], later["task"]["id"]}


def test_best_effort_keeps_counting_what_was_spent_before(home: Path, runapi: SandboxTransport) -> None:
    """A cap that begins again at nothing is none; most of a day's images are another process's."""
    run_call(home, runapi, arguments={"prompt": "of an earlier process"})

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi, journal="best_effort", daily_cap_usd=0.15) as tool:
            before = await tool.call("text_to_image", {"prompt": "before"})
            with full_disk():
                return [before, *[await tool.call("text_to_image", {"prompt": f"after {n}"}) for n in range(2)]]

    before, third, fourth = run_virtual(main())

    assert ("task" in before, "task" in third) == (True, True)
    assert fourth["error"]["code"] == "budget_exceeded"
    assert "$0.15 is spent" in fourth["error"]["message"]


def test_best_effort_sends_on_another_route_without_writing_it(home: Path) -> None:
    """It falls back to memory at every step, not only at the first."""

    def answer(request: Seen) -> Any:
        fill_up()
        if request.path.startswith("/v1/") and request.method == "POST":
            return (404, {"error": "Not found"})
        return (200, CREATED if request.method == "POST" else DONE)

    with _disk_that_fills_up() as fill_up:
        best_effort = run_call(home, MockService(answer), journal="best_effort")
    other = home.parent / "other"
    transport = MockService(answer)
    with _disk_that_fills_up() as fill_up:
        required = run_call(other, transport)

    assert best_effort["task"]["state"] == "completed"
    assert required["error"]["code"] == "journal_unavailable"
    assert required["error"]["charged"] == "no"
    assert [post.path for post in transport.posts] == ["/v1/text_to_image"]


@pytest.mark.parametrize("column", ["images", "saved"])
def test_a_corrupted_record_makes_the_journal_unusable(home: Path, runapi: SandboxTransport, column: str) -> None:
    """What cannot be read might be the paid image of this very request."""
    run_call(home, runapi, session="s", wait_s=0)
    with raw(home) as broken:
        broken.execute(f"UPDATE records SET {column} = 'x'")  # noqa: S608

    required = run_call(home, runapi, session="s")
    best_effort = run_call(home, runapi, session="s", journal="best_effort")

    assert (required["error"]["code"], required["error"]["charged"]) == ("journal_unavailable", "no")
    assert best_effort["task"]["state"] == "completed"
    assert any("journal_unavailable" in said for said in best_effort["warnings"])


def test_a_response_that_cannot_be_stored_does_not_lose_its_task(home: Path) -> None:
    """Its status link has a lone surrogate; the task was accepted and is polled at the usual paths."""
    created = {**CREATED, "status_url": "/v1/text_to_image/tsk_abc123?x=\ud800"}
    transport = scripted([(200, created)])

    result = run_call(home, transport, session="s")

    assert result["task"]["state"] == "completed"
    assert result["warnings"] == []
    assert [(record.state, record.task_id) for record in records_of(home)] == [("completed", "tsk_abc123")]
