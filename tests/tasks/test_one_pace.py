"""One pace for an account: engines of several machines that share a journal, against one service, on virtual time.

On SQLite they share a data folder; on PostgreSQL each has a folder of its own, and one schema.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool._clock import SystemClock
from flux2_tool.engine.wait import CancelToken
from flux2_tool.journal import JournalPlace, Owner, ThreadedJournal
from flux2_tool.journal.postgres import PostgresJournal
from flux2_tool.journal.postgres_database import open_database
from tests.support import stores
from tests.support.harness import CREATED, DONE, PRICE_PATHS, MockService, Seen, json_answer, opened_tool
from tests.support.hosted import HostedEngine
from tests.support.postgres import INSTALL, programs
from tests.support.virtual_time import run_virtual


@pytest.fixture(params=stores.STORES)
def hosts(request: pytest.FixtureRequest, home: Path) -> Hosts:
    """The machines, with a journal in either store."""
    if request.param == "postgres" and programs() is None:
        pytest.skip(INSTALL)
    return Hosts(home, is_postgres=request.param == "postgres")


class CountedJournal(PostgresJournal):
    """A journal that counts what it asks its database.

    Attributes:
        asked: How many transactions and reads there were.
    """

    asked = 0

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        self.asked += 1
        with super()._guarded():
            yield

    @contextlib.contextmanager
    def _transaction(self, **options: Any) -> Iterator[None]:
        self.asked += 1
        with super()._transaction(**options):
            yield


class Hosts:
    """Machines that share a journal.

    Args:
        home: What they share on SQLite; stands for their schema on PostgreSQL.
        is_postgres: Whether it is there.
    """

    def __init__(self, home: Path, *, is_postgres: bool) -> None:
        self.home = home
        self.is_postgres = is_postgres
        self.journals: list[CountedJournal] = []

    @contextlib.asynccontextmanager
    async def opened(self, transport: httpx.AsyncBaseTransport, **options: Any) -> AsyncIterator[HostedEngine]:
        """Open the tool on one more machine."""
        home = self.home / str(len(self.journals)) if self.is_postgres else self.home
        opener = self._open if self.is_postgres else None
        async with opened_tool(home, transport, opener=opener, **options) as tool:
            yield tool

    async def _open(self, place: JournalPlace | None, *, owner: Owner, now: float) -> ThreadedJournal:
        assert place is not None
        database = open_database(stores.url(), schema=stores.schema_of(self.home), now=now)
        # Time is the test's; what the others say is read with heartbeats and before POSTs, at moments that repeat.
        store = CountedJournal(database, owner, time_s=lambda: owner.moment().s)
        self.journals.append(store)
        return ThreadedJournal(store, ThreadPoolExecutor(1), clock=SystemClock())


class Service(MockService):
    """A service with a task for each key; the answer to a POST takes some seconds.

    Args:
        post_s: How long.
        ready_after: How many polls a picture takes.
        refused_until_s: Until when it answers 429 to POSTs.

    Attributes:
        on_poll: Called at each poll.
        poll_refusals: How many polls it answers with 429.
    """

    def __init__(self, *, post_s: float = 0.0, ready_after: int = 1, refused_until_s: float = 0.0) -> None:
        super().__init__(self._answer)
        self.in_flight = self.most_in_flight = self.poll_refusals = 0
        self.on_poll: Callable[[], None] = lambda: None
        self._post_s = post_s
        self._ready_after = ready_after
        self._refused_until_s = refused_until_s
        self._polls: Counter[str] = Counter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET" or request.url.path in PRICE_PATHS:
            return await super().handle_async_request(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            response = await super().handle_async_request(request)
            await asyncio.sleep(self._post_s)
            return response
        finally:
            self.in_flight -= 1

    def _answer(self, request: Seen) -> Any:
        if request.method == "POST":
            left_s = self._refused_until_s - request.at_s
            if left_s > 0:
                return json_answer({"error": "slow down"}, 429, retry_after=f"{left_s:g}")
            return 200, {**CREATED, "task_id": f"tsk_{request.headers['idempotency-key']}"}
        self.on_poll()
        if self.poll_refusals:
            self.poll_refusals -= 1
            return json_answer({"error": "slow down"}, 429, retry_after="5")
        self._polls[request.path] += 1
        is_done = self._polls[request.path] >= self._ready_after
        return 200, {**DONE, "id": request.path.rpartition("/")[2]} if is_done else {"status": "processing"}


async def ask(tool: HostedEngine, number: int, **options: Any) -> dict[str, Any]:
    """Ask for a picture of its own."""
    return await tool.call("text_to_image", {"prompt": f"fox number {number}"}, **options)


# ---- create slots ----------------------------------------------------------------------------------------------------


def test_max_creates_holds_for_three_machines_together(hosts: Hosts) -> None:
    """Six requests at once would hit the account's limit, which would delay all of them."""
    service = Service(post_s=2.0)

    async def main() -> list[dict[str, Any]]:
        async with contextlib.AsyncExitStack() as stack:
            tools = [await stack.enter_async_context(hosts.opened(service, max_creates=2)) for _ in range(3)]
            return await asyncio.gather(
                *(ask(tool, number) for number in range(12) for tool in tools[number % 3 :][:1])
            )

    results = run_virtual(main())

    assert [result["task"]["state"] for result in results] == ["completed"] * 12
    assert service.most_in_flight == 2
    assert len(service.posts) == 12


