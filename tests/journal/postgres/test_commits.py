"""Connections that break in mid-transaction, and commits whose answer is lost: everything happens once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from flux2_tool.journal import (
    Cap,
    Claim,
    ClaimRules,
    DatabaseUrl,
    Intent,
    Outcome,
    Record,
    SqlJournal,
    ThisProcess,
    ThreadedJournal,
    open_journal,
    open_threaded_journal,
)
from flux2_tool.journal.model import SavedCopy
from tests.support.journal import NEVER, NOON, SESSION, Machine, begun
from tests.support.postgres_proxy import CutAt, PostgresProxy

Operation = Callable[[ThreadedJournal, Record], Awaitable[Any]]

COMPLETED = Outcome(state="completed", images=(("https://cdn.example/fox.png", None),), cost_usd=0.05)
COPY = SavedCopy(path="/fox.png", width_px=8, height_px=8)
OPERATIONS: dict[str, Operation] = {
    "that a POST is sent": lambda journal, record: journal.note_route(record.record_id, "service", now=NOON + 1.0),
    "the task's id": lambda journal, record: journal.note_accepted(
        record.record_id, now=NOON + 1.0, task_id="tsk_1", status_url=None, request_id=None
    ),
    "an end": lambda journal, record: journal.note_end(record.record_id, COMPLETED, now=NOON + 1.0),
    "that it was not made": lambda journal, record: journal.note_end(
        record.record_id, Outcome(state="not_created"), now=NOON + 1.0
    ),
    "a delivery": lambda journal, record: journal.note_delivered(record.record_id, now=NOON + 1.0, elsewhere="parent"),
    "what was told": lambda journal, record: journal.note_told(record.record_id, "completed"),
    "copies": lambda journal, record: journal.note_saved(
        record.record_id, [SavedCopy(path="/fox.png", width_px=8, height_px=8)]
    ),
    "that nobody waits": lambda journal, record: journal.note_orphaned(record.record_id),
    "a release": lambda journal, record: journal.release(record.record_id, abandoned=True),
    "a takeover": lambda journal, record: journal.take_over(record.record_id, now=NOON + 1.0),
    "what another journal had": lambda journal, record: journal.carry_over([replace(record, route="service")]),
    "a heartbeat": lambda journal, _: journal.heartbeat(now=NOON + 1.0),
}


def behind(proxy: PostgresProxy, place: DatabaseUrl) -> DatabaseUrl:
    """Return the place as it is reached over the proxy."""
    return replace(place, url=proxy.url())


def essence(record: Record | None) -> Record:
    """Return what of a record does not depend on who it is and when it was made."""
    assert record is not None
    assert record.owner is None or record.lease_until_s is not None
    return replace(
        record,
        **dict.fromkeys(("record_id", "dedup_key", "idempotency_key", "client_request_id", "base_url"), ""),
        body=b"",
        lease_until_s=0.0,
        created_at_s=0.0,
    )


async def opened(place: DatabaseUrl) -> ThreadedJournal:
    return await open_threaded_journal(place, owner=ThisProcess(), now=NOON)


def seen(place: DatabaseUrl) -> SqlJournal:
    """Open the journal as somebody else does, past the proxy."""
    return open_journal(place, owner=ThisProcess(), now=NOON)


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("at", ["INSERT INTO records", "COMMIT"])
def test_a_claim_is_made_once(place: DatabaseUrl, proxy: PostgresProxy, at: str, where: CutAt, tmp_path: Any) -> None:
    """If its own record is there already it is that one: no second picture, and no cap that it has used up itself."""
    machine = Machine(tmp_path)
    cap = Cap(kind="day", limit_usd=0.2, since=NOON - 1.0, until=NOON + 1.0)
    intents = machine.set_of(4, reserved_usd=0.05)

    async def main() -> Claim:
        journal = await opened(behind(proxy, place))
        proxy.cut_at(at, where)
        claim = await journal.claim(intents, ClaimRules(join="session", caps=(cap,), repeat_max=4), now=NOON)
        await journal.close(release=False)
        return claim

    claim = asyncio.run(main())
    other = seen(place)

    assert proxy.cuts == 1
    assert claim.outcome == "new"
    assert [one.record_id for one in other.records()] == [one.record_id for one in claim.records]
    assert [one.record_id for one in claim.records] == [one.record_id for one in intents]
    assert (other.spending(cap).reserved_usd, other.wrong_sums()) == (0.2, 0)
    other.close()


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_a_broken_connection_interrupts_is_written_once(
    place: DatabaseUrl, proxy: PostgresProxy, name: str, where: CutAt, tmp_path: Any
) -> None:
    """Done twice it says the same as done once, and never less."""
    machine = Machine(tmp_path)

    async def main() -> list[Record]:
        journal = await opened(behind(proxy, place))
        records = []
        for is_cut in (False, True):
            intent = replace(machine.intent(f"fox {is_cut}", reserved_usd=0.05), base_url=f"https://{is_cut}.test")
            record = begun(await journal.claim([intent], NEVER, now=NOON))
            if is_cut:
                proxy.cut_at("COMMIT", where)
            await OPERATIONS[name](journal, record)
            records.append(record)
        await journal.close(release=False)
        return records

    plain, cut = asyncio.run(main())
    other = seen(place)

    assert proxy.cuts == 1
    assert essence(other.get(cut.record_id)) == essence(other.get(plain.record_id))
    assert other.wrong_sums() == 0
    other.close()


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_equal_request_joins_what_a_lost_answer_was_about(
    place: DatabaseUrl, proxy: PostgresProxy, where: CutAt, tmp_path: Any
) -> None:
    """In between the claim is made, or it is not: whichever of the two comes first pays, and the other one joins."""
    machine = Machine(tmp_path)
    other = seen(place)

    async def main() -> Claim:
        journal = await opened(behind(proxy, place))
        proxy.cut_at("COMMIT", where)
        claiming = asyncio.ensure_future(journal.claim([machine.intent()], SESSION, now=NOON))
        while proxy.cuts == 0:  # noqa: ASYNC110 - the cut is made in a thread
            await asyncio.sleep(0)
        theirs.append(await asyncio.to_thread(other.claim, [machine.intent()], SESSION, now=NOON))
        claim = await claiming
        await journal.close(release=False)
        return claim

    theirs: list[Claim] = []
    claim = asyncio.run(main())

    assert {claim.outcome, theirs[0].outcome} == {"new", "joined"}
    assert len(other.records()) == 1
    other.close()


def test_a_claim_that_its_call_left_is_ended_all_the_same(
    place: DatabaseUrl, proxy: PostgresProxy, tmp_path: Any
) -> None:
    """Somebody presses stop while the connection breaks: nobody will send it, and the cap must not keep it."""
    machine = Machine(tmp_path)
    cap = Cap(kind="day", limit_usd=0.2, since=NOON - 1.0, until=NOON + 1.0)

    async def main() -> None:
        journal = await opened(behind(proxy, place))
        intents: list[Intent] = [machine.intent(reserved_usd=0.05)]
        with proxy.hanging():
            claiming = asyncio.ensure_future(journal.claim(intents, NEVER, now=NOON))
            await asyncio.to_thread(proxy.held.wait)
            claiming.cancel()
            await asyncio.wait([claiming])
            assert claiming.cancelled()
        await journal.close()

    asyncio.run(main())
    other = seen(place)

    assert [record.state for record in other.records()] in ([], ["not_created"])
    assert other.spending(cap).reserved_usd == 0.0
    other.close()
