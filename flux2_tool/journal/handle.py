"""One record's place in the journal, as the image task that fills it sees it.

Before money is spent a required journal that fails stops the request. Afterwards it must not lose the picture: the
failure becomes a warning, the image task goes on, and what could not be written is written as soon as it can be.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from flux2_tool.exceptions import JournalUnavailableError
from flux2_tool.journal.model import Journal, JournalError, Record, RecordState, SavedCopy
from flux2_tool.runapi import contract

logger = logging.getLogger(__name__)

WARNING = "journal_unavailable: the task journal cannot be written, so this task may be forgotten when the process ends"


class RecordHandle:
    """Writes one record.

    Args:
        journal: Where it is kept.
        record: As it stands now.
        now: The wall clock.
        is_ours: Whether this process owns it; another's record is only read.
        is_required: Whether nothing may be sent that is not written down.
    """

    def __init__(
        self, journal: Journal, record: Record, *, now: Callable[[], float], is_ours: bool, is_required: bool = True
    ) -> None:
        self._journal = journal
        self._now = now
        self._is_required = is_required
        self._is_behind = False
        self.record = record
        self.is_ours = is_ours
        self.warnings: list[str] = []

    def before_post(self, route: contract.Route) -> None:
        """Write down the route before a POST takes it.

        Raises:
            JournalUnavailableError: It cannot be written and is required, so the POST must not be sent.
        """
        if route == self.record.route and self.record.state == "sending":
            return
        failed = self._write(
            lambda: self._journal.note_route(self.record.record_id, route), route=route, state="sending"
        )
        if failed is not None and self._is_required:
            raise unavailable(failed) from failed

    def accepted(self, task_id: str | None, *, status_url: str | None, request_id: str | None) -> None:
        """Write down the task id."""
        now = self._now()
        self._write(
            lambda: self._journal.note_accepted(
                self.record.record_id, now=now, task_id=task_id, status_url=status_url, request_id=request_id
            ),
            state="processing",
            task_id=task_id,
            status_url=status_url,
            accepted_at=now,
            request_id=request_id,
        )

    def ended(
        self,
        state: RecordState,
        *,
        images: Sequence[tuple[str, str | None]] = (),
        cost_usd: float | None = None,
        error: tuple[str, str] | None = None,
        conflict: bool = False,
        abandoned: bool = False,
        raw: str | None = None,
        request_id: str | None = None,
        polls: int = 0,
        duration_s: float | None = None,
    ) -> None:
        """Write down how it ended; a completed one stays ours until it is returned."""
        now = self._now()
        self._write(
            lambda: self._journal.note_end(
                self.record.record_id,
                state,
                now=now,
                images=images,
                cost_usd=cost_usd,
                error=error,
                conflict=conflict,
                abandoned=abandoned,
                raw=raw,
                request_id=request_id,
                polls=polls,
                duration_s=duration_s,
            ),
            state=state,
            finished_at=None if state == "unknown" else now,
            images=tuple(images),
            cost_usd=cost_usd,
            error=error,
            conflict=conflict,
            abandoned=abandoned,
            raw=raw,
            request_id=request_id,
            polls=polls,
        )

    def delivered(self) -> None:
        """Write down that the pictures were returned to a call of the record's session."""
        now = self._now()
        self._write(lambda: self._journal.note_delivered(self.record.record_id, now=now), delivered_at=now)

    def saved(self, copies: Sequence[SavedCopy]) -> None:
        """Write down where the pictures were saved."""
        if tuple(copies) != self.record.saved:
            self._write(lambda: self._journal.note_saved(self.record.record_id, copies), saved=tuple(copies))

    def orphan(self) -> None:
        """Write down that everybody who waited for it has left before its end."""
        if not self.record.orphaned:
            self._write(lambda: self._journal.note_orphaned(self.record.record_id), orphaned=True)

    def release(self, *, abandoned: bool = False) -> None:
        """Let another process take it over."""
        if self.is_ours:
            self._write(lambda: self._journal.release(self.record.record_id, abandoned=abandoned), owner=None)
            self.is_ours = False

    def take_over(self) -> bool:
        """Become the owner when no living process is; return whether we are."""
        taken = self._journal_take_over()
        if taken is not None:
            self.record, self.is_ours = taken, True
        return self.is_ours

    def refresh(self) -> Record:
        """Read the record again; keeps the last known state when the journal cannot be read or is behind."""
        try:
            if self._is_behind:
                self._journal.carry_over([self.record])
                self._is_behind = False
            self.record = self._journal.get(self.record.record_id) or self.record
        except JournalError as exc:
            self._warn(exc)
        return self.record

    def catch_up(self) -> None:
        """Write what could not be written before, if it can be now."""
        if self._is_behind:
            self.refresh()

    def move_to(self, journal: Journal) -> None:
        """Write to another journal from now on; it has the record already."""
        self._journal = journal
        self._is_behind = False

    def _journal_take_over(self) -> Record | None:
        try:
            return self._journal.take_over(self.record.record_id, now=self._now())
        except JournalError as exc:
            self._warn(exc)
            return None

    def _write(self, write: Callable[[], None], **known: Any) -> JournalError | None:
        """Write, and return what went wrong; what is known by it holds here in any case."""
        if self._is_behind:
            self.refresh()
        try:
            if not self._is_behind:
                write()
                self.refresh()
                return None
            failed = JournalError("the task journal is still behind")
        except JournalError as exc:
            failed = exc
        self.record = replace(self.record, **known)
        self._is_behind = True
        self._warn(failed)
        return failed

    def _warn(self, exc: JournalError) -> None:
        logger.error("%s", exc)
        if WARNING not in self.warnings:
            self.warnings.append(WARNING)


def unavailable(exc: JournalError) -> JournalUnavailableError:
    """Return the error of a call that must not spend money without a journal."""
    return JournalUnavailableError(
        f"The task journal cannot be used, so nothing was sent: {exc}.",
        # Not the file alone: without it SQLite deletes the -wal beside it, and the newest records with that.
        hint="Make room on the disk, mend the permissions, or run `flux2-tool doctor`, which names the cause and what "
        "mends it; or set journal to best_effort.",
    )
