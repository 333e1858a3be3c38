"""Choose the journal: the file, or memory while the file cannot be used and is not required.

When the choice changes (the file was deleted, failed, or can be used again), this process's records are copied, so that
an equal request still finds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

from flux2_tool._folders import NO_DATA_FOLDER
from flux2_tool.journal.account_pace import CreateLimit
from flux2_tool.journal.account_paces import AccountPaces
from flux2_tool.journal.errors import LOST, JournalError, unavailable
from flux2_tool.journal.handle import REPLACED, RecordHandle
from flux2_tool.journal.model import Claim, ClaimRules, Intent, Record
from flux2_tool.journal.patience import Patience
from flux2_tool.journal.place import JournalPlace
from flux2_tool.journal.process_id import Owner
from flux2_tool.journal.protocol import Journal, OpenJournal
from flux2_tool.journal.refused_claims import RefusedClaims
from flux2_tool.journal.spent_records import SpentRecords
from flux2_tool.settings import JournalMode

logger = logging.getLogger(__name__)

T = TypeVar("T")

# The file, the one that took its place meanwhile, and memory.
_CLAIM_ATTEMPTS: Final = 3
# A server that was not found is not looked for anew before, so that one call does not wait for it several times.
_AWAY_S: Final = 5.0
_OFF: Final = "journal_unavailable: the task journal is off, so tasks are forgotten when this process ends"


class JournalWithFallback:
    """Chooses the journal at each use.

    Args:
        place: The data folder that holds the file, or the database; None when there is neither.
        mode: Whether money may be spent without the file.
        owner: This process.
        now: Returns the wall-clock time.
        opener: Opens a journal.
        record_handles: Returns this process's records, oldest first.
        paces: What is shared of its accounts' pace, through the file or the database.
    """

    def __init__(
        self,
        *,
        place: JournalPlace | None,
        mode: JournalMode,
        owner: Owner,
        now: Callable[[], float],
        opener: OpenJournal,
        record_handles: Callable[[], Iterable[RecordHandle]],
        paces: AccountPaces | None = None,
    ) -> None:
        self._place = place
        self._mode = mode
        self._owner = owner
        self._now = now
        self._open = opener
        self._record_handles = record_handles
        self._paces = paces
        self._file: Journal | None = None
        self._memory: Journal | None = None
        self._current: Journal | None = None
        # Files given up, until the records that are still written to them have moved.
        self._retired: list[Journal] = []
        self._spent = SpentRecords()
        self._refused = RefusedClaims()
        self._warnings: list[str] = []
        # Records of a lost WAL, until they are in another file.
        self._salvaged: list[Record] = []
        self._away: tuple[float, str] | None = None  # when no server was found, and the error
        self._changing = asyncio.Lock()  # calls that run side by side open one journal

    @property
    def is_required(self) -> bool:
        """Whether a request may be sent only after it is written to the file."""
        return self._mode == "required"

    async def claim(
        self, intents: Sequence[Intent], rules: ClaimRules, *, within_s: float, creates: CreateLimit | None = None
    ) -> tuple[Claim, Journal, list[str]]:
        """Claim an intent, or a set of them, in the journal, or in memory where the file may be missing.

        Args:
            intents: See `Journal.claim`.
            rules: Of the claim.
            within_s: How long to wait for a lock, in seconds, also for one that keeps the file from being opened.
            creates: See `Journal.claim`.

        Returns:
            The claim, the journal that has it, and warnings for the call's result.

        Raises:
            JournalUnavailableError: It is required and cannot be used; nothing was recorded.
        """
        patience = Patience(within_s)
        journal, warnings = self._ready_to_spend or await self.for_spending(patience)
        with self._refused.unless_made(intents if self._mode != "off" else ()):
            for attempt in range(_CLAIM_ATTEMPTS):
                try:
                    if journal is self._file:
                        await self._refused.end_in(journal, now=self._now(), within_s=patience.left_s)
                    now = self._now()
                    claim = await journal.claim(intents, rules, now=now, within_s=patience.left_s, creates=creates)
                except JournalError as exc:
                    if attempt == _CLAIM_ATTEMPTS - 1:
                        raise unavailable(exc) from exc
                    journal, more = await self._fall_back(exc, failed=journal)
                    warnings = list(dict.fromkeys((*warnings, *more)))
                else:
                    break
        return claim, journal, warnings

    @property
    def _ready_to_spend(self) -> tuple[Journal, list[str]] | None:
        """The file, where the claim itself finds out whether it is still in place, so that it is looked at once."""
        is_ready = self.is_required and self._file is not None and self._file is self._current
        return (self._file, []) if is_ready and self._file is not None and not self._warnings else None

    async def for_spending(self, patience: Patience | None = None) -> tuple[Journal, list[str]]:
        """Return the journal for a new intent, and warnings for the call's result.

        Args:
            patience: How long to wait until a required file can be opened; by default one attempt's time.

        Raises:
            JournalUnavailableError: It is required and cannot be used.
        """
        if self._mode == "off":
            return await self._in_memory(), [_OFF]
        journal = None
        try:
            journal = await (patience or Patience(0.0)).while_locked(self._on_disk)
            if not self.is_required:
                # If the file fails later, the caps still count this, which includes other processes' spending.
                await self._spent.update(journal, now=self._now())
        except JournalError as exc:
            return await self._fall_back(exc, failed=journal)
        warnings, self._warnings = self._warnings, []
        return journal, warnings

    async def for_reading(self) -> Journal | None:
        """Return the journal to read, None when none can be used."""
        if self._mode == "off":
            return await self._in_memory()
        try:
            return await self._on_disk()
        except JournalError as exc:
            logger.warning("%s", exc)
            return None if self._memory is None or self.is_required else self._memory

    async def read(self, reading: Callable[[Journal], Awaitable[T]], *, finds_lost: bool = False) -> T:
        """Return what a call needs from the journal, or from the one that took its place meanwhile.

        Args:
            finds_lost: Whether the reading itself finds out that the file is not in place any more.

        Raises:
            JournalError: None can be used.
        """
        is_ready = finds_lost and self._mode != "off" and self._file is not None and self._file is self._current
        journal = self._file if is_ready and self._file is not None else await self._for_required_reading()
        try:
            return await reading(journal)
        except JournalError as exc:
            if journal in (self._file, self._memory) and exc.reason not in LOST:
                raise
            return await reading(await self._for_required_reading())

    async def successor_of(self, failed: Journal, exc: JournalError) -> Journal | None:
        """Return the journal to use instead of one whose files are lost or that is no longer in use, with its records.

        Args:
            failed: Where the error comes from.
            exc: The error.

        Returns:
            The journal, perhaps `failed` with the content of another; None if there is no other.
        """
        if self._mode == "off" or (exc.reason not in LOST and failed is self._current):
            return None
        try:
            return await self._on_disk()
        except JournalError as again:
            logger.warning("%s", again)
            return None if self._current is failed else self._current

    async def heartbeat(self) -> None:
        """Renew the leases of this process's records, and retry the writes that failed before."""
        await self._return_to_disk()
        for journal in (self._file, self._memory):
            if journal is not None:
                try:
                    if journal is self._file:
                        await self._refused.end_in(journal, now=self._now())
                    await journal.heartbeat(now=self._now())
                except JournalError as exc:
                    logger.warning("%s", exc)
        await self._flush()

    async def close(self) -> None:
        """Retry the writes that failed before, and release this process's records, also those that lost their file."""
        if self._refused or any(True for _ in self._record_handles()):
            self._away = None
            await self._return_to_disk()
        if self._file is not None:
            with contextlib.suppress(JournalError):
                await self._refused.end_in(self._file, now=self._now())
        if self._paces is not None:
            await self._paces.aclose()
        journals = [journal for journal in (self._file, self._memory) if journal is not None]
        if journals:
            await self._flush()
        for journal in journals:
            await journal.close()
        await self._close_retired()
        self._file = self._memory = self._current = None

    # ---- private -----------------------------------------------------------------------------------------------------

    async def _fall_back(self, exc: JournalError, *, failed: Journal | None) -> tuple[Journal, list[str]]:
        """Return the journal in memory after the file failed, and warnings for the call's result.

        Args:
            exc: The error.
            failed: Where it comes from, None if no file could be opened. One that was given up meanwhile, or whose
                files are lost, has a successor, which is used instead.

        Raises:
            JournalUnavailableError: It is required.
        """
        if exc.reason in LOST and failed is not None and await self.successor_of(failed, exc) is not None:
            return await self.for_spending()
        if failed not in (None, self._file, self._memory):
            return await self.for_spending()
        async with self._changing:
            if failed is not None and failed is self._file:
                await self._retire_file()
        if self.is_required:
            raise unavailable(exc) from exc
        logger.warning("%s; falling back to a journal in memory", exc)
        memory = await self._in_memory()
        await memory.carry_over(self._spent.take())
        async with self._changing:
            await self._carry_to(memory)
        return memory, [f"journal_unavailable: {exc}; tasks are forgotten when this process ends"]

    async def _for_required_reading(self) -> Journal:
        journal = await self.for_reading()
        return await self._on_disk() if journal is None else journal

    async def _return_to_disk(self) -> None:
        """Open the file anew if it was lost or given up while this process has records, which are written then."""
        if self._mode == "off" or not (self._file or self._retired or self._memory or self._refused):
            return
        try:
            await self._on_disk()
        except JournalError as exc:
            logger.warning("%s", exc)

    async def _flush(self) -> None:
        for record_handle in self._record_handles():
            await record_handle.flush()

    async def _on_disk(self) -> Journal:
        async with self._changing:
            if self._file is not None and not await self._file.is_in_place():
                is_moved = await self._file.is_moved()
                if not is_moved:
                    logger.warning("the task journal was deleted, replaced or emptied; opening a new one")
                self._salvaged += await self._file.salvage()
                await self._retire_file()
                if not is_moved:
                    self._warn()
            if self._place is None:
                raise JournalError(f"there is no folder for it: {NO_DATA_FOLDER}", reason="no_folder")
            if self._file is None:
                journal = await self._opened(self._place)
                try:
                    await self._refused.end_in(journal, now=self._now())
                    await journal.carry_over(self._salvaged)
                    await self._carry_to(journal)
                except BaseException:
                    await journal.close(release=False)
                    raise
                self._file, self._salvaged = journal, []
                if self._paces is not None:
                    await self._paces.attach(journal)
            await self._carry_to(self._file)
            return self._file

    async def _opened(self, place: JournalPlace) -> Journal:
        now = self._now()
        if self._away is not None and 0.0 <= now - self._away[0] < _AWAY_S:
            raise JournalError(self._away[1], reason="connection")
        self._away = None
        try:
            return await self._open(place, owner=self._owner, now=now)
        except JournalError as exc:
            if exc.reason == "connection":
                self._away = (now, str(exc))
            raise

    async def _in_memory(self) -> Journal:
        async with self._changing:
            if self._memory is None:
                self._memory = await self._open(None, owner=self._owner, now=self._now())
            return self._memory

    async def _carry_to(self, journal: Journal) -> None:
        if journal is self._current:
            return
        if self._current is not None:
            carried = [(record_handle, record_handle.record) for record_handle in self._record_handles()]
            await journal.carry_over([record for _, record in carried])
            for record_handle, record in carried:
                record_handle.move_to(journal, written=record)
        self._current = journal
        await self._close_retired()

    def _warn(self) -> None:
        self._warnings = [REPLACED]
        for record_handle in self._record_handles():
            record_handle.warn(REPLACED)

    async def _retire_file(self) -> None:
        if self._file is not None:
            self._retired.append(self._file)
            self._file = None
            if self._paces is not None:
                self._paces.detach()
        if not list(self._record_handles()):
            # SQLite repairs its files when the last process that has them open closes them.
            await self._close_retired()

    async def _close_retired(self) -> None:
        while self._retired:
            # What a file that was given up says of this process stays: its records are still in hand here.
            await self._retired.pop().close(release=False)
