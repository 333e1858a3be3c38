"""The machine's clock, run faster: what takes a minute takes a fraction of a second, and threads and sockets work."""

from __future__ import annotations

import asyncio
import time

from flux2_tool._clock import SystemClock


class FastClock(SystemClock):
    """The machine's clock, run faster from a common instant on.

    Args:
        epoch_s: Where both clocks agree, in seconds since 1970.
        speed: How much faster.
    """

    def __init__(self, epoch_s: float, speed: float) -> None:
        self._epoch_s, self._speed = epoch_s, speed

    def now(self) -> float:
        return self._epoch_s + (time.time() - self._epoch_s) * self._speed

    def monotonic(self) -> float:
        return super().monotonic() * self._speed

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self._speed)

    async def wait(self, event: asyncio.Event, timeout_s: float) -> bool:
        return await super().wait(event, timeout_s / self._speed)
