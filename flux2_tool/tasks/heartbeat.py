"""Renew the leases of this process's records for as long as its loop runs, from its first claim on."""

from __future__ import annotations

import asyncio

from flux2_tool._clock import Clock
from flux2_tool.journal import JournalWithFallback
from flux2_tool.journal.lease_table import LEASE_S


class Heartbeat:
    """Renews the leases three times in their length.

    Args:
        journals: Where the records are.
        clock: Time.
    """

    def __init__(self, journals: JournalWithFallback, clock: Clock) -> None:
        self._journals = journals
        self._clock = clock
        self._beating: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Renew them from now on."""
        if self._beating is None or self._beating.done():
            self._beating = asyncio.get_running_loop().create_task(self._renew_leases())

    async def aclose(self) -> None:
        """Stop."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)

    async def _renew_leases(self) -> None:
        while True:
            await self._clock.sleep(LEASE_S / 3)
            await self._journals.heartbeat()
