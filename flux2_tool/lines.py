"""The worker's pipes: lines in and out on threads of their own, so that neither side's pace stops the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO, Final

MAX_MESSAGE_BYTES: Final = 1024 * 1024


class LineWriter:
    """Writes lines to a pipe from a thread of its own, so that a slow reader never stops the event loop."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._broken: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._write_all, name="stdout", daemon=True)
        self._thread.start()

    def on_broken(self, callback: Callable[[], object]) -> None:
        """Have a callback told when the reader is gone; it is called from another thread."""
        self._broken = callback

    def put(self, line: bytes) -> None:
        """Queue one line."""
        self._lines.put(line)

    def close(self, *, timeout_s: float) -> None:
        """Write what is queued, within the time given."""
        self._lines.put(None)
        self._thread.join(timeout_s)

    def _write_all(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                self._output.write(line)
                self._output.flush()
        except (OSError, ValueError):
            with contextlib.suppress(RuntimeError):
                self._broken()


def read_lines_in_thread(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[bytes | None]) -> None:
    """Feed stdin's lines to the loop; a line that is too long is cut, reported, and skipped to its end."""

    def read() -> None:
        source = sys.stdin.buffer
        try:
            while line := source.readline(MAX_MESSAGE_BYTES + 2):
                if len(line) > MAX_MESSAGE_BYTES + 1 and not line.endswith(b"\n"):
                    while (rest := source.readline(MAX_MESSAGE_BYTES)) and not rest.endswith(b"\n"):
                        pass
                asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()
        finally:
            with contextlib.suppress(RuntimeError):
                asyncio.run_coroutine_threadsafe(lines.put(None), loop)

    threading.Thread(target=read, name="stdin", daemon=True).start()
