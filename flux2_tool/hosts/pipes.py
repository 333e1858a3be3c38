"""A host's pipes: lines are read and written on threads, so that a slow peer never blocks the event loop.

A peer that does not read for a minute, or leaves tens of mebibytes unread, is gone: what is kept for it is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import select
import socket
import stat
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable
from io import FileIO
from typing import TYPE_CHECKING, BinaryIO, Final

from flux2_tool.exceptions import ConfigurationError

if TYPE_CHECKING:
    from flux2_tool.hosts.log_stream import LogStream

MAX_MESSAGE_BYTES: Final = 1024 * 1024
# Kept of the end of a line that is too long.
END_BYTES: Final = 200
MAX_UNREAD_LINES: Final = 256
# Of what a peer has not read: beyond the first limit progress is left out, beyond the second the peer counts as gone.
MAX_UNREAD_BEFORE_PROGRESS_BYTES: Final = 256 * 1024
MAX_UNREAD_BYTES: Final = 32 * MAX_MESSAGE_BYTES
LONGEST_UNREAD_S: Final = 60.0
_CHUNK_BYTES: Final = 64 * 1024
_LOOK_EVERY_S: Final = 0.005


class LineWriter:
    """Writes lines to a pipe without ever blocking the event loop.

    A short line is written at once if the pipe has room for it; the rest goes through a thread, which a slow reader may
    block.

    Args:
        output: A pipe, socket or file; unbuffered.
        monotonic: Returns the time on a clock that never runs backwards, in seconds.

    Attributes:
        has_failed: Whether a line could not be written.
    """

    def __init__(self, output: FileIO, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._monotonic = monotonic
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._unread_bytes = 0  # of the lines that the thread has not written yet
        self._moved_at_s = 0.0  # when the thread last wrote, or got something to write
        self.has_failed = False
        self._lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(output.fileno(), select.POLLOUT)
        self._broken: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._write_all, name="stdout", daemon=True)
        self._thread.start()

    def on_broken(self, callback: Callable[[], object]) -> None:
        """Call back, on any thread and perhaps repeatedly, when the reader has closed the pipe or reads too slowly."""
        self._broken = callback

    def put(self, line: bytes) -> None:
        """Write one line, or queue it; not thread-safe."""
        if len(line) <= select.PIPE_BUF and self._is_free:
            try:
                line = line[self._output.write(line) :]
            except (OSError, ValueError):
                self._fail()
                return
        if not line:
            return
        with self._lock:
            if self._unread_bytes == 0:
                self._moved_at_s = self._monotonic()
            self._unread_bytes += len(line)
            is_too_much = self._unread_bytes > MAX_UNREAD_BYTES
        if is_too_much:
            self._fail()
        else:
            self._lines.put(line)

    def put_progress(self, line: bytes) -> None:
        """Write or queue one line that may be left out while the peer reads too slowly; not thread-safe."""
        if self._unread_bytes <= MAX_UNREAD_BEFORE_PROGRESS_BYTES:
            self.put(line)

    @property
    def is_read(self) -> bool:
        """Whether every line that was put has been written, and the reader has taken it from the pipe."""
        try:
            return not self.has_failed and self._unread_bytes == 0 and unread_bytes(self._output) == 0
        except (OSError, ValueError):
            self.has_failed = True
            return False

    def wait_until_read(self, timeout_s: float) -> None:
        """Wait until `is_read`, for at most `timeout_s` seconds; not on the event loop."""
        pause, until_s = threading.Event(), self._monotonic() + timeout_s
        while not self.is_read and not self.has_failed and self._monotonic() < until_s:
            pause.wait(_LOOK_EVERY_S)

    def check_reader(self) -> None:
        """Report the pipe as broken if nobody has read it for LONGEST_UNREAD_S although something is queued."""
        with self._lock:
            is_stalled = self._unread_bytes > 0 and self._monotonic() - self._moved_at_s > LONGEST_UNREAD_S
        if is_stalled:
            self._broken()

    def close(self, *, timeout_s: float) -> None:
        """Write the queued lines, for at most `timeout_s` seconds."""
        self._lines.put(None)
        self._thread.join(timeout_s)

    @property
    def _is_free(self) -> bool:
        """Whether no line is queued and the output takes a short line without blocking (POSIX, PIPE_BUF)."""
        return self._unread_bytes == 0 and [event for _fd, event in self._poll.poll(0)] == [select.POLLOUT]

    def _write_all(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                view = memoryview(line)
                while view:
                    written = self._output.write(view[:_CHUNK_BYTES])
                    if not written:  # somebody has made the pipe non-blocking
                        self._poll.poll()
                        continue
                    view = view[written:]
                    with self._lock:
                        self._unread_bytes -= written
                        self._moved_at_s = self._monotonic()
        except (OSError, ValueError):
            with contextlib.suppress(RuntimeError):
                self._fail()

    def _fail(self) -> None:
        self.has_failed = True
        self._broken()


def unread_bytes(file: FileIO) -> int:
    """Return how much of what was written to a pipe or socket its reader has not taken; of other files nothing.

    Bytes that a dead reader left unread still count, on Linux; elsewhere the kernel may say 0.

    Raises:
        OSError: The reader of a socket is gone and has left something unread.
    """
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(file.fileno())) as peer:
            if peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise ConnectionResetError
        return _queued(file, termios.TIOCOUTQ)
    return _queued(file, termios.FIONREAD) if stat.S_ISFIFO(mode) else 0


def _queued(file: FileIO, request: int) -> int:
    with contextlib.suppress(OSError):  # a system that cannot say
        found: int = struct.unpack("i", fcntl.ioctl(file, request, b"\0\0\0\0"))[0]
        return found
    return 0


class LineReader:
    """Reads stdin's lines on a thread of its own; of a line that is too long only the begin and the end are kept.

    Args:
        loop: The event loop that gets the lines.
        on_end: Called at the end of the input, on the reading thread, which does not depend on the event loop.
        max_bytes: The longest line that is kept whole, without its end.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        on_end: Callable[[], object] = lambda: None,
        max_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._loop = loop
        self._max_bytes = max_bytes
        self._on_end = on_end
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._free_slots = threading.Semaphore(MAX_UNREAD_LINES)
        threading.Thread(target=self._read_all, name="stdin", daemon=True).start()

    async def next(self) -> bytes | None:
        """Return the next line, None at the end."""
        line = await self._lines.get()
        self._free_slots.release()
        return line

    def _read_all(self) -> None:
        source = None if sys.stdin is None else sys.stdin.buffer
        # The loop may be closed before the input is.
        with contextlib.suppress(RuntimeError):
            try:
                while source is not None and (line := source.readline(self._max_bytes + 2)):
                    if len(line) > self._max_bytes + 1 and not line.endswith(b"\n"):
                        line += self._end_of_line(source)
                    self._free_slots.acquire()
                    self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
            finally:
                self._on_end()
                self._loop.call_soon_threadsafe(self._lines.put_nowait, None)

    def _end_of_line(self, source: BinaryIO) -> bytes:
        """Read to the end of a line, and return the last of it."""
        end = b""
        while not end.endswith(b"\n") and (rest := source.readline(MAX_MESSAGE_BYTES)):
            end = (end + rest)[-END_BYTES:]
        return end


def protocol_output(log: LogStream | None) -> LineWriter:
    """Return this process's stdout for a protocol alone: whatever else is printed goes to the log.

    Args:
        log: From `unblocked_stderr`; None where there is no stderr, then it goes nowhere.

    Raises:
        ConfigurationError: stdout is closed.
    """
    try:
        sys.stdout.fileno()
    except (AttributeError, OSError, ValueError) as exc:
        hint = "start it with pipes for stdin and stdout"
        raise ConfigurationError("stdout is closed, where the answers would go", hint=hint) from exc
    output = LineWriter(FileIO(os.dup(sys.stdout.fileno()), "wb"))
    os.dup2(os.open(os.devnull, os.O_WRONLY) if log is None else log.fileno(), sys.stdout.fileno())
    if log is not None:
        sys.stdout = log
    return output
