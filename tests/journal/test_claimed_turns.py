"""A claim that takes its create slot, too: what it says, who counts it, and for how long it stands for a POST."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.journal import (
    AccountPaces,
    Claim,
    CreateLimit,
    Intent,
    JournalError,
    Moment,
    OwnershipLostError,
    Record,
    RecordHandle,
    SqliteJournal,
    ThreadedJournal,
    open_threaded_journal,
)
from flux2_tool.journal.lease_table import JUST_S
from flux2_tool.runapi.rate_limit import PaceChange
from tests.support.journal import NEVER, NOON, SESSION, Machine, Named, accept, begun, end
from tests.support.stores import place_of
from tests.support.virtual_time import VirtualClock

pytestmark = pytest.mark.sqlite_only("on a server no claim asks for a slot")

BASE_URL, KEY = "https://runapi.test", "0123456789abcdef"


def limit(most: int = 1, *, own: int = 0) -> CreateLimit:
    """Return how many POSTs of the tests' account may be in flight."""
    return CreateLimit(most, own, BASE_URL, KEY)


def claimed(journal: SqliteJournal, intent: Intent, rules: Any = NEVER, *, most: int = 1) -> Claim:
    """Claim a picture that is to be sent at once."""
    return journal.claim([intent], rules, now=NOON, creates=limit(most))


def may_send(journal: SqliteJournal, record: Record, *, most: int = 1) -> bool:
    """Note a POST, and return whether it may be sent."""
    return journal.note_route(record.record_id, "guide", now=NOON, creates=limit(most))[0].is_free


def test_a_claim_takes_a_slot_that_counts_for_all(machine: Machine) -> None:
    """One slot for two processes: whoever comes second has a place in the queue, and sends when the first is done."""
    one, two = machine.open("p1"), machine.open("p2")
    first, second = claimed(one, machine.intent()), claimed(two, machine.intent())
    assert (first.has_turn, second.has_turn) == (True, False)
    assert not may_send(two, begun(second))

    accept(one, begun(first))

    assert [woken.record_id for woken in one.take_woken()] == [begun(second).record_id]
    assert may_send(two, begun(second))


def test_a_claim_after_a_429_of_another_process_has_no_turn(machine: Machine) -> None:
    """It would be refused, too."""
    one, two = machine.open("p1"), machine.open("p2")
    one.note_pace(PaceChange(seen=0, closed_s=20.0, is_refusal=True), base_url=BASE_URL, fingerprint=KEY)

    claim = claimed(two, machine.intent())

    assert not claim.has_turn
    assert claim.turn is not None
    assert claim.turn.closed_s == 20.0
    assert claim.pace is not None
    assert claim.pace.pace.refusals == 1


def test_only_what_is_new_takes_a_slot(machine: Machine) -> None:
    """What joins, or is refused, sends nothing."""
    journal = machine.open()
    claimed(journal, machine.intent(), SESSION)

    joined = claimed(journal, machine.intent(), SESSION)

    assert (joined.outcome, joined.turn) == ("joined", None)
    assert journal.rows_of("create_slots", ["record_id"]) == [(begun_of(journal),)]


def begun_of(journal: SqliteJournal) -> str:
    """Return the id of the only record."""
    [record] = journal.records()
    return record.record_id


@pytest.mark.parametrize("how", ["ended as unsent", "cancelled", "killed"])
def test_a_claim_that_is_not_sent_gives_its_slot_back(machine: Machine, how: str) -> None:
    """Nobody waits for a POST that never comes."""
    one, two = machine.open("p1"), machine.open("p2")
    record, waiting = begun(claimed(one, machine.intent())), begun(claimed(two, machine.intent()))
    assert not may_send(two, waiting)

    if how == "ended as unsent":
        one.end_unsent([record.record_id], now=NOON)
        assert [woken.record_id for woken in one.take_woken()] == [waiting.record_id]
    elif how == "cancelled":
        end(one, record, "not_created")
    else:
        machine.dead.add("p1")

    assert may_send(two, waiting)


