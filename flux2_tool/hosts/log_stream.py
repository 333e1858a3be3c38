"""stderr for a process that must not wait for whoever reads it.

Hosts start servers with stderr as a pipe and may never read it. What is written here goes to a bounded queue, which a
thread empties; when the queue is full, whole writes are dropped and counted.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import Final

_FORMAT: Final = "%(levelname)s %(name)s: %(message)s"
# Each request, and each attempt to reach a database that is away: what comes of them is logged here already.
_QUIET: Final = {"httpx": logging.WARNING, "httpcore": logging.WARNING, "psycopg": logging.ERROR}
MAX_QUEUED_BYTES: Final = 1024 * 1024
DRAIN_S: Final = 1.0


class LogStream(io.TextIOBase):
    """A text stream whose writes never block.

    Args:
        fd: Where the text goes in the end.
        encoding: The text's; what it cannot express is escaped.
        in_order: Whether a short text is written at once where there is room for it, so that it appears in order with
            what is written to stdout.
    """

    def __init__(self, fd: int, *, encoding: str = "utf-8", in_order: bool = False) -> None:
        self._fd = fd
        self._encoding = encoding
        self._in_order = in_order
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._pid = os.getpid()
        self._texts: deque[bytes] = deque()
        self._queued_bytes = 0
        self._dropped = 0
        self._is_broken = False
        self._changed = threading.Condition()
        threading.Thread(target=self._write_all, name="stderr", daemon=True).start()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the text."""
        return self._encoding

    @property
    def is_broken(self) -> bool:
        """Whether something that was written is lost, because nobody can read it any more or the disk is full."""
        return self._is_broken

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, text: str) -> int:
        """Write or queue a text, or drop it when too much is queued."""
        data = text.encode(self._encoding, "backslashreplace")
        if os.getpid() != self._pid:  # a forked child has no such thread
            with contextlib.suppress(OSError):
                os.write(self._fd, data)
            return len(text)
        with self._changed:
            if self._is_broken:
                return len(text)
            if self._in_order and self._has_room_for(data):
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:
                    pass
                except OSError:
                    self._is_broken = True
                    return len(text)
            if self._queued_bytes + len(data) > MAX_QUEUED_BYTES:
                self._dropped += 1
            elif data:
                self._queue(data)
        return len(text)

    def drain(self, *, timeout_s: float) -> None:
        """Wait until everything is written, for at most `timeout_s` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_broken or self._queued_bytes == 0, timeout_s)

    def _has_room_for(self, data: bytes) -> bool:
        """Return whether a text can be written at once; one for a pipe that nobody can read is lost at once."""
        if self._queued_bytes or len(data) > select.PIPE_BUF:
            return False
        [event] = [event for _fd, event in self._poll.poll(0)] or [0]
        return event == select.POLLOUT or bool(event & select.POLLERR)

    def _queue(self, data: bytes) -> None:
        self._texts.append(data)
        self._queued_bytes += len(data)
        self._changed.notify_all()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._texts))
                data = self._texts.popleft()
            try:
                self._write(data)
            except OSError:
                self._is_broken = True
            with self._changed:
                self._queued_bytes -= len(data)
                if self._dropped and not self._texts and not self._is_broken:
                    note = f"WARNING {__name__}: {self._dropped} log lines were dropped: nobody had read stderr\n"
                    self._dropped = 0
                    self._queue(note.encode("ascii"))
                self._changed.notify_all()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._is_broken:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # somebody has made the pipe non-blocking
                self._poll.poll()


def log_to_stderr(level: int) -> None:
    """Have this process write on stderr what it logs, and of libraries only what nothing here says."""
    logging.basicConfig(stream=sys.stderr, level=level, format=_FORMAT)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(least)


@contextlib.contextmanager
def unblocked_stderr(*, in_order: bool = False) -> Iterator[LogStream | None]:
    """Have `sys.stderr` never block while the block runs; yields None where it is no file, as in tests, or closed."""
    before = sys.stderr
    try:
        stream = LogStream(before.fileno(), encoding=before.encoding or "utf-8", in_order=in_order)
    except (AttributeError, OSError, ValueError):
        yield None
        return
    before.flush()
    sys.stderr = stream
    try:
        yield stream
    finally:
        stream.drain(timeout_s=DRAIN_S)
        if sys.stderr is stream:
            sys.stderr = before
