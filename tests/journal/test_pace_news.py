"""What a process says of an account's pace reaches the others at once, through a real PostgreSQL server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from flux2_tool.journal import (
    AccountPace,
    AccountPaces,
    CreateLimit,
    DatabaseUrl,
    News,
    ThreadedJournal,
    open_threaded_journal,
)
from flux2_tool.journal.account_pace import FreeTurn, read_message
from flux2_tool.journal.postgres_listener import channel_of
from flux2_tool.runapi.rate_limit import Pace, PaceChange, RateLimiter
from tests.support import stores
from tests.support.journal import NEVER, NOON, Machine, Named
from tests.support.postgres import INSTALL, programs
from tests.support.virtual_time import VirtualClock, run_virtual
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(programs() is None, reason=INSTALL)
BASE_URL, KEY = "https://runapi.test", "0123456789abcdef"
PATIENCE_S = 30.0


class Process:
    """One process of an account.

    Args:
        name: Its own.
        journal: Open.
    """

    def __init__(self, name: str, journal: ThreadedJournal) -> None:
        self.name = name
        self.journal = journal
        self.heard: asyncio.Queue[News] = asyncio.Queue()

    def hear(self, news: Sequence[News]) -> None:
        """Take what is said."""
        for one in news:
            self.heard.put_nowait(one)

    async def next(self) -> News:
        """Return what is said next."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.heard.get()

    async def meets_429(self, closed_s: float) -> AccountPace:
        """Tell of a 429."""
        met = PaceChange(seen=-1, is_refusal=True, closed_s=closed_s)
        return await self.journal.note_pace(met, base_url=BASE_URL, fingerprint=KEY)


@contextlib.asynccontextmanager
async def processes(home: Path, count: int) -> AsyncIterator[list[Process]]:
    """Open the journal in some processes that hear each other."""
    place = DatabaseUrl(stores.url(), schema=stores.schema_of(home))
    opened = []
    for number in range(count):
        name = f"p{number}"
        opened.append(Process(name, await open_threaded_journal(place, owner=Named(name), now=NOON)))
    try:
        for process in opened:
            await process.journal.listen(process.hear)
        await asyncio.to_thread(wait_until, lambda: _listening(home) == count)
        yield opened
    finally:
        for process in opened:
            await process.journal.close()


async def closed_pace(process: Process) -> AccountPace:
    """Return the next that a process hears of an account that may send nothing."""
    while True:
        news = await process.next()
        if isinstance(news, AccountPace) and news.pace.closed_s > 1.0:
            return news


def test_a_429_is_told_to_the_others_at_once(home: Path) -> None:
    """Within moments, and without that anybody asks."""

    async def main() -> News:
        async with processes(home, 2) as (one, two):
            await one.meets_429(40.0)
            return await closed_pace(two)

    news = asyncio.run(main())

    assert isinstance(news, AccountPace)
    assert (news.base_url, news.fingerprint) == (BASE_URL, KEY)
    assert 30.0 < news.pace.closed_s <= 40.0
    assert news.pace.gap_s >= 0.1


def test_what_was_missed_while_the_connection_was_lost_is_read(home: Path) -> None:
    """A server that is restarted tells nobody what was said meanwhile."""

    async def main() -> News:
        async with processes(home, 2) as (one, two):
            stores.break_connections()
            await one.meets_429(50.0)
            return await closed_pace(two)

    news = asyncio.run(main())

    assert isinstance(news, AccountPace)
    assert news.pace.closed_s > 10.0


