"""What the journal knows of how long tasks take, for the poll schedule of this process."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from flux2_tool.journal import Intent, JournalError, JournalWithFallback
from flux2_tool.tasks.poll_scheduler import PollScheduler, TaskKind
from flux2_tool.tasks.resume import Account

logger = logging.getLogger(__name__)

HISTORY_SAMPLES: Final = 40


class DurationHistory:
    """Hands the durations of earlier tasks to the poll schedule, once for each kind of task.

    Args:
        journals: Where they are recorded.
        poll_scheduler: Learns them.
    """

    def __init__(self, journals: JournalWithFallback, poll_scheduler: PollScheduler) -> None:
        self._journals = journals
        self._poll_scheduler = poll_scheduler
        self._learned: set[TaskKind] = set()

    async def learn(self, account: Account, intent: Intent) -> None:
        """Learn how long earlier tasks of a request's kind took; does nothing the second time."""
        kind = (account.base_url, intent.model, intent.resolution)
        if kind not in self._learned:
            self._learned.add(kind)
            self._poll_scheduler.learn_history(kind, await self._durations_s(kind))

    async def _durations_s(self, kind: TaskKind) -> Sequence[float]:
        journal = await self._journals.for_reading()
        if journal is None:
            return ()
        base_url, model, resolution = kind
        try:
            return await journal.durations(base_url=base_url, model=model, resolution=resolution, limit=HISTORY_SAMPLES)
        except JournalError as exc:
            logger.warning("%s", exc)
            return ()
