"""An event loop whose time jumps: to the next timer, whenever nothing is ready. Hours pass in milliseconds.

Threads stay possible (`asyncio.to_thread`): while one works, time stands still. So do sockets on loopback: bytes that
were written are there at once, or nearly so; while any are on their way, time waits a moment before it jumps.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from flux2_tool._clock import SystemClock
from flux2_tool.journal import Moment, ThisProcess

START_S: Final = 1_795_392_000.0  # 2026-11-23 00:00:00 UTC
_STUCK_AFTER_S: Final = 5.0
# Real time that bytes on loopback have to arrive.
_WIRE_S: Final = 0.002

T = TypeVar("T")


class StuckError(AssertionError):
    """Everybody waits for something that nothing will ever bring."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never blocks for a timer; moves the loop's time on instead."""

    jump: Callable[[float], None]
    threads_at_work = 0
    on_the_wire = 0

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if events or timeout == 0:
            return events
        if self.threads_at_work:
            return super().select(_STUCK_AFTER_S)
        if timeout is None:
            events = super().select(_STUCK_AFTER_S)
            if not events:
                raise StuckError("nothing is ready, no timer is set, and nothing arrived from outside")
            return events
        if self.on_the_wire > 0 and (events := super().select(_WIRE_S)):
            return events
        self.jump(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop that starts at second 0 and waits for nothing."""

    def __init__(self) -> None:
        self._elapsed_s = 0.0
        selector = _JumpingSelector()
        selector.jump = self._jump
        self._jumping = selector
        self._at_close: list[Callable[[], object]] = []
        super().__init__(selector)

    def time(self) -> float:
        return self._elapsed_s

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        if executor is not None:
            return self._done_in(executor, func, *args)
        self._jumping.threads_at_work += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_done)
        return future

    def _done_in(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """Let a thread of its own do its work at once, so that a seed repeats the order in which everything happens."""
        future = self.create_future()
        try:
            future.set_result(executor.submit(func, *args).result())
        except RuntimeError:
            raise  # the thread has ended
        except BaseException as exc:  # noqa: BLE001 - whoever waits for it gets it
            future.set_exception(exc)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's own
        """Let time stand still while the threads end too; from Python 3.12 on their end has a time limit."""
        self._jumping.threads_at_work += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._jumping.threads_at_work -= 1

    def at_close(self, callback: Callable[[], object]) -> None:
        """Call this when the loop ends: for what a test leaves open because it plays a death."""
        self._at_close.append(callback)

    def close(self) -> None:
        super().close()
        while self._at_close:
            self._at_close.pop()()

    def on_the_wire(self, change: int) -> None:
        """Count messages that are on their way through a socket of this process."""
        self._jumping.on_the_wire += change

    def _thread_done(self, _future: asyncio.Future[Any]) -> None:
        self._jumping.threads_at_work -= 1

    def _jump(self, seconds: float) -> None:
        self._elapsed_s += seconds


class VirtualClock(SystemClock):
    """`flux2_tool._clock.Clock` on the running virtual loop."""

    def __init__(self, start_s: float = START_S) -> None:
        self._start_s = start_s

    def now(self) -> float:
        return self._start_s + asyncio.get_running_loop().time()


class VirtualProcess(ThisProcess):
    """This process, as the owner of records, on a machine whose uptime is that of the loop it is made in."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()

    def moment(self) -> Moment:
        return Moment("a virtual boot", self._loop.time())  # also read in the journal's thread


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a virtual loop of its own; whatever it leaves running is cancelled."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
