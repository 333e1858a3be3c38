"""The journal's records for whoever keeps copies of pictures: what is finished, and where its copies are."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Final

from flux2_tool.journal import Journal, JournalError, JournalWithFallback, Record, SavedCopy
from flux2_tool.tasks.live_tasks import LiveTasks

PAGE: Final = 100
"""How many records are read at once: a busy week has more than a process should hold."""


class KeptRecords:
    """Reads finished records and writes where their pictures were saved.

    Args:
        journals: The process's journal.
        live: The image tasks of this process, whose records are written through them.
    """

    def __init__(self, journals: JournalWithFallback, *, live: LiveTasks) -> None:
        self._journals = journals
        self._live = live

    async def completed(self, since: float) -> AsyncGenerator[Record, None]:
        """Yield the records that were completed since then, the first ended first, a page of them at a time.

        Raises:
            JournalError: The journal cannot be read.
        """
        most, known = PAGE, frozenset[str]()
        while True:
            page = await self._journals.read(partial(_page, since=since, most=most))
            for record in page:
                if record.record_id not in known:
                    yield record
            if len(page) < most:
                return
            known = frozenset(record.record_id for record in page)
            ended = page[-1].finished_at
            # Where a whole page ended at one moment, the next one must be longer to go on.
            since, most = (since, 2 * most) if ended is None or ended == since else (ended, PAGE)

    async def note(self, record_id: str, copies: Sequence[SavedCopy]) -> None:
        """Record where a record's pictures were saved."""
        image_task = self._live.of_record(record_id)
        if image_task is not None and image_task.record_handle is not None:
            image_task.record_handle.saved(copies)
            return
        with contextlib.suppress(JournalError):  # the files are there, and the next sweep finds them missing here
            await self._journals.read(lambda journal: journal.note_saved(record_id, copies))


async def _page(journal: Journal, *, since: float, most: int) -> list[Record]:
    return await journal.completed(since=since, most=most)
