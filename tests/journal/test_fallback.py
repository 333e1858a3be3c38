"""The choice of the journal, where a file takes no record, or another takes its place while it is used."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flux2_tool._clock import SystemClock
from flux2_tool.exceptions import JournalUnavailableError
from flux2_tool.journal import (
    JournalError,
    Moment,
    Record,
    RecordHandle,
    ThreadedJournal,
    open_threaded_journal,
)
from flux2_tool.journal.errors import file_error
from flux2_tool.journal.fallback import JournalWithFallback
from flux2_tool.journal.process_id import Owner
from flux2_tool.journal.protocol import LOCK_PATIENCE_S, Journal, OpenJournal
from flux2_tool.journal.spent_records import SpentRecords
from flux2_tool.journal.sqlite import FILE_NAME
from flux2_tool.journal.sqlite_database import BUSY_TIMEOUT_S
from flux2_tool.settings import JournalMode
from tests.support.journal import NEVER, NOON, Machine, Named, accept, begun, complete, open_elsewhere
from tests.support.stores import locked, open_store
from tests.support.virtual_time import run_virtual

LOCKED = sqlite3.OperationalError("database is locked")
LOCKED.sqlite_errorcode = sqlite3.SQLITE_BUSY
of_files = pytest.mark.sqlite_only("a file is deleted or broken")


class PausingClock(SystemClock):
    """Holds whoever waits for a lock until the test lets it go on."""

    def __init__(self) -> None:
        self.waits = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.waits.set()
        await self.goes_on.wait()


class BadDisk:
    """Opens journals; while it is bad, a new one loses its table at once."""

    def __init__(self) -> None:
        self.is_bad = False
        self.clock = PausingClock()
        self.opened: list[Journal] = []

    async def __call__(self, folder: Path | None, *, owner: Owner, now: float) -> Journal:
        journal = await open_threaded_journal(folder, owner=owner, now=now, clock=self.clock)
        self.opened.append(journal)
        if self.is_bad and folder is not None:
            with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as raw, raw:
                raw.execute("DROP TABLE records")
        return journal


class HeldAtFirst:
    """Opens journals; another process has the file locked for longer than SQLite waits, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times

    async def __call__(self, folder: Path | None, *, owner: Owner, now: float) -> Journal:
        if folder is not None and self.times:
            self.times -= 1
            await asyncio.sleep(BUSY_TIMEOUT_S)
            raise file_error(LOCKED, folder / FILE_NAME, failed="cannot be opened")
        return await open_threaded_journal(folder, owner=owner, now=now)


def _delete(home: Path, names: str = "*") -> None:
    for path in home.glob(names):
        path.unlink()


def _journals(
    home: Path, opener: OpenJournal, handles: list[RecordHandle], mode: JournalMode = "required"
) -> JournalWithFallback:
    return JournalWithFallback(
        place=home,
        mode=mode,
        owner=Named("p1"),
        now=lambda: NOON,
        opener=opener,
        record_handles=lambda: handles,
    )


def _handle(journals: JournalWithFallback, journal: Journal, record: Record) -> RecordHandle:
    return RecordHandle(
        journal,
        record,
        now=lambda: NOON,
        moment=lambda: Moment("a boot", 0.0),
        is_ours=True,
        successor_of=journals.successor_of,
    )


@of_files
def test_a_file_that_takes_no_records_is_closed_and_tried_again(home: Path, machine: Machine) -> None:
    """A request that is in flight must be in the file before the next one is paid for, and no file may stay open."""
    disk, handles = BadDisk(), list[RecordHandle]()

    async def main() -> None:
        journals = _journals(home, disk, handles)
        journal, _ = await journals.for_spending()
        record = begun(await journal.claim([machine.intent()], NEVER, now=NOON))
        handles.append(_handle(journals, journal, record))

        _delete(home)
        disk.is_bad = True
        with pytest.raises(JournalUnavailableError):
            await journals.for_spending()
        with pytest.raises(JournalError, match="closed"):
            await disk.opened[-1].records()

        _delete(home)
        disk.is_bad = False
        recovered, warnings = await journals.for_spending()

        assert [one.record_id for one in await recovered.records()] == [record.record_id]
        assert [said.partition(":")[0] for said in warnings] == ["journal_replaced"]
        await journals.close()

    asyncio.run(main())


