"""An image task's access to its record in the journal.

Before money is spent, the failure of a required journal stops the request. Afterwards it must not lose the image: what
has happened is known in memory at once and written in the background, in order; a failure becomes a warning, the image
task continues, and the write is repeated as soon as possible.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from flux2_tool.journal.account_pace import CreateLimit, Queued, Turn
from flux2_tool.journal.errors import JournalError, OwnershipLostError, unavailable
from flux2_tool.journal.lease_table import is_just_leased
from flux2_tool.journal.model import Outcome, Record, RecordState, SavedCopy
from flux2_tool.journal.process_id import Moment
from flux2_tool.journal.protocol import Journal
from flux2_tool.runapi import contract

logger = logging.getLogger(__name__)

T = TypeVar("T")

WARNING: Final = (
    "journal_unavailable: the task journal cannot be written, so this task may be forgotten when the process ends"
)
REPLACED: Final = (
    "journal_replaced: the task journal was deleted, replaced or emptied while it was in use; the tasks of this "
    "process were carried over, those of others may be missing"
)
_Write = Callable[[Journal], Awaitable[Record | None]]


class RecordHandle:
    """Reads and writes one record.

    Args:
        journal: Contains the record.
        record: The record as last read.
        now: Returns the wall-clock time.
        moment: Returns the time on this boot's monotonic clock.
        is_ours: Whether this process owns it; otherwise it is only read.
        is_required: Whether a request may be sent only after it is recorded.
        successor_of: Called with the journal and its error; returns the journal to use instead, if there is one.
        has_turn: Whether the claim of the record, just made, is the note of its first POST, too.

    Attributes:
        is_gone: Whether another process's record is not in the journal any more; nothing is written of it then.
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
        successor_of: Callable[[Journal, JournalError], Awaitable[Journal | None]] | None = None,
        has_turn: bool = False,
    ) -> None:
        self._journal = journal
        self._now = now
        self._moment = moment
        self._is_required = is_required
        self._successor_of = successor_of
        self._claimed = (journal, record) if has_turn else None
        self._has_unwritten_changes = False
        self._queue: deque[_Write] = deque()
        self._writer: asyncio.Task[None] | None = None
        self.turn_freed = asyncio.Event()
        self.record = record
        self.is_ours = is_ours
        self.is_gone = False
        self.warnings: list[str] = []

    def age_s(self) -> float:
        """Return how long ago the record was created, in seconds, whoever set a clock since."""
        return self.record.age_s(self._now(), self._moment())

    # ---- before money is spent ---------------------------------------------------------------------------------------

    async def before_post(self, route: contract.Route, *, creates: CreateLimit | None = None) -> Queued | None:
        """Record the route of a POST, before it is sent, unless its claim was that record, a moment ago.

        Args:
            creates: See `Journal.note_route`.

        Returns:
            None if it may be sent now, else what to wait for before this is called again.

        Raises:
            OwnershipLostError: Another process has taken the record over, so the POST must not be sent.
            JournalUnavailableError: It cannot be written and is required, so the POST must not be sent.
        """
        await self.settled()
        if self._is_just_claimed(route):
            return None
        known = self.record
        self.record = noted = replace(known, route=route, state="sending")
        self.turn_freed.clear()
        turn = Turn(is_free=True)

        async def note(journal: Journal) -> Record | None:
            nonlocal turn
            turn, record = await journal.note_route(known.record_id, route, now=self._now(), creates=creates)
            return record

        try:
            failed = await self._perform(note, is_check=True)
        except OwnershipLostError:
            self.is_ours = False
            if self.record is noted:
                self.record = known
            raise
        if failed is not None and self._is_required:
            raise unavailable(failed) from failed
        return None if failed is not None else turn.queued(self.turn_freed)

    def give_back_slot(self) -> None:
        """Let another request send while this one's pauses between two POSTs."""
        self._note(lambda journal: journal.give_back_slot(self.record.record_id))

    async def take_over(self) -> bool:
        """Become the owner unless another living process is; return whether this process owns it now."""
        await self.settled()
        try:
            record = await self._recovering(lambda journal: journal.take_over(self.record.record_id, now=self._now()))
        except JournalError as exc:
            self._warn(exc)
        else:
            if record is not None:
                self.record, self.is_ours = record, True
        return self.is_ours

    async def is_task_of_another(self, task_id: str) -> bool:
        """Return whether another record has a task of this base URL; False when the journal cannot be read."""
        try:
            return await self._journal.has_other(task_id, base_url=self.record.base_url, than=self.record.record_id)
        except JournalError as exc:
            self._warn(exc)
            return False

    async def has_lost(self, task_id: str | None) -> bool:
        """Return whether another record got a task that this one was accepted with, when both were written at once."""
        return task_id not in (None, self.record.task_id) and await self.is_task_of_another(str(task_id))

    # ---- what has happened -------------------------------------------------------------------------------------------

    def accepted(self, task_id: str | None, *, status_url: str | None, request_id: str | None) -> None:
        """Record that RunAPI accepted the task."""
        now = self._now()
        self._note(
            lambda journal: journal.note_accepted(
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
        self._note(
            lambda journal: journal.note_end(self.record.record_id, outcome, now=now),
            **{item.name: getattr(outcome, item.name) for item in fields(Outcome)},
            finished_at=None if outcome.state == "unknown" else now,
        )

    def delivered(self, *, elsewhere: str | None = None) -> None:
        """Record that a call has returned the images; `elsewhere` is its session, where that is not the record's."""
        now = self._now()
        self._note(
            lambda journal: journal.note_delivered(self.record.record_id, now=now, elsewhere=elsewhere),
            delivered_at=now,
        )

    def told(self, state: RecordState) -> None:
        """Record that its conversation was told that it has an image in this state."""
        self._note(lambda journal: journal.note_told(self.record.record_id, state), told=state)

    def saved(self, copies: Sequence[SavedCopy]) -> None:
        """Record where the images were saved."""
        if tuple(copies) != self.record.saved:
            self._note(lambda journal: journal.note_saved(self.record.record_id, copies), saved=tuple(copies))

    def orphan(self) -> None:
        """Record that every call that waited for it ended first."""
        if not self.record.orphaned:
            self._note(lambda journal: journal.note_orphaned(self.record.record_id), orphaned=True)

    def release(self, *, abandoned: bool = False) -> None:
        """Give up ownership, so that another process may take it over."""
        if self.is_ours:
            self._note(lambda journal: journal.release(self.record.record_id, abandoned=abandoned), owner=None)
            self.is_ours = False

    # ---- keeping up with the journal ---------------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether everything that has happened is written, or its failure is known."""
        return self._writer is None or self._writer.done()

    async def settled(self, *, within_s: float | None = None) -> bool:
        """Wait until everything that has happened is written, or its failure is known; return whether it is."""
        # What a loop that has ended did not write is not written by waiting for it.
        loop = asyncio.get_running_loop()
        while self._writer is not None and not self._writer.done() and self._writer.get_loop() is loop:
            done, _ = await asyncio.wait([self._writer], timeout=within_s)
            if not done:
                return False
        return True

    async def refresh(self) -> Record:
        """Read the record again; keeps the last known state when the journal cannot be read or written."""
        await self.settled()
        try:
            if self._has_unwritten_changes:
                await self._write_all()
            self.is_gone = not await self._read() and not self.is_ours
        except JournalError as exc:
            self._warn(exc)
        return self.record

    async def flush(self) -> None:
        """Retry the writes that failed before."""
        if self._has_unwritten_changes:
            await self.refresh()

    def move_to(self, journal: Journal, *, written: Record) -> None:
        """Use another journal, which has the record in this state."""
        self._journal = journal
        self._has_unwritten_changes = self.record is not written

    # ---- private -----------------------------------------------------------------------------------------------------

    def _is_just_claimed(self, route: contract.Route) -> bool:
        """Whether this is the first POST of a record that its claim has noted, and nothing has come between them."""
        claimed, self._claimed = self._claimed, None
        if claimed is None or claimed[0] is not self._journal or claimed[1] is not self.record:
            return False
        return self.record.route == route and is_just_leased(self.record, self._moment())

    def _note(self, write: _Write, **changes: Any) -> None:
        """Know something now, and write it in the background, after what was noted before."""
        self.record = replace(self.record, **changes)
        if not self.is_gone:
            self._queue.append(write)
        if self._queue and self.is_settled:
            self._writer = asyncio.get_running_loop().create_task(self._write_queue())

    async def _write_queue(self) -> None:
        cancelled: asyncio.CancelledError | None = None
        while self._queue:
            try:
                await self._perform(self._queue.popleft())
            except asyncio.CancelledError as exc:
                # The loop ends: what has happened is written all the same.
                self._has_unwritten_changes, cancelled = True, exc
        if cancelled is not None:
            raise cancelled

    async def _perform(self, write: _Write, *, is_check: bool = False) -> JournalError | None:
        """Write, and return the error, if any.

        Args:
            is_check: Whether it does more than to write what the record here says already.

        Raises:
            OwnershipLostError: It checks who owns the record, and this process does not.
        """
        journal, is_written = self._journal, False
        known, record = self.record, None
        try:
            if self._has_unwritten_changes:
                await self._write_all()
                is_written = not is_check
            if not is_written:
                record = await self._recovering(write)
        except JournalError as exc:
            if journal is self._journal:
                self._has_unwritten_changes = True
            self._warn(exc)
            return exc
        if record is not None:
            self._take(record, known)
            return None
        try:
            await self._read()
        except JournalError as exc:
            self._warn(exc)
        return None

    async def _write_all(self) -> None:
        """Write the record as it is known here."""
        record, journal = self.record, self._journal
        await self._recovering(lambda journal: journal.carry_over([record]))
        if journal is self._journal and record is self.record:
            self._has_unwritten_changes = False

    async def _read(self) -> bool:
        """Read the record, and return whether there is one; what was noted meanwhile is newer than what was read."""
        known = self.record
        record = await self._journal.get(known.record_id)
        if record is not None:
            self._take(record, known)
        return record is not None

    def _take(self, record: Record, known: Record) -> None:
        """Take over a record that was read while this one was known."""
        if known is self.record and not self._queue:
            self.record = record

    async def _recovering(self, operation: Callable[[Journal], Awaitable[T]]) -> T:
        """Do something with the journal, in its successor if its files were lost or it is no longer in use."""
        journal = self._journal
        try:
            return await operation(journal)
        except JournalError as exc:
            successor = None if self._successor_of is None else await self._successor_of(journal, exc)
            if successor is None:
                raise
            # It may be the same one, with other content: an old copy of the journal was put back.
            await successor.carry_over([self.record])
            self._journal = successor
            if exc.reason == "replaced":
                self.warn(REPLACED)
            return await operation(successor)

    def warn(self, warning: str) -> None:
        """Add a warning to the results of the calls that wait for the image, once."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _warn(self, exc: JournalError) -> None:
        logger.error("%s", exc)
        self.warn(WARNING)
