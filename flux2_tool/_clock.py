"""Time, passed in: wall clock, monotonic clock and sleep behind one small interface.

Everything that waits takes a `Clock`, so that tests run hours in milliseconds on an event loop with virtual time.
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


class SystemClock:
    """The machine's clock, on the running event loop."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                await event.wait()
        except TimeoutError:
            return event.is_set()
        return True


def iso_utc(epoch_s: float) -> str:
    """Return an instant as ISO 8601 in UTC with whole seconds, for people and for JSON."""
    return datetime.fromtimestamp(epoch_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