def test_a_slot_that_becomes_free_is_told_to_who_waits_for_it(home: Path) -> None:
    """The next in the queue looks at once, and nobody else."""
    machine = Machine(home)
    intents = [machine.intent(f"fox {number}") for number in range(3)]
    limit = CreateLimit(1, 0, BASE_URL, KEY)

    async def main() -> tuple[list[bool], News]:
        async with processes(home, 3) as opened:
            free = []
            for process, intent in zip(opened, intents, strict=True):
                await process.journal.claim([intent], NEVER, now=NOON)
                turn, _ = await process.journal.note_route(intent.record_id, "guide", now=NOON, creates=limit)
                free.append(turn.is_free)
            await opened[0].journal.note_accepted(
                intents[0].record_id, now=NOON, task_id="tsk_1", status_url=None, request_id=None
            )
            while True:
                news = await opened[1].next()
                if isinstance(news, FreeTurn):
                    return free, news

    free, news = asyncio.run(main())

    assert free == [True, False, False]
    assert news == FreeTurn(intents[1].record_id)


def test_after_a_429_two_processes_send_as_much_as_one(home: Path) -> None:
    """Each hears how many they are and which of them it is; each good response of either counts."""

    async def main() -> tuple[list[float], bool]:
        place = DatabaseUrl(stores.url(), schema=stores.schema_of(home))
        machine = Machine(home)
        paces, limiters, journals = [], [], []
        for name in ("p0", "p1"):
            journal = await open_threaded_journal(place, owner=Named(name), now=NOON)
            await journal.claim([machine.intent(f"fox of {name}")], NEVER, now=NOON)
            pace = AccountPaces(VirtualClock(), name=name)
            limiters.append(pace.limiter(BASE_URL, KEY))
            await pace.attach(journal)
            paces.append(pace)
            journals.append(journal)
        await asyncio.to_thread(wait_until, lambda: _listening(home) == 2)
        one, two = limiters
        one.record_response(is_rate_limited=True, sent_at_s=await one.acquire(), retry_after_s=5.0)
        await asyncio.to_thread(wait_until, lambda: two.is_slowed)  # time stands still
        each = await asyncio.gather(*(_permits(limiter, 4) for limiter in limiters))
        sent_s = sorted([*each[0], *each[1]])
        for _ in range(12):
            two.record_response(is_rate_limited=False, sent_at_s=await two.acquire())
        await asyncio.to_thread(wait_until, lambda: not one.is_slowed)
        for pace, journal in zip(paces, journals, strict=True):
            await pace.aclose()
            await journal.close()
        return sent_s, one.is_slowed

    sent_s, is_slowed = run_virtual(main())

    assert sent_s == pytest.approx([5.0 + 0.1 * number for number in range(8)], abs=0.05)
    assert not is_slowed


def _listening(home: Path) -> int:
    """Return how many processes listen to a journal."""
    with stores.connected() as connection:
        listen = f'LISTEN "{channel_of(stores.schema_of(home))}"'
        [(count,)] = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE query = %s", (listen,))
        return int(count)


async def _permits(limiter: RateLimiter, count: int) -> list[float]:
    return [await limiter.acquire() for _ in range(count)]


def test_a_message_that_cannot_be_read_is_ignored() -> None:
    """A newer version may say what this one does not know."""
    pace = AccountPace(
        base_url=BASE_URL,
        fingerprint=KEY,
        pace=Pace(version=1, refusals=1, in_a_row=1, gap_s=0.1, closed_s=2.5),
        owners=("a", "b"),
    )

    assert read_message(pace.message()) == pace
    assert [read_message(text) for text in ("", "[]", "{}", '{"pace": 1}', "nonsense")] == [None] * 5


def test_a_message_has_no_more_than_a_server_takes() -> None:
    """With very many processes each learns from its heartbeat which of them it is."""
    owners = tuple(f"a host with a long name:{number}:12345678:abcdef12" for number in range(500))
    pace = AccountPace(
        base_url=BASE_URL,
        fingerprint=KEY,
        pace=Pace(version=1, refusals=1, in_a_row=1, gap_s=0.1, closed_s=2.5),
        owners=owners,
    )

    told = read_message(pace.message())

    assert isinstance(told, AccountPace)
    assert told.pace == pace.pace
    assert len(pace.message()) < 8000
