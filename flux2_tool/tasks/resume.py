"""Find the tasks that no living process follows, and requests whose response was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from flux2_tool.journal import Journal, JournalError, JournalWithFallback, Record
from flux2_tool.journal.errors import unavailable
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.tasks.dependencies import TaskDependencies
from flux2_tool.tasks.task import ImageTask

logger = logging.getLogger(__name__)

RESUME_EVERY_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One key at one base URL. Tasks of another account are never returned."""

    client: RunapiClient
    fingerprint: str

    @property
    def base_url(self) -> str:
        return self.client.base_url


class Resumer:
    """Resumes tasks for one process.

    Args:
        journals: Where their records are.
        adopt: Returns the image task of a record.
        dependencies: The clock, and how long a request may be resent.
    """

    def __init__(
        self,
        journals: JournalWithFallback,
        *,
        adopt: Callable[[Account, Journal, Record], Awaitable[ImageTask]],
        dependencies: TaskDependencies,
    ) -> None:
        self._journals = journals
        self._adopt = adopt
        self._deps = dependencies
        self._clock = dependencies.clock
        self._resumed_at_s: dict[tuple[str, str], float] = {}
        self._running: set[asyncio.Task[list[ImageTask]]] = set()

    def resume_soon(self, account: Account) -> None:
        """Resume beside the call that is the occasion for it, which does not wait for that."""
        if self._is_due(account, RESUME_EVERY_S):
            task = asyncio.get_running_loop().create_task(self.resume(account))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def resume(
        self, account: Account, *, at_most_every_s: float = RESUME_EVERY_S, include_abandoned: bool = False
    ) -> list[ImageTask]:
        """Resume this account's tasks without a living owner in the background; return the resumed ones.

        Args:
            at_most_every_s: The least time since the last resume, in seconds; before that, does nothing.
            include_abandoned: Also those that were unattended for too long.
        """
        if not self._is_due(account, at_most_every_s):
            return []
        self._resumed_at_s[account.fingerprint, account.base_url] = self._clock.monotonic()
        journal = await self._journals.for_reading()
        if journal is None:
            return []
        now = self._clock.now()
        resend_since = now - self._deps.resend_window_s
        try:
            await journal.mark_unconfirmed(sent_before=resend_since, now=now)
            unowned = await journal.unowned(
                fingerprint=account.fingerprint,
                base_url=account.base_url,
                now=now,
                resend_since=resend_since,
                include_abandoned=include_abandoned,
            )
        except JournalError as exc:
            logger.warning("%s", exc)
            return []
        resumed = []
        for record in unowned:
            image_task = await self._adopt(account, journal, record)
            if not image_task.is_over and not image_task.is_running:
                logger.info("task %s: resumed; no living process owns it", record.task_id or record.record_id)
                image_task.start()
                resumed.append(image_task)
        return resumed

    async def find_lost(self, account: Account, record_id: str) -> tuple[Journal, Record] | None:
        """Return a request of this account whose outcome is unknown, and its journal; None if there is none.

        Args:
            record_id: The record's id or a prefix of it.

        Raises:
            JournalUnavailableError: The journal cannot be read.
        """

        async def unconfirmed(journal: Journal) -> tuple[Journal, list[Record]]:
            return journal, await journal.records(states=("unknown", "sending"))

        try:
            journal, records = await self._journals.read(unconfirmed)
        except JournalError as exc:
            raise unavailable(exc) from exc
        for record in records:
            is_same_account = (record.fingerprint, record.base_url) == (account.fingerprint, account.base_url)
            if is_same_account and record.task_id is None and record.record_id.startswith(record_id):
                return journal, record
        return None

    async def aclose(self) -> None:
        """Stop what still runs in the background."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _is_due(self, account: Account, at_most_every_s: float) -> bool:
        resumed_at_s = self._resumed_at_s.get((account.fingerprint, account.base_url), float("-inf"))
        return self._clock.monotonic() - resumed_at_s >= at_most_every_s
