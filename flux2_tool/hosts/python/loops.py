"""A tool's engines, a pair for each event loop that uses it, because connections and timers belong to one loop.

Engines of a loop that has ended are let go at the next use: their records are released, so that a call on another loop
joins the same tasks. What a forked child inherits belongs to its parent: it is neither used nor closed there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Final

from flux2_tool.engine.engine import Engine
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.hosts.python.fork_pause import LOOPS
from flux2_tool.settings import JournalMode

logger = logging.getLogger(__name__)

CLOSE_ELSEWHERE_S: Final = 10.0

Pair = tuple[Engine, Engine]


class EnginesByLoop:
    """The engines of one tool.

    Args:
        make: Makes a pair of engines; opens nothing.
        journal: Where the tasks are recorded; in memory they would be forgotten between two loops.
    """

    def __init__(self, make: Callable[[], Pair], *, journal: JournalMode) -> None:
        self._make = make
        self._journal = journal
        self._by_loop: dict[asyncio.AbstractEventLoop, Pair] = {}
        self._was_used = False
        self._lock = threading.Lock()
        _every.add(self)

    async def here(self) -> Pair:
        """Return the engines of the running loop.

        Raises:
            ConfigurationError: No loop of asyncio runs here, or the journal is off and another one has used the tool;
                nothing was sent.
        """
        loop = _running_loop()
        with self._lock:
            found = self._by_loop.get(loop)
            if found is None:
                if self._was_used and self._journal == "off":
                    raise ConfigurationError(
                        "This tool was used on another event loop or in a parent process, and with the journal off its "
                        "tasks are known there alone. Nothing was sent.",
                        hint="Use one event loop (one asyncio.run), make a tool for each, or turn the journal on "
                        "(FLUX2_TOOL_JOURNAL).",
                    )
                self._was_used = True
                LOOPS.add(loop)
                found = self._by_loop[loop] = self._make()
            ended = self._take(lambda other: other.is_closed())
        for pair in ended.values():
            for engine in pair:
                await engine.let_go()
        return found

    async def aclose(self) -> None:
        """Close the engines of this loop, of loops that run in other threads, and of loops that have ended."""
        here = _running_loop() if self._by_loop else None
        with self._lock:
            taken = self._take(lambda _loop: True)
        for loop, pair in taken.items():
            if loop is here:
                await asyncio.gather(*(engine.aclose() for engine in pair))
            elif loop.is_running():
                await _close_elsewhere(loop, pair)
            else:
                for engine in pair:
                    await engine.let_go()

    def forget_parents(self) -> None:
        """Start anew in a forked child."""
        # Kept, because closing them would take the parent's sockets out of its event loop's selector.
        _inherited.append(self._by_loop)
        self._by_loop = {}
        self._lock = threading.Lock()  # another thread of the parent's may have held it

    def _take(self, is_meant: Callable[[asyncio.AbstractEventLoop], bool]) -> dict[asyncio.AbstractEventLoop, Pair]:
        return {loop: self._by_loop.pop(loop) for loop in list(self._by_loop) if is_meant(loop)}


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError as exc:
        raise ConfigurationError(
            "This tool works on asyncio, and no event loop of asyncio runs here. Nothing was sent.",
            hint="Use asyncio.run; on trio or any other event loop call the methods of SyncFlux2Tool in a thread.",
        ) from exc


async def _close_elsewhere(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    async def close() -> None:
        await asyncio.gather(*(engine.aclose() for engine in pair))

    closing = close()
    try:
        future = asyncio.run_coroutine_threadsafe(closing, loop)
    except RuntimeError:  # the loop has ended meanwhile
        closing.close()
        return
    try:
        async with asyncio.timeout(CLOSE_ELSEWHERE_S):
            await asyncio.wrap_future(future)
    except TimeoutError:
        logger.warning("connections on another event loop could not be closed: it is busy or stuck")


_every: weakref.WeakSet[EnginesByLoop] = weakref.WeakSet()
_inherited: list[object] = []


def _after_fork() -> None:
    for engines in list(_every):
        engines.forget_parents()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
