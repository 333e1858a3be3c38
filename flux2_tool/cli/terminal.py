"""Print for people and for programs: the result on stdout, everything else on stderr.

The service's text is data: control characters, terminal escapes and text-direction overrides
never reach the terminal. rich is imported only when stderr is a terminal.
"""

from __future__ import annotations

import errno
import json
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import click

from flux2_tool._characters import shell_word
from flux2_tool.cli.streams import OUTPUT_ERRORS, LostStream, ResultStream
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.hosts.log_stream import LogStream

# Unicode's categories of what acts on a terminal or turns the text around it; of them, what only joins letters.
_CONTROLS: Final = ("Cc", "Cf", "Zl", "Zp")
_LINE_BREAKS: Final = frozenset("\n\r")
_JOINERS: Final = "\u200c\u200d"


class Reporter(Protocol):
    """Shows what is going on while a call waits."""

    def __call__(self, message: str) -> None:
        """Show this message instead of the last one."""


def clean(text: str) -> str:
    """Return text as one line without characters that could steer a terminal."""
    return "".join(" " if c.isspace() else c for c in text if c.isprintable() or c.isspace())


def write_line(text: str) -> None:
    """Write one line of the result."""
    _write(sys.stdout, clean(text))


def write_path(path: str) -> None:
    """Write one line with a path that can be used.

    It stays as it is, with a byte that is no text in this locale and with what cannot be seen. It is written as a shell
    reads it where it has a line break, which would make two lines of one, and at a terminal where a control character
    could act.
    """
    _write(sys.stdout, shown_path(path))


def shown_path(path: str) -> str:
    """Return a path as `write_path` writes it, for a line that has more than the path."""
    acting = [c for c in path if unicodedata.category(c) in _CONTROLS and c not in _JOINERS]
    return shell_word(path) if acting and (sys.stdout.isatty() or _LINE_BREAKS & set(acting)) else path


def write_json(value: Any, *, indent: int | None = None) -> None:
    """Write one JSON value, on one line unless stdout is a terminal.

    Characters a terminal could act on are escaped, so that it stays the same JSON.
    """
    text = json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else indent)
    _write(sys.stdout, "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text))


def print_error(message: str, *, hint: str = "") -> None:
    """Print the error, then what to do."""
    note(f"error: {message}")
    if hint:
        note(f"hint:  {hint}")


def agreed(question: str, *, hint: str) -> bool:
    """Ask a yes-or-no question on stderr.

    Args:
        question: Ends with a question mark.
        hint: How to agree without a terminal.

    Raises:
        ConfigurationError: There is no terminal to ask on.
    """
    if not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask on", hint=hint)
    return click.confirm(question, err=True)


def note(text: str) -> None:
    """Write one line to stderr."""
    _write(sys.stderr, clean(text))


@contextmanager
def progress() -> Iterator[Reporter]:
    """Show progress while the block runs: a spinner on a terminal, else one line per change."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status:
        yield lambda message: status.update(Text(clean(message)))


def _lines() -> Reporter:
    last = ""

    def report(message: str) -> None:
        nonlocal last
        # The seconds change all the time; a log wants the steps.
        step = message.partition(" · ")[0]
        if step != last:
            note(step)
            last = step

    return report


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) > 0x9F or ord(character) < 0x20 else f"\\u{ord(character):04x}"


def output_failure() -> OSError | None:
    """Return why a part of the result could not be written to stdout, None if all of it was."""
    return sys.stdout.failure if isinstance(sys.stdout, ResultStream) else None


def take_output_failure() -> OSError | None:
    """Return the same for a command that now says what it means for its result."""
    if isinstance(sys.stdout, ResultStream):
        sys.stdout.is_failure_told = True
    return output_failure()


def note_unwritten_output() -> None:
    """Say on stderr that stdout could not be written, for a command that has done what it was asked all the same."""
    failure = take_output_failure()
    if failure is not None:
        note(f"warning: stdout could not be written ({failure.strerror}); what was asked is done")


def untold_output_failure() -> OSError | None:
    """Return the same unless the command has said it already, or nobody wants the output: its reader has ended.

    Nor where a signal has ended the command, whose exit code says so.
    """
    failure = output_failure()
    if failure is None or failure.errno in (errno.EPIPE, errno.EBADF, errno.EINTR):
        return None
    return None if isinstance(sys.stdout, ResultStream) and sys.stdout.is_failure_told else failure


def are_notes_lost() -> bool:
    """Whether a line for stderr was lost, because it is closed, full, or nobody can read it."""
    return isinstance(sys.stderr, LogStream | LostStream) and sys.stderr.is_broken


def _write(stream: Any, text: str) -> None:
    if not isinstance(stream, ResultStream | LogStream | LostStream):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        text = text.encode(encoding, OUTPUT_ERRORS).decode(encoding, "surrogateescape")
    stream.write(text + "\n")
    stream.flush()
