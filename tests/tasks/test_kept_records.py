"""Finished records read a page at a time: each one once, in the order of their end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flux2_tool.journal import JournalWithFallback, open_threaded_journal
from flux2_tool.tasks.kept_records import PAGE, KeptRecords
from flux2_tool.tasks.live_tasks import LiveTasks
from tests.support.journal import NEVER, NOON, Machine, Named, accept, begun, complete, end
from tests.support.stores import place_of


@pytest.mark.parametrize("same_moment", [1, PAGE - 1, PAGE, 2 * PAGE + 1], ids=lambda count: f"{count} at a moment")
def test_all_that_were_completed_are_read_in_pages(home: Path, same_moment: int) -> None:
    """Also where more than a page of them ended at one moment, after a sleep of the machine."""
    machine = Machine(home)
    store, ended = machine.open(), dict[str, float]()
    for number in range(3 * PAGE):
        record = begun(machine.begin(store, NEVER))
        accept(store, record, f"tsk_{number}")
        ended[record.record_id] = float(-number if number < PAGE else -PAGE - number // same_moment)
        complete(store, record, at_s=ended[record.record_id])
    failed = begun(machine.begin(store, NEVER))
    end(store, failed, "failed")

    async def main() -> list[str]:
        journals = JournalWithFallback(
            place=place_of(home),
            mode="required",
            owner=Named("p1"),
            now=lambda: NOON,
            opener=open_threaded_journal,
            record_handles=lambda: (),
        )
        try:
            kept = KeptRecords(journals, live=LiveTasks())
            oldest = min(ended.values())
            assert [record.record_id async for record in kept.completed(NOON + oldest + 1000.0)] == []
            return [record.record_id async for record in kept.completed(NOON + oldest)]
        finally:
            await journals.close()

    read = asyncio.run(main())

    assert sorted(read) == sorted(ended)
    assert [ended[one] for one in read] == sorted(ended.values())
