"""Files of the journal that are deleted, replaced or emptied while processes have them open."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.diagnostics.doctor.journal import check_journal
from flux2_tool.journal import JournalError
from flux2_tool.journal.errors import unavailable
from flux2_tool.journal.sqlite import FILE_NAME
from flux2_tool.settings import load_settings
from tests.support.harness import (
    CREATED,
    DONE,
    FOX,
    MockService,
    SandboxTransport,
    Seen,
    opened_tool,
    run_call,
    scripted,
)
from tests.support.journal import NOON, Machine, accept, begun, open_elsewhere
from tests.support.stores import records_of
from tests.support.virtual_time import run_virtual

pytestmark = pytest.mark.sqlite_only("files are deleted or replaced")

Vanish = Callable[[Path], None]


def _without_wal_and_shm(home: Path) -> None:
    _without_wal(home)
    (home / f"{FILE_NAME}-shm").unlink()


def _without_wal(home: Path) -> None:
    (home / f"{FILE_NAME}-wal").unlink()


def _with_an_empty_wal(home: Path) -> None:
    os.truncate(home / f"{FILE_NAME}-wal", 0)


def _without_shm(home: Path) -> None:
    (home / f"{FILE_NAME}-shm").unlink()


def _without_the_file(home: Path) -> None:
    (home / FILE_NAME).unlink()


def _without_all(home: Path) -> None:
    for path in home.glob(f"{FILE_NAME}*"):
        path.unlink()


def _with_another_file(home: Path) -> None:
    other = home.parent / "other"
    run_call(other, scripted(), arguments={"prompt": "of another journal"})
    _without_all(home)
    shutil.copy(other / FILE_NAME, home / FILE_NAME)


def _emptied(home: Path) -> None:
    os.truncate(home / FILE_NAME, 0)


def _cut_short(home: Path) -> None:
    (home / FILE_NAME).write_bytes(b"\n")


VANISH = [
    _without_wal_and_shm,
    _without_wal,
    _without_shm,
    _without_the_file,
    _without_all,
    _with_another_file,
    _emptied,
]


@pytest.mark.parametrize("vanish", [*VANISH, _cut_short])
def test_nothing_is_written_to_files_that_nobody_can_open(machine: Machine, vanish: Vanish, home: Path) -> None:
    """SQLite does not notice, and another process would not see what this one pays for."""
    journal = machine.open()
    record = begun(machine.begin(journal))
    vanish(home)

    assert not journal.is_in_place()
    with pytest.raises(JournalError) as caught:
        accept(journal, record)
    assert caught.value.reason == "replaced"


@pytest.mark.parametrize("vanish", VANISH)
def test_what_is_in_flight_moves_to_the_new_file_and_the_result_warns(home: Path, vanish: Vanish) -> None:
    """Noticed at the next write: the equal call of another process finds the request, and nobody pays twice."""

    def answer(request: Seen) -> Any:
        if request.method == "POST":
            return (200, CREATED)
        is_done = asyncio.get_running_loop().time() > 20.0
        return (200, DONE if is_done else {"id": "tsk_abc123", "status": "processing"})

    transport = MockService(answer)

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, transport) as tool:
            first = asyncio.ensure_future(tool.call("text_to_image", dict(FOX), session="s"))
            await asyncio.sleep(3.0)
            await asyncio.to_thread(vanish, home)
            await asyncio.sleep(12.0)
            async with opened_tool(home, transport) as other:
                again = await other.call("text_to_image", dict(FOX), session="s")
            return [await first, again]

    first, again = run_virtual(main())
    mine = [record for record in records_of(home) if record.label == "a-red-fox-in-the-snow"]

    assert any(said.startswith("journal_replaced") for said in first["warnings"])
    assert (again["task"]["id"], again["task"]["joined"]) == (first["task"]["id"], True)
    assert [(record.state, record.task_id) for record in mine] == [("completed", "tsk_abc123")]
    assert len([post for post in transport.posts if b"a red fox in the snow" in post.body]) == 1


def test_a_lost_wal_takes_no_claim_along(machine: Machine, home: Path) -> None:
    """Another process that opens the journal right then still joins what is being paid for."""
    record = begun(machine.begin(machine.open("p1")))
    for name in (f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"):
        (home / name).unlink()
    again = machine.begin(machine.open("p2"))

    assert again.outcome == "joined"
    assert again.record is not None
    assert again.record.record_id == record.record_id


@pytest.mark.parametrize("lose", [_without_wal, _with_an_empty_wal])
def test_a_wal_lost_under_another_process_is_named_until_that_ends(machine: Machine, home: Path, lose: Vanish) -> None:
    """SQLite calls it a disk error, and who makes room on the disk changes nothing."""
    journal = machine.open("p1")
    record = begun(machine.begin(journal))
    accept(journal, record)
    with open_elsewhere(home):
        lose(home)
        with pytest.raises(JournalError) as caught:
            machine.open("p2").records()
        refusal = unavailable(caught.value)
        found = check_journal(load_settings({}, overrides={"home": str(home)}), now=NOON)
        journal.close()
        machine.close()

    assert "its -wal was deleted or emptied while processes had it open" in refusal.message
    assert f"end the processes that have the journal open, which lsof {home / FILE_NAME} shows" in refusal.hint
    assert (found.state, found.fix.partition(" ")[0]) == ("failure", "lsof")
    assert [one.record_id for one in machine.open("p3").records()] == [record.record_id]


@pytest.mark.parametrize("lose", [_without_the_file, _emptied])
def test_a_new_journal_does_not_wait_for_who_has_the_lost_one_locked(
    machine: Machine, home: Path, lose: Vanish
) -> None:
    """A stopped process never ends its transaction; the locks are in a file beside the journal, which outlives it."""
    machine.open("p1").close()
    with open_elsewhere(home, locked=True):
        lose(home)
        record = begun(machine.begin(machine.open("p2")))

        assert machine.open("p3").records() == [record]


def test_before_each_post_the_files_are_looked_at(home: Path) -> None:
    """A repeated POST is in the journal that others can read, before it is sent."""
    seen: list[list[tuple[str, str]]] = []

    def answer(request: Seen) -> Any:
        if request.method == "GET":
            return (200, DONE)
        seen.append([(record.state, record.idempotency_key) for record in records_of(home)])
        if len(seen) == 1:
            _without_all(home)
            return (503, {"error": "busy"})
        return (200, CREATED)

    result = run_call(home, MockService(answer))

    assert result["task"]["state"] == "completed"
    assert seen[0] == seen[1] != []
    assert any(said.startswith("journal_replaced") for said in result["warnings"])


def test_a_record_that_vanished_from_the_file_is_written_again(home: Path) -> None:
    """An old copy of the journal was written over it: the same file, with the content from before the request."""

    def answer(request: Seen) -> Any:
        if request.method == "GET":
            return (200, DONE)
        records = records_of(home)
        seen.append(len(records))
        if len(seen) == 1:
            _delete_the_record(home)
            return (503, {"error": "busy"})
        return (200, CREATED)

    seen: list[int] = []
    result = run_call(home, MockService(answer))

    assert seen == [1, 1]
    assert [record.state for record in records_of(home)] == ["completed"]
    assert any(said.startswith("journal_replaced") for said in result["warnings"])


def _delete_the_record(home: Path) -> None:
    with contextlib.closing(sqlite3.connect(home / FILE_NAME)) as raw, raw:
        raw.execute("DELETE FROM records")


def test_the_next_call_is_warned_and_pays_within_the_cap(home: Path, runapi: SandboxTransport) -> None:
    """What this process has in flight stays reserved in the new file."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi, daily_cap_usd=0.10) as tool:
            first = asyncio.ensure_future(tool.call("text_to_image", dict(FOX), session="s"))
            await asyncio.sleep(2.0)
            _without_all(home)
            rest = [await tool.call("text_to_image", {"prompt": f"fox {n}"}, session="s") for n in range(2)]
            return [*rest, await first]

    second, third, _first = run_virtual(main())

    assert any(said.startswith("journal_replaced") for said in second["warnings"])
    assert third["error"]["code"] == "budget_exceeded"