def test_a_claim_that_records_nothing_takes_no_slot(machine: Machine) -> None:
    """Its call has ended while it waited for a lock: both are one transaction."""
    journal = machine.open()

    with pytest.raises(JournalError, match="has ended"):
        journal.claim([machine.intent()], NEVER, now=NOON, creates=limit(), is_left=lambda: True)

    assert journal.rows_of("create_slots", ["record_id"]) == []


# ---- how long it stands for a POST -----------------------------------------------------------------------------------


@asynccontextmanager
async def handle_of(machine: Machine, home: Path) -> AsyncIterator[tuple[RecordHandle, ThreadedJournal]]:
    """Claim a picture that is to be sent at once; its handle, and its journal."""
    journal = await open_threaded_journal(place_of(home), owner=machine.open("p1")._owner, now=NOON)
    claim = await journal.claim([machine.intent()], NEVER, now=NOON, creates=limit())
    assert claim.has_turn

    def moment() -> Moment:
        return Moment("a boot", machine.uptime_s["a boot"])

    yield (
        RecordHandle(journal, begun(claim), now=lambda: NOON, moment=moment, is_ours=True, has_turn=True),
        journal,
    )
    await journal.close()


async def is_refused(handle: RecordHandle, machine: Machine, route: Any = "guide") -> bool:
    """Ask for a POST after another process has taken the record over; return whether that was noticed."""
    machine.dead.add("p1")
    assert machine.open("p2").take_over(handle.record.record_id, now=NOON + 100.0) is not None
    try:
        await handle.before_post(route, creates=limit())
    except OwnershipLostError:
        return True
    return False


@pytest.mark.parametrize("since", ["a suspend", "the other route", "a second POST", "a change", "another journal"])
def test_whose_a_record_is_is_looked_at_again_after(machine: Machine, home: Path, since: str) -> None:
    """Whatever comes between a claim and its POST takes time, in which another process may have sent it."""

    async def main() -> bool:
        async with handle_of(machine, home) as (handle, _):
            route = "service" if since == "the other route" else "guide"
            if since == "a suspend":
                machine.wait(JUST_S + 0.1)
            elif since == "a second POST":
                assert await handle.before_post("guide", creates=limit()) is None
            elif since == "a change":
                handle.orphan()
            elif since == "another journal":
                again = await open_threaded_journal(place_of(home), owner=Named("p1"), now=NOON)
                handle.move_to(again, written=handle.record)
                refused = await is_refused(handle, machine, route)
                await again.close()
                return refused
            return await is_refused(handle, machine, route)

    assert asyncio.run(main())


@pytest.mark.parametrize("clock", ["set back", "of another boot"])
def test_a_claim_of_another_clock_stands_for_nothing(machine: Machine, home: Path, clock: str) -> None:
    """Its age cannot be told."""

    async def main() -> bool:
        async with handle_of(machine, home) as (handle, journal):
            moment = Moment("a boot", -5.0) if clock == "set back" else Moment("another boot", 0.0)
            late = RecordHandle(
                journal, handle.record, now=lambda: NOON, moment=lambda: moment, is_ours=True, has_turn=True
            )
            return await is_refused(late, machine)

    assert asyncio.run(main())


def test_a_pace_that_a_claim_reads_holds_for_its_post(machine: Machine, home: Path) -> None:
    """Another process has met a 429 since this one last heard of any."""
    other = machine.open("p2")

    async def main() -> bool:
        async with handle_of(machine, home) as (_, journal):
            paces = AccountPaces(VirtualClock(), name="p1")
            limiter = paces.limiter(BASE_URL, KEY)
            await paces.attach(journal)
            other.note_pace(PaceChange(seen=0, closed_s=20.0, is_refusal=True), base_url=BASE_URL, fingerprint=KEY)
            await journal.claim([machine.intent()], NEVER, now=NOON, creates=limit())
            return limiter.is_slowed

    assert asyncio.run(main())
