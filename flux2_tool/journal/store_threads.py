"""Carry out a store's operations in threads, for an event loop that never waits for the disk, a lock or a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from flux2_tool._clock import Clock
from flux2_tool.journal.errors import JournalError, JournalFailureReason, OwnershipLostError
from flux2_tool.journal.protocol import LOCK_PATIENCE_S
from flux2_tool.journal.store import SqlJournal
from flux2_tool.journal.worker_threads import WorkerThreads

T = TypeVar("T")

# Between two attempts at a locked file; it does not occupy the thread.
_PAUSE_S: Final = 0.03
# How long to wait for a server that did not answer the last time, and at least for any.
_AWAY_S: Final = 1.0
# It ends an operation that waits for a lock before this.
_ANSWER_S: Final = LOCK_PATIENCE_S + 1.0
# What an operation is tried again for; each may be carried out twice.
_PASSING: Final[frozenset[JournalFailureReason]] = frozenset(("locked", "connection"))


class StoreThreads:
    """A store in threads.

    Args:
        store: The open journal; used in the threads only.
        executor: The threads.
        clock: Measures the waits for a lock.
    """

    def __init__(self, store: SqlJournal, executor: ThreadPoolExecutor, *, clock: Clock) -> None:
        self._store = store
        self._threads = WorkerThreads(executor)
        self._clock = clock
        self._is_closed = False
        self._has_server = store.has_server
        # No server was found: until it is, nothing waits for it long, so that tasks are followed on meanwhile.
        self._is_away = False

    async def _run(self, operation: Callable[[], T], *, within_s: float = LOCK_PATIENCE_S) -> T:
        """Carry out an operation; a cancel leaves it at once."""
        begun_s = self._clock.monotonic()
        while True:
            try:
                result = await self._answered(self._submitted(operation), within_s)
            except JournalError as exc:
                if self._is_final(exc, begun_s, within_s):
                    raise
            else:
                self._is_away = False
                return result
            await self._clock.sleep(_PAUSE_S)

    async def _finish(self, operation: Callable[[], T]) -> T:
        """Carry out an operation; a cancel is raised only when the attempt that runs has ended."""
        begun_s = self._clock.monotonic()
        while True:
            attempt = self._submitted(operation)
            cancelled: asyncio.CancelledError | None = None
            while not attempt.done():
                try:
                    await asyncio.wait([attempt])
                except asyncio.CancelledError as exc:
                    cancelled = exc
            try:
                result = attempt.result()
            except (JournalError, OwnershipLostError) as exc:
                if cancelled is not None:
                    raise cancelled from exc
                if not isinstance(exc, JournalError) or self._is_final(exc, begun_s, LOCK_PATIENCE_S):
                    raise
            else:
                self._is_away = False
                self._after_write()
                if cancelled is not None:
                    raise cancelled
                return result
            await self._clock.sleep(_PAUSE_S)

    def _after_write(self) -> None:
        """What to do after something that has happened was written."""

    async def _answered(self, attempt: asyncio.Future[T], within_s: float) -> T:
        """Wait for an attempt; one to which a server does not answer is left, so that its call ends in time."""
        if self._has_server:
            longest_s = _AWAY_S if self._is_away else _ANSWER_S
            patience_s = min(longest_s, max(_AWAY_S, within_s))
            try:
                await asyncio.wait([attempt], timeout=patience_s)
            finally:
                is_late = not attempt.done() and attempt.cancel()
            if is_late and patience_s < longest_s:
                raise JournalError("the journal's database has not answered in time", reason="locked")
            if is_late:
                self._is_away = True
                raise JournalError("the journal's database does not answer", reason="connection")
        return await attempt

    def _is_final(self, exc: JournalError, begun_s: float, within_s: float) -> bool:
        """Whether an operation is not tried again; a lock ends soon, and a server may be away for long."""
        if exc.reason == "connection":
            within_s = 0.0 if self._is_away else min(within_s, LOCK_PATIENCE_S)
        if exc.reason in _PASSING and self._clock.monotonic() < begun_s + within_s:
            return False
        self._is_away = exc.reason == "connection"
        return True

    def _close_store(self, *, release: bool) -> None:
        """Close the store when what was begun before has ended: a claim that was left may have to end its record."""
        self._threads.wait_for_others()
        self._store.close(release=release)

    def _submitted(self, operation: Callable[[], T]) -> asyncio.Future[T]:
        if self._is_closed:
            raise JournalError("the journal is closed")
        return self._threads.run(operation)
