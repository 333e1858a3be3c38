"""The asynchronous journal: nobody on the event loop waits for the disk or for another process's lock."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flux2_tool._clock import SystemClock
from flux2_tool.journal import (
    Claim,
    JournalError,
    Moment,
    Outcome,
    OwnershipLostError,
    Record,
    RecordHandle,
    ThreadedJournal,
    open_threaded_journal,
)
from tests.support.journal import NEVER, NOON, Machine, Named
from tests.support.stores import drop_records, full_disk, locked, open_store, place_of, records_of
from tests.support.virtual_time import run_virtual


async def opened(home: Path) -> ThreadedJournal:
    return await open_threaded_journal(place_of(home), owner=Named("p1", set()), now=NOON)


def claiming(journal: ThreadedJournal, machine: Machine, *, within_s: float = 60.0) -> asyncio.Task[Claim]:
    return asyncio.ensure_future(journal.claim([machine.intent()], NEVER, now=NOON, within_s=within_s))


async def begun(journal: ThreadedJournal, machine: Machine) -> RecordHandle:
    claim = await claiming(journal, machine)
    assert claim.record is not None
    return RecordHandle(journal, claim.record, now=lambda: NOON, moment=lambda: Moment("a boot", 0.0), is_ours=True)


def test_reads_go_on_while_a_claim_waits_for_a_lock(home: Path, machine: Machine) -> None:
    """A look at a finished picture must not wait for somebody's backup program."""

    async def main() -> None:
        journal = await opened(home)
        with locked(home):
            claim = claiming(journal, machine)
            for _ in range(5):
                assert await journal.records() == []
            assert not claim.done()
        assert (await claim).outcome == "new"
        await journal.close()

    asyncio.run(main())


def test_a_claim_gives_up_when_its_own_time_is_over(home: Path, machine: Machine) -> None:
    """Then nothing is sent: nothing was recorded, or what a server recorded after all is ended at once."""

    async def main() -> None:
        journal = await opened(home)
        with locked(home), pytest.raises(JournalError) as caught:
            await claiming(journal, machine, within_s=0.05)
        assert caught.value.reason == "locked"
        await journal.close()
        assert [record.state for record in records_of(home)] in ([], ["not_created"])

    asyncio.run(main())


@pytest.mark.parametrize("steps", range(6))
def test_a_cancelled_claim_leaves_nothing_to_be_sent(home: Path, machine: Machine, steps: int) -> None:
    """Whenever the cancel comes: before, during or just after the write."""

    async def main() -> None:
        journal = await opened(home)
        claim = claiming(journal, machine)
        for _ in range(steps):
            await asyncio.sleep(0)
        claim.cancel()
        outcome = (await asyncio.gather(claim, return_exceptions=True))[0]
        await journal.close()  # whatever a thread still had to do is done
        assert isinstance(outcome, asyncio.CancelledError)
        assert [record.state for record in records_of(home)] in ([], ["not_created"])

    asyncio.run(main())


def test_a_cancel_does_not_wait_for_the_lock(home: Path, machine: Machine) -> None:
    """A person who presses stop is answered while the lock is still held."""

    async def main() -> None:
        journal = await opened(home)
        with locked(home):
            claim = claiming(journal, machine)
            await journal.records()
            claim.cancel()
            await asyncio.wait([claim])
        await journal.close()
        assert [record.state for record in records_of(home)] in ([], ["not_created"])

    asyncio.run(main())


def test_what_has_happened_is_known_at_once_and_written_in_order(home: Path, machine: Machine) -> None:
    """The next step of a picture does not wait for the disk; the disk has it all in the end."""

    async def main() -> None:
        journal = await opened(home)
        handle = await begun(journal, machine)
        with locked(home):
            handle.accepted("tsk_1", status_url=None, request_id="req_1")
            handle.ended(Outcome(state="completed", images=(("https://cdn.example/fox.png", None),), cost_usd=0.05))
            handle.delivered()
            assert handle.record.delivered_at == NOON
            assert not await handle.settled(within_s=0.01)
        assert await handle.settled()
        [record] = await journal.records()
        assert (record.state, record.task_id, record.delivered_at) == ("completed", "tsk_1", NOON)
        assert handle.warnings == []
        await journal.close()

    asyncio.run(main())


def test_what_has_happened_is_written_although_the_loop_ends(home: Path, machine: Machine) -> None:
    """Scripts end without closing anything."""

    async def main() -> ThreadedJournal:
        journal = await opened(home)
        handle = await begun(journal, machine)
        handle.accepted("tsk_1", status_url=None, request_id=None)
        handle.ended(Outcome(state="completed", images=(("https://cdn.example/fox.png", None),)))
        handle.delivered()
        return journal

    asyncio.run(main()).close_now()

    [record] = machine.open("p2").records()
    assert (record.state, record.task_id, record.delivered_at) == ("completed", "tsk_1", NOON)


def test_a_closed_journal_says_so(home: Path, machine: Machine) -> None:
    """A late write of a task that is being stopped is no defect."""

    async def main() -> None:
        journal = await opened(home)
        await journal.close()
        with pytest.raises(JournalError, match="closed"):
            await journal.records()

    asyncio.run(main())


@pytest.mark.parametrize("is_broken", [False, True], ids=["its result", "its error"])
def test_at_pythons_end_an_operation_is_still_done(home: Path, is_broken: bool) -> None:
    """Its threads have ended by then; whoever closes a tool so late gets an answer, and does not wait for ever."""

    async def main() -> list[Record]:
        threads = ThreadPoolExecutor(1)
        journal = ThreadedJournal(open_store(home, owner=Named("p1"), now=NOON), threads, clock=SystemClock())
        threads.shutdown()
        if is_broken:
            drop_records(home)
        try:
            return await journal.records()
        finally:
            await journal.close()

    with pytest.raises(JournalError) if is_broken else contextlib.nullcontext():
        assert run_virtual(main()) == []


def test_who_lost_the_record_neither_sends_nor_swallows_a_cancel(home: Path, machine: Machine) -> None:
    """The check before a POST runs in the thread; its answer reaches the task, and so does a cancel beside it."""

    async def main() -> None:
        journal = await opened(home)
        handle = await begun(journal, machine)
        other = machine.open("p2")
        machine.dead.add("p1")
        assert other.take_over(handle.record.record_id, now=NOON) is not None

        post = asyncio.ensure_future(handle.before_post("service"))
        with pytest.raises(OwnershipLostError):
            await post
        assert (handle.is_ours, handle.record.route) == (False, "guide")

        cancelled = asyncio.ensure_future(journal.note_route(handle.record.record_id, "service", now=NOON))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await journal.close()

    asyncio.run(main())


def test_what_is_written_late_is_fenced_before_the_next_post(home: Path, machine: Machine) -> None:
    """A write that failed is repeated by copying the whole record; the copy asks nobody whether it may be sent."""

    async def main() -> None:
        journal = await opened(home)
        handle = await begun(journal, machine)
        machine.dead.add("p1")
        other = machine.open("p2")
        assert other.take_over(handle.record.record_id, now=NOON) is not None
        with full_disk():
            handle.orphan()
            await handle.settled()

        with pytest.raises(OwnershipLostError):
            await handle.before_post("service")
        await journal.close()

    asyncio.run(main())
