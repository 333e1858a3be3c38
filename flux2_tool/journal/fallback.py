"""Which journal a process writes to: the file, or memory while the file cannot be used and may be done without.

When that changes (the file was deleted, broke, or can be used again), what the process takes care of is carried over,
so that an equal request still meets it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from flux2_tool.journal.handle import RecordHandle, unavailable
from flux2_tool.journal.model import Journal, JournalError, OpenJournal, Record
from flux2_tool.journal.process_id import Owner
from flux2_tool.settings import JournalMode

logger = logging.getLogger(__name__)

# A day on which the clocks are set back.
LONGEST_DAY_S: Final = 25 * 3600.0
_OFF = "journal_unavailable: the task journal is off, so nothing outlives this process"


class JournalWithFallback:
    """Chooses the journal, and chooses again whenever it is asked.

    Args:
        folder: The data folder that holds the file.
        mode: Whether money may be spent without the file.
        owner: This process.
        now: The wall clock.
        opener: Opens a journal.
        entries: The entries this process has, oldest first.
    """

    def __init__(
        self,
        *,
        folder: Path,
        mode: JournalMode,
        owner: Owner,
        now: Callable[[], float],
        opener: OpenJournal,
        entries: Callable[[], Iterable[RecordHandle]],
    ) -> None:
        self._folder = folder
        self._mode = mode
        self._owner = owner
        self._now = now
        self._open = opener
        self._entries = entries
        self._file: Journal | None = None
        self._memory: Journal | None = None
        self._last: Journal | None = None
        self._spent: list[Record] = []

    @property
    def is_required(self) -> bool:
        """Whether nothing may be sent that is not on disk."""
        return self._mode == "required"

    def for_spending(self) -> tuple[Journal, list[str]]:
        """Return the journal to write an intent to, with the warnings its result carries.

        Raises:
            JournalUnavailableError: It is required and cannot be used.
        """
        if self._mode == "off":
            return self._in_memory(), [_OFF]
        try:
            journal = self._on_disk()
            if not self.is_required:
                # What the caps go on from, should the file fail: also what other processes have spent.
                self._spent = journal.records(states=("completed",), since=self._now() - LONGEST_DAY_S)
        except JournalError as exc:
            return self.without_file(exc)
        return journal, []

    def without_file(self, exc: JournalError) -> tuple[Journal, list[str]]:
        """Return the journal to go on with when the file has failed.

        Raises:
            JournalUnavailableError: It is required.
        """
        # Not closed: entries that began with it still write to it as well as they can.
        self._file = None
        if self.is_required:
            raise unavailable(exc) from exc
        logger.warning("%s; going on in memory", exc)
        memory = self._in_memory()
        memory.carry_over(self._spent)
        self._spent = []
        self._carry_to(memory)
        return memory, [f"journal_unavailable: {exc}; tasks are forgotten when this process ends"]

    def for_reading(self) -> Journal | None:
        """Return the journal to look into, None when there is none."""
        if self._mode == "off":
            return self._in_memory()
        try:
            return self._on_disk()
        except JournalError as exc:
            logger.warning("%s", exc)
            return None if self._memory is None or self.is_required else self._memory

    def for_reading_at_all(self) -> Journal:
        """Return the journal to look into where nothing can be said without one.

        Raises:
            JournalError: There is none.
        """
        journal = self.for_reading()
        return self._on_disk() if journal is None else journal

    def beat(self) -> None:
        """Renew the leases of all that is ours, and write again what could not be written."""
        for journal in (self._file, self._memory):
            if journal is not None:
                try:
                    journal.heartbeat(now=self._now())
                except JournalError as exc:
                    logger.warning("%s", exc)
        for entry in self._entries():
            entry.catch_up()

    def close(self) -> None:
        """Let go of all that is ours; what could not be written before is tried a last time."""
        journals = [journal for journal in (self._file, self._memory) if journal is not None]
        if journals:
            for entry in self._entries():
                entry.catch_up()
        for journal in journals:
            journal.close()
        self._file = self._memory = self._last = None

    # ---- private -----------------------------------------------------------------------------------------------------

    def _on_disk(self) -> Journal:
        if self._file is not None and not self._file.is_in_place():
            logger.warning("the task journal was deleted or replaced; beginning another one")
            self._file = None
        journal = self._file or self._open(self._folder, owner=self._owner, now=self._now())
        self._carry_to(journal)
        self._file = journal
        return journal

    def _in_memory(self) -> Journal:
        if self._memory is None:
            self._memory = self._open(None, owner=self._owner, now=self._now())
        return self._memory

    def _carry_to(self, journal: Journal) -> None:
        if journal is self._last:
            return
        if self._last is not None:
            entries = list(self._entries())
            journal.carry_over([entry.record for entry in entries])
            for entry in entries:
                entry.move_to(journal)
        self._last = journal
