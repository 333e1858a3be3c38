"""stdin, stdout and stderr of a command, whatever became of them: closed, full, without a reader, not UTF-8.

Trouble with them never changes what a command does: a write to stdout never raises, what failed is remembered, and the
command says so on stderr. A descriptor that was closed is opened on /dev/null first of all, because the next file that
is opened, such as the journal, would become stdout or stderr otherwise.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Final

OUTPUT_ERRORS: Final = "flux2_tool.output"
"""Encodes what an encoding does not have: the bytes of a file name as they are, any other character escaped."""


def _encoded(exc: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(exc, UnicodeEncodeError):
        raise exc
    found = b"".join(
        bytes((ord(character) - 0xDC00,)) if "\udc80" <= character <= "\udcff" else _escaped(character)
        for character in exc.object[exc.start : exc.end]
    )
    return found, exc.end


def _escaped(character: str) -> bytes:
    return character.encode("ascii", "backslashreplace")


codecs.register_error(OUTPUT_ERRORS, _encoded)


class ResultStream(io.TextIOBase):
    """stdout: a text stream whose writes never raise; the first one that failed is remembered.

    Args:
        fd: Where the text goes; None when it was closed.
        encoding: The text's.

    Attributes:
        is_failure_told: Whether the command has said what the failure means for its result.
    """

    def __init__(self, fd: int | None, *, encoding: str = "utf-8") -> None:
        self._fd = fd
        self._encoding = encoding
        self._failure = None if fd is not None else OSError(errno.EBADF, "it is closed")
        self.is_failure_told = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the text."""
        return self._encoding

    @property
    def failure(self) -> OSError | None:
        """Why something could not be written, None if everything was."""
        return self._failure

    @property
    def is_ended(self) -> bool:
        """Whether a signal has ended the output before all of it was written."""
        return isinstance(self._failure, InterruptedError)

    def end(self, frame: FrameType | None) -> None:
        """Write nothing any more, from a signal's handler.

        Args:
            frame: What the signal has interrupted; a write in it fails, instead of waiting for its reader.
        """
        ended = InterruptedError(errno.EINTR, "the command was told to end")
        if frame is not None and frame.f_code is ResultStream._written.__code__:
            raise ended
        self._failure = self._failure or ended

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._fd is None:
            raise io.UnsupportedOperation("stdout is closed")
        return self._fd

    def isatty(self) -> bool:
        return self._fd is not None and os.isatty(self._fd)

    def write(self, text: str) -> int:
        if self._fd is not None and self._failure is None:
            data = memoryview(text.encode(self._encoding, OUTPUT_ERRORS))
            try:
                while data and self._failure is None:  # a signal may have come meanwhile
                    data = data[self._written(data) :]
            except OSError as exc:
                self._failure = exc
        return len(text)

    def _written(self, data: memoryview) -> int:
        assert self._fd is not None  # noqa: S101
        try:
            return os.write(self._fd, data)
        except BlockingIOError:  # somebody has made the pipe non-blocking
            select.select([], [self._fd], [])
            return 0


class LostStream(io.TextIOBase):
    """stderr when it was closed: what is written is lost."""

    is_broken: Final = True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the text."""
        return "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Have `sys.stdin`, `sys.stdout` and `sys.stderr` usable while the block runs, whatever this process was given."""
    _fill_closed_descriptors()
    before = sys.stdin, sys.stdout, sys.stderr
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - /dev/null by now
    sys.stdout = _result_stream()
    if sys.stderr is None:
        sys.stderr = LostStream()
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


def _result_stream() -> io.TextIOBase:
    if sys.stdout is None:
        return ResultStream(None)
    try:
        fd = sys.stdout.fileno()
        sys.stdout.flush()
    except (OSError, ValueError):  # no file, as in tests
        return sys.stdout  # type: ignore[return-value]
    return ResultStream(fd, encoding=sys.stdout.encoding or "utf-8")


def _fill_closed_descriptors() -> None:
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number, so this one. Programs that are started get it too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