@of_files
@pytest.mark.parametrize("lost", ["-wal", "all"])
def test_a_journal_that_is_closed_after_its_files_were_lost_gives_up_its_records(
    home: Path, machine: Machine, lost: str
) -> None:
    """The process may live on; a record that it kept would be nobody's to send again, and its image lost."""
    handles = list[RecordHandle]()

    async def main() -> None:
        journals = _journals(home, BadDisk(), handles)
        journal, _ = await journals.for_spending()
        record = begun(await journal.claim([machine.intent()], NEVER, now=NOON))
        handles.append(_handle(journals, journal, record))
        _delete(home, "*" if lost == "all" else "*-???")

        await journals.close()

        other = await open_threaded_journal(home, owner=Named("p2", alive=["p1"]), now=NOON)
        taken = await other.take_over(record.record_id, now=NOON)
        await other.close()
        assert taken is not None
        assert taken.owner == "p2"

    asyncio.run(main())


@of_files
@pytest.mark.parametrize("mode", ["required", "best_effort"])
def test_a_claim_on_a_file_that_was_given_up_is_made_in_its_successor(
    home: Path, machine: Machine, mode: JournalMode
) -> None:
    """The error of the old file says nothing of the new one, which would be given up as well."""

    async def main() -> None:
        disk = BadDisk()
        journals = _journals(home, disk, [], mode)
        await journals.for_spending()
        with locked(home):
            claiming = asyncio.ensure_future(journals.claim([machine.intent()], NEVER, within_s=60.0))
            await disk.clock.waits.wait()
            _delete(home)
            successor, _ = await journals.for_spending()
            disk.clock.goes_on.set()
            claim, journal, warnings = await claiming

        assert claim.outcome == "new"
        assert journal is successor is (await journals.for_spending())[0]
        assert warnings == []
        assert len(await successor.records()) == 1
        await journals.close()

    asyncio.run(main())


@of_files
@pytest.mark.parametrize("mode", ["required", "best_effort"])
def test_a_claim_that_finds_its_file_gone_is_made_in_a_new_one(home: Path, machine: Machine, mode: JournalMode) -> None:
    """The files were lost after they were looked at: a new journal is at hand, so that nothing is in the way."""

    async def main() -> None:
        disk = BadDisk()
        journals = _journals(home, disk, [], mode)
        await journals.for_spending()
        with locked(home):
            claiming = asyncio.ensure_future(journals.claim([machine.intent()], NEVER, within_s=60.0))
            await disk.clock.waits.wait()
            _delete(home)
        disk.clock.goes_on.set()
        claim, journal, warnings = await claiming

        assert claim.outcome == "new"
        assert [record.record_id for record in machine.open("p2").records()] == [begun(claim).record_id]
        assert journal is (await journals.for_spending())[0]
        assert [said.partition(":")[0] for said in warnings] == ["journal_replaced"]
        await journals.close()

    asyncio.run(main())


@of_files
def test_a_claim_waits_as_long_as_its_call_for_a_file_that_others_open(home: Path, machine: Machine) -> None:
    """Many processes begin with one new journal on a slow disk: nothing is wrong, and each gets its turn."""

    async def main() -> None:
        journals = _journals(home, HeldAtFirst(3), [])
        claim, _, warnings = await journals.claim([machine.intent()], NEVER, within_s=60.0)
        assert (claim.outcome, warnings) == ("new", [])
        await journals.close()

    run_virtual(main())


@of_files
def test_a_file_that_stays_locked_for_the_whole_call_is_named_as_locked(home: Path, machine: Machine) -> None:
    """Neither the disk nor the permissions are at fault, and the call ends when it said that it would."""

    async def main() -> float:
        journals = _journals(home, HeldAtFirst(100), [])
        with pytest.raises(JournalUnavailableError) as caught:
            await journals.claim([machine.intent()], NEVER, within_s=60.0)
        assert "database is locked" in caught.value.message
        assert caught.value.hint.startswith(
            f"Try again; if it lasts, end the process that keeps the journal locked: lsof {home}"
        )
        await journals.close()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(60.0, abs=BUSY_TIMEOUT_S)


@of_files
def test_without_need_of_the_file_nobody_waits_for_it_twice(home: Path, machine: Machine) -> None:
    """With `best_effort` the journal in memory does."""

    async def main() -> float:
        journals = _journals(home, HeldAtFirst(100), [], "best_effort")
        claim, _, warnings = await journals.claim([machine.intent()], NEVER, within_s=LOCK_PATIENCE_S)
        assert (claim.outcome, [said.partition(":")[0] for said in warnings]) == ("new", ["journal_unavailable"])
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == BUSY_TIMEOUT_S


