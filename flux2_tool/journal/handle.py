"""An image task's access to its record in the journal.

Before money is spent, the failure of a required journal stops the request. Afterwards it must not lose the image: the
failure becomes a warning, the image task continues, and the write is repeated as soon as possible.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from flux2_tool.journal.errors import JournalError, OwnershipLostError, unavailable
from flux2_tool.journal.model import Outcome, Record, SavedCopy
from flux2_tool.journal.process_id import Moment
from flux2_tool.journal.protocol import Journal
from flux2_tool.runapi import contract

logger = logging.getLogger(__name__)

T = TypeVar("T")

WARNING: Final = (
    "journal_unavailable: the task journal cannot be written, so this task may be forgotten when the process ends"
)
REPLACED: Final = (
    "journal_replaced: the task journal was deleted or replaced while it was in use; the tasks of this process were "
    "carried over, those of others may be missing"
)


class RecordHandle:
    """Reads and writes one record.

    Args:
        journal: Contains the record.
        record: The record as last read.
        now: Returns the wall-clock time.
        moment: Returns the time on this boot's monotonic clock.
        is_ours: Whether this process owns it; otherwise it is only read.
        is_required: Whether a request may be sent only after it is recorded.
        recover: Called when the journal's files were deleted or replaced; has this handle use others, and returns
            whether it could.
    """

    def __init__(
        self,
        journal: Journal,
        record: Record,
        *,
        now: Callable[[], float],
        moment: Callable[[], Moment],
        is_ours: bool,
        is_required: bool = True,
        recover: Callable[[], bool] = lambda: False,
    ) -> None:
        self._journal = journal
        self._now = now
        self._moment = moment
        self._is_required = is_required
        self._recover = recover
        self._has_unwritten_changes = False
        self.record = record
        self.is_ours = is_ours
        self.warnings: list[str] = []

    def age_s(self) -> float:
        """Return how long ago the record was created, in seconds, whoever set a clock since."""
        return self.record.age_s(self._now(), self._moment())

    def before_post(self, route: contract.Route) -> None:
        """Record the route of a POST, before it is sent.

        Raises:
            OwnershipLostError: Another process has taken the record over, so the POST must not be sent.
            JournalUnavailableError: It cannot be written and is required, so the POST must not be sent.
        """
        try:
            failed = self._write(
                lambda: self._journal.note_route(self.record.record_id, route, now=self._now()),
                route=route,
                state="sending",
            )
        except OwnershipLostError:
            self.is_ours = False
            raise
        if failed is not None and self._is_required:
            raise unavailable(failed) from failed

    def accepted(self, task_id: str | None, *, status_url: str | None, request_id: str | None) -> None:
        """Record that RunAPI accepted the task."""
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

    def ended(self, outcome: Outcome) -> None:
        """Record the outcome; a completed record stays ours until it is delivered."""
        now = self._now()
        self._write(
            lambda: self._journal.note_end(self.record.record_id, outcome, now=now),
            **{item.name: getattr(outcome, item.name) for item in fields(Outcome)},
            finished_at=None if outcome.state == "unknown" else now,
        )

    def delivered(self) -> None:
        """Record that the images were returned to a call of the record's session."""
        now = self._now()
        self._write(lambda: self._journal.note_delivered(self.record.record_id, now=now), delivered_at=now)

    def saved(self, copies: Sequence[SavedCopy]) -> None:
        """Record where the images were saved."""
        if tuple(copies) != self.record.saved:
            self._write(lambda: self._journal.note_saved(self.record.record_id, copies), saved=tuple(copies))

    def orphan(self) -> None:
        """Record that every call that waited for it ended first."""
        if not self.record.orphaned:
            self._write(lambda: self._journal.note_orphaned(self.record.record_id), orphaned=True)

    def release(self, *, abandoned: bool = False) -> None:
        """Give up ownership, so that another process may take it over."""
        if self.is_ours:
            self._write(lambda: self._journal.release(self.record.record_id, abandoned=abandoned), owner=None)
            self.is_ours = False

    def take_over(self) -> bool:
        """Become the owner unless another living process is; return whether this process owns it now."""
        try:
            record = self._recovering(lambda: self._journal.take_over(self.record.record_id, now=self._now()))
        except JournalError as exc:
            self._warn(exc)
        else:
            if record is not None:
                self.record, self.is_ours = record, True
        return self.is_ours

    def refresh(self) -> Record:
        """Read the record again; keeps the last known state when the journal cannot be read or written."""
        try:
            if self._has_unwritten_changes:
                self._recovering(lambda: self._journal.carry_over([self.record]))
                self._has_unwritten_changes = False
            self.record = self._journal.get(self.record.record_id) or self.record
        except JournalError as exc:
            self._warn(exc)
        return self.record

    def flush(self) -> None:
        """Retry the writes that failed before."""
        if self._has_unwritten_changes:
            self.refresh()

    def move_to(self, journal: Journal) -> None:
        """Use another journal, which already has the record."""
        self._journal = journal
        self._has_unwritten_changes = False

    def _write(self, write: Callable[[], None], **changes: Any) -> JournalError | None:
        """Write, and return the error, if any; `record` always gets the changes."""
        self.flush()
        try:
            if not self._has_unwritten_changes:
                self._recovering(write)
                self.refresh()
                return None
            failed = JournalError("earlier changes are still not written to the task journal")
        except JournalError as exc:
            failed = exc
        self.record = replace(self.record, **changes)
        self._has_unwritten_changes = True
        self._warn(failed)
        return failed

    def _recovering(self, operation: Callable[[], T]) -> T:
        """Do something with the journal, in its successor if its files were deleted or replaced."""
        try:
            return operation()
        except JournalError as exc:
            if exc.reason != "replaced" or not self._recover():
                raise
            # The files may be in place, and their content another: an old copy of the journal was put back.
            self._journal.carry_over([self.record])
            self.warn(REPLACED)
            return operation()

    def warn(self, warning: str) -> None:
        """Add a warning to the results of the calls that wait for the image, once."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _warn(self, exc: JournalError) -> None:
        logger.error("%s", exc)
        self.warn(WARNING)
