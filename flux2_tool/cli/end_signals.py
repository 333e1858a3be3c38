"""Ctrl-C, SIGTERM and SIGHUP while a command waits for a picture, which may be paid for already.

The first one ends the wait in order: stderr says how to fetch the picture, and the journal leaves the task to the next
call. A later one ends the process at once. What senders do: coreutils' `timeout` sends its signal twice in a row,
systemd may add a SIGHUP to its SIGTERM, and of a terminal that is closed both the shell and the kernel send SIGHUP.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final

from flux2_tool.cli.exit_codes import INTERRUPTED, OF_SIGNAL
from flux2_tool.cli.streams import ResultStream

END_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A signal that follows this soon belongs to the first one: on a busy machine its sender may be held up in between.
REPEATED_WITHIN_S: Final = 1.0


class EndSignals:
    """What these signals do while the block runs; only in the main thread.

    Whoever starts a command can have it ignore SIGTERM and SIGHUP, as `nohup` does: that stays so.

    Args:
        monotonic: Seconds that never run backwards.

    Attributes:
        first: The signal that came first, if any has.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._since_s = 0.0
        self._end_wait: Callable[[], object] | None = None
        self._has_ended_wait = False
        self._is_showing = False
        self._before: dict[signal.Signals, Any] = {}
        self.first: signal.Signals | None = None

    def __enter__(self) -> EndSignals:
        _ended_by.clear()
        for number in END_SIGNALS:
            before = signal.getsignal(number)
            if number == signal.SIGINT or before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.first is not None:
            return  # the same signal once more must not end what is left
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)  # None: not set by Python

    @contextmanager
    def waiting(self, end_wait: Callable[[], object]) -> Iterator[None]:
        """Have the first signal end a wait while the block runs: also one that came before.

        Args:
            end_wait: Ends it; called by a signal's handler.
        """
        self._end_wait = end_wait
        if self.first is not None:
            self._end_waiting()
        try:
            yield
        finally:
            self._end_wait = None

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Have SIGTERM and SIGHUP end the writing of a result while the block runs: its reader may have stopped.

        The first Ctrl-C came too late to end the wait, and does nothing; the second ends the writing too.
        """
        self._is_showing = True
        if self.first not in (None, signal.SIGINT) and not self._has_ended_wait:
            _end_output(None)
        try:
            yield
        finally:
            self._is_showing = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        received = signal.Signals(number)
        if self.first is None:
            self.first, self._since_s = received, self._monotonic()
            _ended_by.append(received)
            self._end_waiting()
            if self._is_showing and received != signal.SIGINT:
                _end_output(frame)
        elif received != signal.SIGHUP and self._monotonic() - self._since_s >= REPEATED_WITHIN_S:
            self._end_now(received, frame)

    def _end_waiting(self) -> None:
        if self._end_wait is not None:
            self._has_ended_wait = True
            self._end_wait()

    def _end_now(self, received: signal.Signals, frame: FrameType | None) -> None:
        if received == signal.SIGINT:
            if self._is_showing:
                _end_output(frame)
            raise KeyboardInterrupt
        signal.signal(received, signal.SIG_DFL)
        os.kill(os.getpid(), received)


# The signal that came first in this process, if any has.
_ended_by: Final[list[signal.Signals]] = []


def exit_code_after_signal(code: int) -> int:
    """Return the exit code of a command that would be `code`: where a signal ended it, 128 plus the signal's number."""
    is_ended = code == INTERRUPTED or (isinstance(sys.stdout, ResultStream) and sys.stdout.is_ended)
    return OF_SIGNAL + _ended_by[0] if _ended_by and is_ended else code


def _end_output(frame: FrameType | None) -> None:
    if isinstance(sys.stdout, ResultStream):
        sys.stdout.end(frame)
