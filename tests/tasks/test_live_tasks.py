"""What a process keeps of its tasks in memory."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from flux2_tool._clock import SystemClock
from flux2_tool.journal import Moment, RecordHandle, open_threaded_journal
from flux2_tool.runapi.cache import RouteCache
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.http_client import open_http
from flux2_tool.runapi.rate_limit import ConcurrencyLimiter
from flux2_tool.tasks.dependencies import TaskDependencies
from flux2_tool.tasks.live_tasks import MAX_RECORDED, LiveTasks
from flux2_tool.tasks.poll_scheduler import PollScheduler
from flux2_tool.tasks.task import ImageTask
from tests.support.harness import BASE_URL, numbered, opened_tool
from tests.support.journal import NEVER, NOON, Machine, Named, begun, end
from tests.support.stores import place_of
from tests.support.virtual_time import run_virtual

MakeTask = Callable[..., ImageTask]


@asynccontextmanager
async def made_tasks(machine: Machine) -> AsyncIterator[MakeTask]:
    """Make image tasks of records, of a session, that run or are over."""
    store = machine.open()
    journal = await open_threaded_journal(place_of(machine.home), owner=Named("p1"), now=NOON)
    dependencies = TaskDependencies(
        clock=SystemClock(),
        random=random.Random(7),  # noqa: S311 - jitter
        route_cache=RouteCache(None),
        poll_scheduler=PollScheduler(typical_s=lambda _model, _resolution: 6.0),
        create_slots=ConcurrencyLimiter(1),
        route="auto",
        resend_window_s=60.0,
    )
    async with open_http(BASE_URL) as http:
        client = RunapiClient(http, base_url=BASE_URL, api_key=None, user_agent="test/1")

        def image_task(*, session: str | None = "a session", is_over: bool = False) -> ImageTask:
            record = begun(machine.begin(store, NEVER, session=session))
            if is_over:
                end(store, record, "completed")
            record = store.get(record.record_id) or record
            handle = RecordHandle(journal, record, now=lambda: NOON, moment=lambda: Moment("a boot", 0.0), is_ours=True)
            return ImageTask.from_record(client, handle, dependencies=dependencies)

        yield image_task
    await journal.close()
    machine.close()


def test_the_oldest_ended_tasks_are_dropped_and_a_running_one_never(home: Path) -> None:
    """A gateway runs for months; an equal call must still find the image that is being made."""

    async def main() -> None:
        async with made_tasks(Machine(home)) as image_task:
            running, over = image_task(), image_task(is_over=True)
            tasks = LiveTasks()
            tasks.add("running", running)
            for number in range(MAX_RECORDED):
                tasks.add(f"over-{number}", over)

            assert tasks.of_record("running") is running
            assert tasks.of_record("over-0") is None
            assert tasks.of_record(f"over-{MAX_RECORDED - 1}") is over
            assert len(list(tasks)) < MAX_RECORDED
            assert len(tasks.of_sessions(["a session"], or_records=["over-0"])) == len(list(tasks))

    asyncio.run(main())


def test_a_conversation_finds_its_tasks_and_those_that_the_journal_names(home: Path) -> None:
    """Without a look at the thousands of others; also after an equal request of another conversation moved one."""

    async def main() -> None:
        async with made_tasks(Machine(home)) as image_task:
            tasks = LiveTasks()
            fox, cat, whale = image_task(session="one"), image_task(session="two"), image_task(session=None)
            for name, task in {"fox": fox, "cat": cat, "whale": whale}.items():
                tasks.add(name, task)

            assert tasks.of_sessions(["one"], or_records=()) == [fox]
            assert tasks.of_sessions(["two", None, "three"], or_records=()) == [cat, whale]
            assert tasks.of_sessions(["two"], or_records=["fox", "cat", "another process's"]) == [fox, cat]
            assert whale.record_handle is not None
            whale.record_handle.record = replace(whale.record_handle.record, session="three", dedup_key="a whale")
            tasks.note_moved("whale")
            assert tasks.of_sessions([None], or_records=()) == []
            assert tasks.of_equal("a whale") == [whale.record_handle]
            assert tasks.of_equal("a fox") == [fox.record_handle, cat.record_handle]
            assert tasks.of_sessions(["three"], or_records=()) == [whale]
            tasks.add("fox", again := image_task(session="three"))
            assert tasks.of_sessions(["one"], or_records=()) == []
            assert tasks.of_sessions(["three"], or_records=()) == [whale, again]
            tasks.discard("fox")
            assert tasks.of_sessions(["three"], or_records=["fox"]) == [whale]
            assert tasks.of_equal("a fox") == [cat.record_handle]

    asyncio.run(main())


def test_two_lookups_of_one_task_share_its_polls(home: Path) -> None:
    """Also when another task was looked up in between: twice the questions would use up the account's rate."""
    transport = numbered({"status": "processing"})

    async def main() -> None:
        async with opened_tool(home, transport, host="cli") as tool:

            async def look(task_id: str) -> None:
                await tool.call("get_image_task", {"task_id": task_id}, wait_s=60.0)

            for begun in (looks := [asyncio.ensure_future(look(task_id)) for task_id in ("tsk_a", "tsk_b", "tsk_a")]):
                await asyncio.sleep(1.0)
                assert not begun.done()
            await asyncio.gather(*looks)

    run_virtual(main())
    polls = Counter(poll.path.rpartition("/")[2] for poll in transport.gets)

    assert polls["tsk_a"] <= polls["tsk_b"] + 2
