"""A claim that was recorded though its call was told that it was not: it is ended before anybody sends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flux2_tool._clock import SystemClock
from flux2_tool.exceptions import JournalUnavailableError
from flux2_tool.journal import Cap, DatabaseUrl, JournalPlace, Record, ThisProcess, open_journal, open_threaded_journal
from flux2_tool.journal.fallback import JournalWithFallback
from flux2_tool.journal.process_id import Owner
from flux2_tool.journal.protocol import Journal
from tests.support.journal import NOON, SESSION, Machine
from tests.support.postgres_proxy import PostgresProxy

CAP = Cap(kind="day", limit_usd=0.05, since=NOON - 1.0, until=NOON + 1.0)
RULES = replace(SESSION, caps=(CAP,))
Next = Callable[[JournalWithFallback, Machine], Awaitable[object]]


class Hurried(SystemClock):
    """A clock on which every call's patience is over at once, as when the database stays away for longer."""

    def __init__(self) -> None:
        self._s = 0.0

    def monotonic(self) -> float:
        self._s += 60.0
        return self._s


async def open_hurried(place: JournalPlace | None, *, owner: Owner, now: float) -> Journal:
    return await open_threaded_journal(place, owner=owner, now=now, clock=Hurried())


async def claim_equal(journals: JournalWithFallback, machine: Machine) -> None:
    claim, _, _ = await journals.claim([machine.intent(reserved_usd=0.05)], RULES, within_s=60.0)
    assert claim.outcome == "new"  # neither joined to what nobody sends, nor over the cap because of it


NEXT: dict[str, Next] = {
    "the next heartbeat": lambda journals, _: journals.heartbeat(),
    "the next equal claim": claim_equal,
    "the end of the process": lambda journals, _: journals.close(),
}


@pytest.mark.parametrize("what", NEXT)
def test_what_a_refused_claim_has_recorded_is_ended(
    place: DatabaseUrl, proxy: PostgresProxy, what: str, tmp_path: Path
) -> None:
    """Its call was told that nothing is sent and nothing charged; a later `resume` would send and pay it."""
    machine = Machine(tmp_path)
    other = open_journal(place, owner=ThisProcess(), now=NOON)

    async def main() -> None:
        journals = JournalWithFallback(
            place=replace(place, url=proxy.url()),
            mode="required",
            owner=ThisProcess(),
            now=lambda: NOON,
            opener=open_hurried,
            record_handles=list,
        )
        await journals.for_spending()
        proxy.cut_at("COMMIT", "after")
        with pytest.raises(JournalUnavailableError):
            await journals.claim([refused], RULES, within_s=60.0)
        recorded.extend(other.records())
        await NEXT[what](journals, machine)
        ended.extend(other.records())
        await journals.close()

    refused, recorded, ended = machine.intent(reserved_usd=0.05), list[Record](), list[Record]()
    asyncio.run(main())

    assert [(one.record_id, one.state) for one in recorded] == [(refused.record_id, "sending")]
    assert [(one.state, one.owner) for one in ended if one.record_id == refused.record_id] == [("not_created", None)]
    assert other.spending(CAP).reserved_usd == (0.05 if what == "the next equal claim" else 0.0)
    assert other.wrong_sums() == 0
    other.close()
