"""The worker's pipes: lines are read and written on threads, so that a slow peer never blocks the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import select
import sys
import threading
from collections.abc import Callable
from io import FileIO
from typing import Final

MAX_MESSAGE_BYTES: Final = 1024 * 1024
MAX_UNREAD_LINES: Final = 256


class LineWriter:
    """Writes lines to a pipe without ever blocking the event loop.

    A short line is written at once if the pipe has room for it; the rest goes through a thread, which a slow reader may
    block.

    Args:
        output: A pipe, socket or file; unbuffered.
    """

    def __init__(self, output: FileIO) -> None:
        self._output = output
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._queued = 0  # lines that the thread has not written yet
        self._queued_lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(output.fileno(), select.POLLOUT)
        self._broken: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._write_all, name="stdout", daemon=True)
        self._thread.start()

    def on_broken(self, callback: Callable[[], object]) -> None:
        """Call back when the reader has closed the pipe; the callback runs on another thread."""
        self._broken = callback

    def put(self, line: bytes) -> None:
        """Write one line, or queue it; not thread-safe."""
        if len(line) <= select.PIPE_BUF and self._is_free:
            try:
                line = line[self._output.write(line) :]
            except (OSError, ValueError):
                self._broken()
                return
        if line:
            with self._queued_lock:
                self._queued += 1
            self._lines.put(line)

    def close(self, *, timeout_s: float) -> None:
        """Write the queued lines, for at most `timeout_s` seconds."""
        self._lines.put(None)
        self._thread.join(timeout_s)

    @property
    def _is_free(self) -> bool:
        """Whether no line is queued and the output takes a short line without blocking (POSIX, PIPE_BUF)."""
        return self._queued == 0 and [event for _fd, event in self._poll.poll(0)] == [select.POLLOUT]

    def _write_all(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                view = memoryview(line)
                while view:
                    view = view[self._output.write(view) :]
                with self._queued_lock:
                    self._queued -= 1
        except (OSError, ValueError):
            with contextlib.suppress(RuntimeError):
                self._broken()


class LineReader:
    """Reads stdin's lines on a thread of its own; a line that is too long is truncated.

    Args:
        loop: The event loop that gets the lines.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._free_slots = threading.Semaphore(MAX_UNREAD_LINES)
        threading.Thread(target=self._read_all, name="stdin", daemon=True).start()

    async def next(self) -> bytes | None:
        """Return the next line, None at the end."""
        line = await self._lines.get()
        self._free_slots.release()
        return line

    def _read_all(self) -> None:
        source = sys.stdin.buffer
        # The loop may be closed before the input is.
        with contextlib.suppress(RuntimeError):
            try:
                while line := source.readline(MAX_MESSAGE_BYTES + 2):
                    if len(line) > MAX_MESSAGE_BYTES + 1 and not line.endswith(b"\n"):
                        while (rest := source.readline(MAX_MESSAGE_BYTES)) and not rest.endswith(b"\n"):
                            pass
                    self._free_slots.acquire()
                    self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
            finally:
                self._loop.call_soon_threadsafe(self._lines.put_nowait, None)
