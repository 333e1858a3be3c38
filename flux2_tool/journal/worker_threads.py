"""The threads that carry out a journal's operations, and what of them still runs when it is closed.

At the end of Python they end before the event loops of others; what is left to do is then done without one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final, TypeVar

from flux2_tool.journal.fork_guard import SQLITE

T = TypeVar("T")

# An operation may hang with its disk or its server; the journal is closed all the same.
_PATIENCE_S: Final = 5.0


class WorkerThreads:
    """Carries out operations in threads.

    Args:
        executor: The threads.
    """

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._at_work: dict[int, Future[None]] = {}

    def submit(self, operation: Callable[[], T]) -> Future[T]:
        """Begin an operation.

        Raises:
            RuntimeError: The threads have ended.
        """
        return self._executor.submit(self._work, operation)

    def run(self, operation: Callable[[], T]) -> asyncio.Future[T]:
        """Begin an operation for the event loop that runs."""
        loop = asyncio.get_running_loop()
        try:
            return loop.run_in_executor(self._executor, self._work, operation)
        except RuntimeError:  # Python ends: its threads have ended, so nobody else uses the store
            return _done_here(operation, loop.create_future())

    def wait_for_others(self) -> None:
        """Within an operation, wait for those that were begun before it."""
        self._at_work.pop(threading.get_ident(), None)
        wait(list(self._at_work.values()), timeout=_PATIENCE_S)

    def end(self, *, wait: bool) -> None:
        """Take no more operations."""
        self._executor.shutdown(wait=wait)

    def _work(self, operation: Callable[[], T]) -> T:
        thread, ended = threading.get_ident(), Future[None]()
        self._at_work[thread] = ended
        try:
            return guarded(operation)
        finally:
            self._at_work.pop(thread, None)
            ended.set_result(None)


def guarded(operation: Callable[[], T]) -> T:
    """Carry out an operation that no fork comes into the middle of."""
    with SQLITE.operation():
        return operation()


def _done_here(operation: Callable[[], T], future: asyncio.Future[T]) -> asyncio.Future[T]:
    try:
        future.set_result(operation())
    except Exception as exc:  # noqa: BLE001 - whoever waits for it gets it
        future.set_exception(exc)
    return future
