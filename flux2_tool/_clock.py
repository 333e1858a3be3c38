"""Time, passed in: wall clock, monotonic clock and sleep behind one small interface; and the machine's time zone.

Everything that waits takes a `Clock`, so that tests run hours in milliseconds on an event loop with virtual time.

The variable TZ may name a zone 24 hours or more away from UTC, such as UTC+24, which no place has and Python has no
time in. Such a zone counts as UTC everywhere: in times that are shown, and where a day begins.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The clock interface."""

    def now(self) -> float:
        """Return the wall clock, in seconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards, for lengths and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; zero only yields to other tasks."""
        ...

    async def wait(self, event: asyncio.Event, timeout_s: float) -> bool:
        """Wait until the event is set or the time is over; return whether it is set."""
        ...


class Alarm(asyncio.Event):
    """An event that is waited for with a limit again and again, for which nothing has to be cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: set[asyncio.Future[bool]] = set()

    def set(self) -> None:
        super().set()
        for waiting in self._waiting:
            _resolve(waiting, True)

    async def wait_within(self, timeout_s: float) -> bool:
        """Wait until it is set or the time is over, in seconds; return which it was."""
        if self.is_set():
            return True
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[bool] = loop.create_future()
        late = loop.call_later(timeout_s, _resolve, waiting, False)
        self._waiting.add(waiting)
        try:
            return await waiting
        finally:
            self._waiting.discard(waiting)
            late.cancel()


def _resolve(waiting: asyncio.Future[bool], is_set: bool) -> None:
    if not waiting.done():
        waiting.set_result(is_set)


class SystemClock:
    """The machine's clock, on the running event loop."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, timeout_s: float) -> bool:
        if isinstance(event, Alarm):
            return await event.wait_within(max(0.0, timeout_s))
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                await event.wait()
        except TimeoutError:
            return event.is_set()
        return True


def iso_utc(epoch_s: float) -> str:
    """Return an instant as ISO 8601 in UTC with whole seconds, for people and for JSON."""
    return datetime.fromtimestamp(epoch_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def local_time(epoch_s: float) -> datetime:
    """Return an instant in this machine's zone, with its offset."""
    moment = datetime.fromtimestamp(epoch_s, tz=UTC)
    try:
        return moment.astimezone()
    except ValueError:  # the zone's offset is none that a time can have
        return moment


def local_epoch(moment: datetime) -> float:
    """Return a time as seconds since 1970; one without an offset is in this machine's zone.

    Raises:
        ValueError, OverflowError, OSError: The machine has no such time.
    """
    epoch_s = moment.timestamp()
    if moment.tzinfo is None and local_time(epoch_s).tzinfo is UTC:
        return moment.replace(tzinfo=UTC).timestamp()
    return epoch_s
