"""Carry out a store's operations in threads, for an event loop that never waits for the disk, a lock or a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final, TypeVar

from flux2_tool._clock import Clock
from flux2_tool.journal.errors import JournalError, JournalFailureReason, OwnershipLostError
from flux2_tool.journal.fork_guard import SQLITE
from flux2_tool.journal.protocol import LOCK_PATIENCE_S
from flux2_tool.journal.store import SqlJournal

T = TypeVar("T")

# Between two attempts at a locked file; it does not occupy the thread.
_PAUSE_S: Final = 0.03
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
        self._executor = executor
        self._clock = clock
        self._is_closed = False
        self._at_work: set[Future[Any]] = set()

    async def _run(self, operation: Callable[[], T], *, within_s: float = LOCK_PATIENCE_S) -> T:
        """Carry out an operation; a cancel leaves it at once."""
        until_s = self._clock.monotonic() + within_s
        while True:
            try:
                return await self._submitted(operation)
            except JournalError as exc:
                if exc.reason not in _PASSING or self._clock.monotonic() >= until_s:
                    raise
            await self._clock.sleep(_PAUSE_S)

    async def _finish(self, operation: Callable[[], T]) -> T:
        """Carry out an operation; a cancel is raised only when the attempt that runs has ended."""
        until_s = self._clock.monotonic() + LOCK_PATIENCE_S
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
                if (
                    not isinstance(exc, JournalError)
                    or exc.reason not in _PASSING
                    or self._clock.monotonic() >= until_s
                ):
                    raise
            else:
                self._after_write()
                if cancelled is not None:
                    raise cancelled
                return result
            await self._clock.sleep(_PAUSE_S)

    def _after_write(self) -> None:
        """What to do after something that has happened was written."""

    def _submit(self, operation: Callable[[], T]) -> Future[T]:
        future = self._executor.submit(guarded, operation)
        self._at_work.add(future)
        future.add_done_callback(self._at_work.discard)
        return future

    def _close_after(self, others: Sequence[Future[Any]], *, release: bool) -> None:
        """Close the store when what was begun before has ended: a claim that was left may have to end its record."""
        wait(others)
        self._store.close(release=release)

    def _submitted(self, operation: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise JournalError("the journal is closed")
        ended: Future[None] = Future()
        self._at_work.add(ended)

        def noted() -> T:
            is_awaited = ended.set_running_or_notify_cancel()
            try:
                return guarded(operation)
            finally:
                self._at_work.discard(ended)
                if is_awaited:
                    ended.set_result(None)

        try:
            attempt = loop.run_in_executor(self._executor, noted)
        except RuntimeError:  # Python ends: its threads have ended, so nobody else uses the store
            self._at_work.discard(ended)
            return _done_here(operation, loop.create_future())
        attempt.add_done_callback(lambda _: self._forget(ended))
        return attempt

    def _forget(self, ended: Future[None]) -> None:
        """Do not wait for an operation that was cancelled before it began."""
        if ended.cancel():
            self._at_work.discard(ended)


def guarded(operation: Callable[[], T]) -> T:
    """Carry out an operation while no process is forked."""
    with SQLITE.operation():
        return operation()


def _done_here(operation: Callable[[], T], future: asyncio.Future[T]) -> asyncio.Future[T]:
    try:
        future.set_result(operation())
    except Exception as exc:  # noqa: BLE001 - whoever waits for it gets it
        future.set_exception(exc)
    return future
