"""What a fork waits for: event loops of other threads, until each is between two callbacks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flux2_tool.hosts.python.fork_pause import ForkPause
from tests.support.waiting import PATIENCE_S


class AskedLoop(asyncio.SelectorEventLoop):
    """A loop that tells when another thread has asked something of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:
        handle = super().call_soon_threadsafe(callback, *args, context=context)
        self.asked.set()
        return handle


@contextmanager
def running() -> Iterator[AskedLoop]:
    loop = AskedLoop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    begun = threading.Event()
    loop.call_soon_threadsafe(begun.set)
    assert begun.wait(PATIENCE_S)
    loop.asked.clear()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


def test_a_fork_begins_after_the_callback_that_runs() -> None:
    """It may be importing a module."""
    happened: list[str] = []
    busy, may_end = threading.Event(), threading.Event()

    def callback() -> None:
        busy.set()
        may_end.wait(PATIENCE_S)
        happened.append("callback ended")

    def fork(pause: ForkPause) -> None:
        pause.before_fork()
        happened.append("forked")
        pause.after_fork()

    with running() as loop:
        pause = ForkPause(patience_s=PATIENCE_S)
        pause.add(loop)
        loop.call_soon_threadsafe(callback)
        assert busy.wait(PATIENCE_S)
        loop.asked.clear()
        forking = threading.Thread(target=fork, args=[pause])
        forking.start()
        assert loop.asked.wait(PATIENCE_S)
        may_end.set()
        forking.join(PATIENCE_S)

    assert happened == ["callback ended", "forked"]


def test_no_callback_begins_until_the_fork_is_over() -> None:
    """Else it could begin an import in mid fork."""
    happened: list[str] = []
    with running() as loop:
        pause = ForkPause(patience_s=PATIENCE_S)
        pause.add(loop)
        later = threading.Event()

        pause.before_fork()
        loop.call_soon_threadsafe(lambda: (happened.append("callback"), later.set()))
        happened.append("forked")
        pause.after_fork()

        assert later.wait(PATIENCE_S)
    assert happened == ["forked", "callback"]


def test_a_loop_that_never_gets_there_is_waited_for_in_vain() -> None:
    """It may itself wait for the thread that forks."""
    forked = threading.Event()
    with running() as loop:
        pause = ForkPause(patience_s=0.0)
        pause.add(loop)
        loop.call_soon_threadsafe(forked.wait, PATIENCE_S)

        pause.before_fork()
        forked.set()
        pause.after_fork()

        again = threading.Event()
        loop.call_soon_threadsafe(again.set)
        assert again.wait(PATIENCE_S)


def test_the_loop_that_forks_itself_is_not_waited_for() -> None:
    """It would wait for itself."""
    pause = ForkPause(patience_s=PATIENCE_S)

    async def fork() -> str:
        pause.add(asyncio.get_running_loop())
        pause.before_fork()
        pause.after_fork()
        return "forked"

    assert asyncio.run(fork()) == "forked"


def test_loops_that_have_ended_are_not_waited_for() -> None:
    """Nor do they make a fork fail."""
    pause = ForkPause(patience_s=PATIENCE_S)
    with running() as loop:
        pause.add(loop)

    pause.before_fork()
    pause.after_fork()

    assert loop.is_closed()
