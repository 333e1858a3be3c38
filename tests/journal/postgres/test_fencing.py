"""Ownership across hosts: the lease alone decides, by the server's clock, and who lost it neither sends nor writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from flux2_tool.journal import (
    DatabaseUrl,
    Moment,
    Outcome,
    OwnershipLostError,
    Record,
    RecordHandle,
    SqlJournal,
    open_journal,
    open_threaded_journal,
)
from flux2_tool.journal.lease_table import LEASE_S
from tests.support.journal import NEVER, NOON, Machine, Named, accept, begun, complete
from tests.support.postgres import PostgresServer

FENCED: dict[str, Callable[[SqlJournal, Record], object]] = {
    "the task's id": lambda journal, record: accept(journal, record, "tsk_other"),
    "a lost response": lambda journal, record: journal.note_end(record.record_id, Outcome(state="unknown"), now=NOON),
    "a failure": lambda journal, record: journal.note_end(record.record_id, Outcome(state="failed"), now=NOON),
    "what it knew": lambda journal, record: journal.carry_over([record]),
    "a release": lambda journal, record: journal.release(record.record_id),
    "a heartbeat": lambda journal, _: journal.heartbeat(now=NOON),
}


def pass_lease(server: PostgresServer, place: DatabaseUrl) -> None:
    """Let the time of every lease pass on the server's clock."""
    server.query(f"UPDATE {place.schema}.records SET lease_until_s = lease_until_s - {LEASE_S + 1.0}")  # noqa: S608


def test_a_lease_is_of_the_servers_clock(server: PostgresServer, place: DatabaseUrl, tmp_path: Path) -> None:
    """Hosts disagree about the time, and one may be a year ahead: neither ends a lease early nor makes it longer."""
    mine, other = (open_journal(place, owner=Named(name), now=NOON) for name in ("host-a", "host-b"))
    record = begun(mine.claim([Machine(tmp_path).intent()], NEVER, now=NOON))

    early = [other.take_over(record.record_id, now=NOON + step_s) for step_s in (-1e9, 0.0, 31.0, 1e9)]
    pass_lease(server, place)
    late = other.take_over(record.record_id, now=NOON)

    assert early == [None] * 4
    assert late is not None
    assert late.owner == "host-b"
    for journal in (mine, other):
        journal.close()


def test_a_living_process_that_renews_nothing_loses(server: PostgresServer, place: DatabaseUrl, tmp_path: Path) -> None:
    """Also on the same machine: a stopped process looks to other hosts like one that is cut off."""
    mine = open_journal(place, owner=Named("p1"), now=NOON)
    other = open_journal(place, owner=Named("p2", alive=["p1"]), now=NOON)
    record = begun(mine.claim([Machine(tmp_path).intent()], NEVER, now=NOON))
    pass_lease(server, place)

    assert other.take_over(record.record_id, now=NOON) is not None
    for journal in (mine, other):
        journal.close()


@pytest.mark.parametrize("name", FENCED)
def test_who_lost_its_lease_writes_nothing(
    server: PostgresServer, place: DatabaseUrl, name: str, tmp_path: Path
) -> None:
    """The other host goes on with the record; what the first one says of it is of the past."""
    mine, other = (open_journal(place, owner=Named(name), now=NOON) for name in ("host-a", "host-b"))
    record = begun(mine.claim([Machine(tmp_path).intent(reserved_usd=0.05)], NEVER, now=NOON))
    pass_lease(server, place)
    assert other.take_over(record.record_id, now=NOON) is not None
    accept(other, record, "tsk_1")
    before = other.get(record.record_id)

    FENCED[name](mine, record)

    assert other.get(record.record_id) == before
    with pytest.raises(OwnershipLostError):
        mine.note_route(record.record_id, "service", now=NOON)
    complete(other, record)
    assert [(one.state, one.task_id) for one in other.records()] == [("completed", "tsk_1")]
    assert other.wrong_sums() == 0
    for journal in (mine, other):
        journal.close()


def test_who_lost_its_lease_sends_nothing(server: PostgresServer, place: DatabaseUrl, tmp_path: Path) -> None:
    """Before each POST the database is asked."""
    other = open_journal(place, owner=Named("host-b"), now=NOON)

    async def main() -> RecordHandle:
        mine = await open_threaded_journal(place, owner=Named("host-a"), now=NOON)
        record = begun(await mine.claim([Machine(tmp_path).intent()], NEVER, now=NOON))
        handle = RecordHandle(mine, record, now=lambda: NOON, moment=lambda: Moment("a boot", 0.0), is_ours=True)
        await handle.before_post("guide")
        pass_lease(server, place)
        assert other.take_over(record.record_id, now=NOON) is not None
        with pytest.raises(OwnershipLostError):
            await handle.before_post("guide")
        await mine.close()
        return handle

    assert not asyncio.run(main()).is_ours
    assert [record.owner for record in other.records()] == ["host-b"]
    other.close()


def test_of_many_that_would_take_over_one_does(server: PostgresServer, place: DatabaseUrl, tmp_path: Path) -> None:
    """A host was lost, and all the others look at the same moment."""
    mine = open_journal(place, owner=Named("host-a"), now=NOON)
    others = [open_journal(place, owner=Named(f"host-{number}"), now=NOON) for number in range(8)]
    record = begun(mine.claim([Machine(tmp_path).intent()], NEVER, now=NOON))
    pass_lease(server, place)

    async def main() -> list[Record | None]:
        return await asyncio.gather(
            *(asyncio.to_thread(other.take_over, record.record_id, now=NOON) for other in others)
        )

    assert sum(taken is not None for taken in asyncio.run(main())) == 1
    for journal in (mine, *others):
        journal.close()
