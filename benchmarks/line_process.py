"""A child process that takes and gives JSON, one object a line; its stderr goes to a file."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.meter import Meter

_LONGEST_LINE_BYTES = 4 * 1024 * 1024
_END_S = 20.0
_KEPT = ("PATH", "LANG")
CHECKOUT = Path(__file__).resolve().parent.parent


class LineProcess:
    """Starts a program, passes each line of its stdout on, and ends it.

    Args:
        command: The program.
        folder: Its home, working directory and where its stderr is kept.
        environ: What it finds in the environment; nothing else but the search path and the language.
        on_line: Told every object it prints.

    Attributes:
        on_end: Called when it prints nothing any more.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        environ: Mapping[str, str],
        on_line: Callable[[dict[str, Any]], None],
    ) -> None:
        self._command = command
        self._folder = folder
        self._environ = environ
        self._on_line = on_line
        self.on_end: Callable[[], None] = lambda: None
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self._folder,
                env={**kept, "HOME": str(self._folder), "PYTHONPATH": str(CHECKOUT), **self._environ},
                limit=_LONGEST_LINE_BYTES,
            )
        self._reader = asyncio.get_running_loop().create_task(self._read())

    @property
    def meter(self) -> Meter:
        """Reads what it costs."""
        return Meter(self._started.pid)

    def send(self, message: Mapping[str, Any]) -> None:
        """Give it one line."""
        stdin = self._started.stdin
        assert stdin is not None  # noqa: S101 - it was asked for
        stdin.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    async def end(self) -> None:
        """Close its input and wait for its end; kill it when it does not come."""
        process = self._started
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._reader is not None:
            await self._reader

    def last_words(self) -> str:
        """Return the end of what it wrote to stderr."""
        return self._log.read_text(errors="replace")[-2000:]

    @property
    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("the process was not started")
        return self._process

    @property
    def _log(self) -> Path:
        return self._folder / "stderr.txt"

    async def _read(self) -> None:
        stdout = self._started.stdout
        assert stdout is not None  # noqa: S101 - it was asked for
        while line := await stdout.readline():
            self._on_line(json.loads(line))
        self.on_end()
