"""What a process keeps of its tasks in memory."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from flux2_tool._clock import SystemClock
from flux2_tool.journal import RecordHandle
from flux2_tool.runapi.cache import RouteCache
from flux2_tool.runapi.client import RunapiClient, open_http
from flux2_tool.runapi.rate_limit import ConcurrencyLimiter
from flux2_tool.tasks.dependencies import TaskDependencies
from flux2_tool.tasks.live_tasks import MAX_RECORDED, LiveTasks
from flux2_tool.tasks.poll_schedule import PollScheduler
from flux2_tool.tasks.task import ImageTask
from tests.support.harness import BASE_URL
from tests.support.journal import NEVER, NOON, Machine, begun, end


def test_the_oldest_ended_tasks_are_dropped_and_a_running_one_never(home: Path) -> None:
    """A gateway runs for months; an equal call must still find the image that is being made."""
    machine = Machine(home)
    journal = machine.open()

    async def main() -> None:
        dependencies = TaskDependencies(
            clock=SystemClock(),
            random=random.Random(7),  # noqa: S311 - jitter
            route_cache=RouteCache(None),
            poll_scheduler=PollScheduler(typical_s=lambda _model, _resolution: 6.0, history=lambda _kind: ()),
            create_slots=ConcurrencyLimiter(1),
            route="auto",
            resend_window_s=60.0,
        )
        async with open_http(BASE_URL) as http:
            client = RunapiClient(http, base_url=BASE_URL, api_key=None, user_agent="test/1")

            def image_task(*, is_over: bool) -> ImageTask:
                record = begun(machine.begin(journal, NEVER))
                if is_over:
                    end(journal, record, "completed")
                record = journal.get(record.record_id) or record
                handle = RecordHandle(journal, record, now=lambda: NOON, is_ours=True)
                return ImageTask.from_record(client, handle, dependencies=dependencies)

            running, over = image_task(is_over=False), image_task(is_over=True)
            tasks = LiveTasks()
            tasks.add("running", running)
            for number in range(MAX_RECORDED):
                tasks.add(f"over-{number}", over)

            assert tasks.of_record("running") is running
            assert tasks.of_record("over-0") is None
            assert tasks.of_record(f"over-{MAX_RECORDED - 1}") is over
            assert len(list(tasks)) < MAX_RECORDED

    asyncio.run(main())
    machine.close()
