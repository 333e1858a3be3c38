"""How long a call waits for a journal that other processes use: for opening it and for its claim together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from flux2_tool.journal.errors import JournalError

T = TypeVar("T")

# Between two attempts; SQLite gives some locks up at once.
_PAUSE_S: Final = 0.03


class Patience:
    """The time of one call.

    Args:
        within_s: From now, in seconds.
    """

    def __init__(self, within_s: float) -> None:
        self._until_s = asyncio.get_running_loop().time() + within_s

    @property
    def left_s(self) -> float:
        """How much of it is left, in seconds; zero when it is over."""
        return max(0.0, self._until_s - asyncio.get_running_loop().time())

    async def while_locked(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do something, again and again while another process holds the lock that it needs.

        Raises:
            JournalError: It failed for another reason, or is still locked when the time is over.
        """
        while True:
            try:
                return await attempt()
            except JournalError as exc:
                if exc.reason != "locked" or not self.left_s:
                    raise
            await asyncio.sleep(_PAUSE_S)