def test_a_set_takes_its_slots_one_by_one(hosts: Hosts) -> None:
    """Two sets that each waited for all of their slots would wait for ever."""
    service = Service(post_s=1.0)

    async def main() -> list[dict[str, Any]]:
        async with hosts.opened(service, max_creates=2) as one, hosts.opened(service, max_creates=2) as two:
            four = [{"prompt": f"fox of {name}", "count": 4} for name in ("one", "two")]
            calls = (tool.call("text_to_image", asked) for tool, asked in zip((one, two), four, strict=True))
            return await asyncio.gather(*calls)

    results = run_virtual(main())

    assert [len(result["images"]) for result in results] == [4, 4]
    assert service.most_in_flight == 2


@pytest.mark.parametrize("how", ["stopped", "at its deadline"])
def test_a_call_that_ends_while_others_have_the_slots_sends_nothing(hosts: Hosts, how: str) -> None:
    """The same as in the queue of its own process: it cost nothing, and is not sent later by anybody."""
    service, cancel = Service(post_s=20.0), CancelToken()

    async def main() -> tuple[dict[str, Any], list[str]]:
        async with hosts.opened(service, max_creates=1) as one, hosts.opened(service, max_creates=1) as two:
            first = asyncio.create_task(ask(one, 0))
            await asyncio.sleep(0.5)
            late = asyncio.create_task(ask(two, 1, cancel=cancel, wait_s=100.0 if how == "stopped" else 4.0))
            await asyncio.sleep(3.0)
            if how == "stopped":
                cancel.set()
            ended = await late
            await first
            await asyncio.sleep(60.0)
            return ended, [post.body.decode() for post in service.posts]

    ended, sent = run_virtual(main())

    assert ended["error"]["charged"] == "no"
    assert ended["error"]["code"] == ("cancelled" if how == "stopped" else "rate_limited")
    assert len(sent) == 1
    with stores_of(hosts) as states:
        assert sorted(states) == ["completed", "not_created"]


@contextlib.contextmanager
def stores_of(hosts: Hosts) -> Iterator[list[str]]:
    """Yield the states of all records."""
    journal = (
        PostgresJournal(open_database(stores.url(), schema=stores.schema_of(hosts.home), now=0.0), _Reader())
        if hosts.is_postgres
        else stores.open_journal(hosts.home, owner=_Reader(), now=0.0)
    )
    try:
        yield [record.state for record in journal.records()]
    finally:
        journal.close()


class _Reader(stores.ThisProcess):
    """Whoever looks into the journal."""


# ---- 429s ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opened", ["before", "after"])
def test_a_429_on_one_machine_holds_back_the_others(hosts: Hosts, opened: str) -> None:
    """The limit is the account's: what was refused to one would be refused to all."""
    service = Service(refused_until_s=20.0)

    async def main() -> list[dict[str, Any]]:
        async with hosts.opened(service) as one, hosts.opened(service) as two:
            if opened == "before":
                await two.call("get_image_task", {"task_id": "tsk_other"})
            first = asyncio.create_task(ask(one, 0))
            await asyncio.sleep(2.0)
            return [await ask(two, 1), await first]

    results = run_virtual(main())

    assert [result["task"]["state"] for result in results] == ["completed"] * 2
    assert [post.at_s >= 20.0 for post in service.posts] == [False, True, True], "and one was refused"


# ---- what it costs ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(programs() is None, reason=INSTALL)
@pytest.mark.parametrize("refused_until_s", [0.0, 5.0])
def test_polls_ask_the_database_nothing(home: Path, refused_until_s: float) -> None:
    """A thousand images in progress poll some hundred times a second; recovering from a 429 costs some writes once."""
    hosts = Hosts(home, is_postgres=True)
    service = Service(ready_after=45, refused_until_s=refused_until_s)

    marks: list[tuple[float, int]] = []

    async def main() -> None:
        async with hosts.opened(service) as tool:
            service.on_poll = lambda: marks.append((asyncio.get_running_loop().time(), hosts.journals[0].asked))
            await ask(tool, 0, wait_s=600.0)

    run_virtual(main())
    (begun_s, before), (ended_s, after) = marks[15], marks[40]

    assert after - before <= (ended_s - begun_s) / 10.0 + 1, "the heartbeats, and nothing else"


@pytest.mark.skipif(programs() is None, reason=INSTALL)
def test_a_pace_that_cannot_be_shared_is_each_process_own(home: Path) -> None:
    """What is shared helps to send; what was accepted is followed without it, as slowly as RunAPI asks."""
    hosts = Hosts(home, is_postgres=True)
    service = Service(ready_after=5)

    def break_it() -> None:
        with stores.connected(stores.schema_of(home)) as connection:
            connection.execute("DROP TABLE IF EXISTS account_pace")

    async def main() -> dict[str, Any]:
        async with hosts.opened(service) as tool:
            service.on_poll = break_it
            service.poll_refusals = 2
            return await ask(tool, 0)

    result = run_virtual(main())

    assert result["task"]["state"] == "completed"
    refused_s = [poll.at_s for poll in service.gets[:2]]
    assert service.gets[1].at_s - refused_s[0] >= 5.0
    assert service.gets[2].at_s - refused_s[1] >= 5.0
