"""The journal's records for whoever keeps copies of pictures: what is finished, and where its copies are."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from flux2_tool.journal import Journal, JournalError, JournalWithFallback, Record, SavedCopy
from flux2_tool.tasks.live_tasks import LiveTasks


class KeptRecords:
    """Reads finished records and writes where their pictures were saved.

    Args:
        journals: The process's journal.
        live: The image tasks of this process, whose records are written through them.
    """

    def __init__(self, journals: JournalWithFallback, *, live: LiveTasks) -> None:
        self._journals = journals
        self._live = live

    async def finished_since(self, since: float) -> list[Record]:
        """Return the records that were completed since then, oldest first; none where the journal cannot be read."""

        async def finished(journal: Journal) -> list[Record]:
            return await journal.records(states=("completed",), ended_since=since)

        try:
            return await self._journals.read(finished)
        except JournalError:
            return []

    async def note(self, record_id: str, copies: Sequence[SavedCopy]) -> None:
        """Record where a record's pictures were saved."""
        image_task = self._live.of_record(record_id)
        if image_task is not None and image_task.record_handle is not None:
            image_task.record_handle.saved(copies)
            return
        with contextlib.suppress(JournalError):  # the files are there, and the next sweep finds them missing here
            await self._journals.read(lambda journal: journal.note_saved(record_id, copies))
