"""A terminal for a command under test: answers questions as a person does, and shows what was written."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from dataclasses import dataclass

from tests.support.command import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a command came to: its exit code, stdout, and what the terminal showed."""

    returncode: int
    stdout: str
    screen: str


def run_at_terminal(command: Command, *arguments: str, keys: bytes = b"", **extra: str) -> Shown:
    """Run a command whose stdin and stderr are a terminal, with these keys pressed in advance."""
    ours, theirs = pty.openpty()
    os.write(ours, keys)
    with subprocess.Popen(
        [sys.executable, "-m", "flux2_tool", *arguments],
        cwd=command.folder,
        env={**command.environ, "TERM": "xterm", **extra},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        encoding="utf-8",
    ) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the far end closes with the process
            while chunk := os.read(ours, 4096):
                seen += chunk
        os.close(ours)
        assert process.stdout is not None
        stdout = process.stdout.read()
    return Shown(returncode=process.returncode, stdout=stdout, screen=seen.decode(errors="replace"))
