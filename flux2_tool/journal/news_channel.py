"""Bring what a journal's other processes say, and what its own operations read of it, to whoever wants to hear it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from flux2_tool.journal.account_pace import News, read_message
from flux2_tool.journal.errors import JournalError

if TYPE_CHECKING:
    from flux2_tool.journal.postgres_listener import PostgresListener


class NewsChannel:
    """The news of one journal, in its event loop.

    Args:
        listener: Hears what other processes say; None where the store cannot tell.
    """

    def __init__(self, listener: PostgresListener | None) -> None:
        self._listener = listener
        self.hear: Callable[[Sequence[News]], None] = _ignore
        self._read: Callable[[], Awaitable[Sequence[News]]] | None = None
        self._reading: asyncio.Task[None] | None = None

    def begin(self, hear: Callable[[Sequence[News]], None], *, read: Callable[[], Awaitable[Sequence[News]]]) -> None:
        """Hand on all news from now on.

        Args:
            hear: Gets them.
            read: Asks the database for what holds now.
        """
        self.hear, self._read = hear, read
        if self._listener is not None:
            # The thread has no reference that would keep a journal alive which nobody closes.
            weakref.finalize(self, self._listener.stop)
            loop = asyncio.get_running_loop()
            self._listener.start(functools.partial(_hand_on, loop, weakref.WeakMethod(self._heard)))

    def end(self) -> None:
        """Hand nothing on any more."""
        self.hear, self._read = _ignore, None
        if self._listener is not None:
            self._listener.stop()

    # ---- private -----------------------------------------------------------------------------------------------------

    def _heard(self, messages: Sequence[str]) -> None:
        if messages:
            self.hear([news for news in map(read_message, messages) if news is not None])
        elif self._read is not None:  # connected again: something may have been missed
            self._reading = asyncio.get_running_loop().create_task(self._read_anew(self._read))

    async def _read_anew(self, read: Callable[[], Awaitable[Sequence[News]]]) -> None:
        with contextlib.suppress(JournalError):
            self.hear(await read())


def _ignore(_news: Sequence[News]) -> None:
    pass


def _hand_on(
    loop: asyncio.AbstractEventLoop, heard: weakref.WeakMethod[Callable[[Sequence[str]], None]], messages: list[str]
) -> None:
    """Hand on what was said, from the listener's thread."""
    method = heard()
    if method is not None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(method, messages)
