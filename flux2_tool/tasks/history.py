"""Let the poll schedule learn from the journal how long earlier tasks of a kind took."""

from __future__ import annotations

import logging
from typing import Final

from flux2_tool.journal import Intent, JournalError, JournalWithFallback
from flux2_tool.tasks.poll_schedule import PollScheduler, TaskKind

logger = logging.getLogger(__name__)

HISTORY_SAMPLES: Final = 40


class History:
    """Reads the durations of earlier tasks, once for each kind.

    Args:
        journals: Where their records are.
        poll_scheduler: Learns them.
    """

    def __init__(self, journals: JournalWithFallback, poll_scheduler: PollScheduler) -> None:
        self._journals = journals
        self._poll_scheduler = poll_scheduler
        self._learned: set[TaskKind] = set()

    async def learn(self, base_url: str, intent: Intent) -> None:
        """Learn the durations of a task's kind, unless that was done; does nothing when the journal cannot be read."""
        kind = (base_url, intent.model, intent.resolution)
        if kind not in self._learned:
            self._learned.add(kind)
            self._poll_scheduler.learn_history(kind, await self._durations(kind))

    async def _durations(self, kind: TaskKind) -> list[float]:
        journal = await self._journals.for_reading()
        if journal is None:
            return []
        base_url, model, resolution = kind
        try:
            return await journal.durations(base_url=base_url, model=model, resolution=resolution, limit=HISTORY_SAMPLES)
        except JournalError as exc:
            logger.warning("%s", exc)
            return []
