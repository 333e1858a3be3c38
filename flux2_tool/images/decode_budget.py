"""The budget of decoded pixels: one for the whole process, whatever event loops its calls run on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiter:
    need_bytes: int
    loop: asyncio.AbstractEventLoop
    admitted: asyncio.Future[None]


class DecodeBudget:
    """Admits as many pictures at once as the budget allows; the others wait in line, the smallest first.

    The smallest first, so that a usual picture waits for the large one that is being decoded and not for all of them.

    Args:
        total_bytes: What all pictures together may take.
        at_once: How many pictures are admitted at once.
    """

    def __init__(self, total_bytes: int, *, at_once: int) -> None:
        self._total_bytes = total_bytes
        self._at_once = at_once
        self._lock = threading.Lock()
        self._admitted: dict[_Waiter, int] = {}
        self._waiting: list[_Waiter] = []

    @asynccontextmanager
    async def reserved(self, need_bytes: int) -> AsyncIterator[None]:
        """Wait for the budget and hold a part of it while the block runs.

        Args:
            need_bytes: At most the whole budget; more would wait for ever.
        """
        loop = asyncio.get_running_loop()
        waiter = _Waiter(need_bytes=min(need_bytes, self._total_bytes), loop=loop, admitted=loop.create_future())
        with self._lock:
            self._waiting.append(waiter)
            self._waiting.sort(key=lambda one: one.need_bytes)
            self._admit()
        try:
            await waiter.admitted
            yield
        finally:
            with self._lock:
                self._admitted.pop(waiter, None)
                with contextlib.suppress(ValueError):
                    self._waiting.remove(waiter)
                self._admit()

    def _admit(self) -> None:
        while self._waiting and len(self._admitted) < self._at_once:
            waiter = self._waiting[0]
            if sum(self._admitted.values()) + waiter.need_bytes > self._total_bytes:
                return
            del self._waiting[0]
            # A loop that was closed with a call in line has nobody left to admit.
            with contextlib.suppress(RuntimeError):
                waiter.loop.call_soon_threadsafe(_set, waiter.admitted)
                self._admitted[waiter] = waiter.need_bytes


def _set(admitted: asyncio.Future[None]) -> None:
    if not admitted.done():
        admitted.set_result(None)