@of_files
def test_a_broken_file_that_no_record_needs_is_closed_at_once(home: Path) -> None:
    """SQLite repairs a journal when the last process closes it: who keeps it open keeps it broken."""

    async def main() -> None:
        disk = BadDisk()
        journals = _journals(home, disk, [])
        disk.is_bad = True
        await journals.for_spending()
        with pytest.raises(JournalUnavailableError):
            await journals.claim([Machine(home).intent()], NEVER, within_s=1.0)
        with pytest.raises(JournalError, match="closed"):
            await disk.opened[0].records()
        await journals.close()

    asyncio.run(main())


@of_files
def test_what_was_only_in_a_lost_wal_is_saved_for_everybody(home: Path, machine: Machine) -> None:
    """Of another process's task the id, without which it would be paid again.

    A third program has the journal open, so that closing it here does not write the WAL to the file.
    """

    async def main() -> None:
        journals = _journals(home, BadDisk(), [])
        await journals.for_spending()
        other = await open_threaded_journal(home, owner=Named("p2"), now=NOON)
        record = begun(await other.claim([machine.intent()], NEVER, now=NOON))
        await other.note_accepted(record.record_id, now=NOON, task_id="tsk_1", status_url=None, request_id=None)
        await other.close(release=False)
        with open_elsewhere(home):
            _delete(home, "*-???")
            journal, _ = await journals.for_spending()
            found = await journal.records()
            await journals.close()
        assert [(one.record_id, one.task_id) for one in found] == [(record.record_id, "tsk_1")]

    asyncio.run(main())


@of_files
@pytest.mark.parametrize("mode", ["required", "best_effort"])
def test_a_record_of_a_file_that_was_given_up_goes_on_in_its_successor(
    home: Path, machine: Machine, mode: JournalMode
) -> None:
    """It was claimed just before the file was given up, so that it was not among those that moved."""

    async def main() -> None:
        disk = BadDisk()
        journals = _journals(home, disk, [], mode)
        journal, _ = await journals.for_spending()
        record = begun(await journal.claim([machine.intent()], NEVER, now=NOON))
        _delete(home)
        successor, _ = await journals.for_spending()
        handle = _handle(journals, journal, record)

        await handle.before_post("service")
        handle.accepted("tsk_1", status_url=None, request_id=None)
        await handle.settled()

        found = await successor.get(record.record_id)
        assert found is not None
        assert (found.route, found.task_id) == ("service", "tsk_1")
        await journals.close()

    asyncio.run(main())


@of_files
def test_what_is_read_of_a_file_that_was_given_up_is_read_of_its_successor(home: Path) -> None:
    """Whose task it is must be known before it is shown; a file that was replaced meanwhile is no reason to refuse."""

    async def main() -> None:
        journals = _journals(home, BadDisk(), [])
        read = list[Journal]()

        async def reading(journal: Journal) -> list[Record]:
            read.append(journal)
            if len(read) == 1:
                _delete(home)
                await journals.for_spending()
            return await journal.records()

        assert await journals.read(reading) == []
        assert read[1] is (await journals.for_spending())[0]
        await journals.close()

    asyncio.run(main())


class CountingJournal(ThreadedJournal):
    """Counts the records that were read all at once."""

    read = 0

    async def records(self, **options: Any) -> list[Record]:
        found = await super().records(**options)
        self.read += len(found)
        return found


@pytest.mark.parametrize("set_back_s", [0.0, 3600.0], ids=["", "the clock is set back"])
def test_what_was_spent_is_read_once_and_counts_all_of_it(home: Path, machine: Machine, set_back_s: float) -> None:
    """With `best_effort` a claim costs the same however many images a day had, and the caps go on in memory."""
    other, now = machine.open("p2"), NOON - 3600.0

    def spend(name: str) -> None:
        record = begun(other.claim([machine.intent(name)], NEVER, now=now))
        accept(other, record, f"tsk_{name}", at_s=now - NOON)
        complete(other, record, at_s=now - NOON)

    async def main() -> None:
        nonlocal now
        journal = CountingJournal(
            open_store(home, owner=Named("p1"), now=NOON), ThreadPoolExecutor(1), clock=SystemClock()
        )
        spent = SpentRecords()
        for number in range(40):
            spend(f"before {number}")
        now = NOON
        for number in range(40):
            await spent.update(journal, now=now)
            spend(f"meanwhile {number}")
            now += 1.0
        now += 100.0 - set_back_s
        await spent.update(journal, now=now)
        read = journal.read
        taken = spent.take()
        await journal.close()

        assert len({record.record_id for record in taken}) == len(taken) == 80
        assert read <= 200  # each time anew, it would be 2,400

    asyncio.run(main())
