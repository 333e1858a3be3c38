"""Starts the command in real processes, with nothing of this machine's settings; reads the sandbox's ledger."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import forked_commands
from tests.support.environ import base_environ


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Starts `flux2-tool` in a scratch folder with nothing of this machine's settings."""

    folder: Path
    environ: Mapping[str, str]

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        """Start it; `extra` are further environment variables."""
        return subprocess.Popen(
            [sys.executable, "-m", "flux2_tool", *arguments],
            cwd=self.folder,
            env={**self.environ, **extra},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def run(self, *arguments: str, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end; where nothing is said of the interpreter, in a fork of one that is warm."""
        environ = {**self.environ, **extra}
        if forked_commands.is_startable(environ):
            running = forked_commands.start(arguments, folder=self.folder, environ=environ, stdin=stdin)
            return subprocess.CompletedProcess(arguments, *running.ended())
        with self.start(*arguments, **extra) as process:
            stdout, stderr = process.communicate(stdin, timeout=120)
            return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def run_together(self, commands: Sequence[Sequence[str]], **extra: str) -> list[str]:
        """Run many at the same time, each in a process of its own; return what each printed."""
        environ = {**self.environ, **extra}
        running = [forked_commands.start(one, folder=self.folder, environ=environ) for one in commands]
        return [one.ended()[1] for one in running]

    def tasks(self, *arguments: str) -> list[dict[str, Any]]:
        """Return what `tasks --json` lists."""
        done = self.run("tasks", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def ledger(self) -> dict[str, Any]:
        """Return the sandbox's ledger, over HTTP."""
        url = self.environ["RUNAPI_BASE_URL"].removesuffix("/v1") + "/_sandbox/ledger"
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - our own loopback server
            ledger: dict[str, Any] = json.load(answer)
        return ledger

    def billed(self) -> int:
        """Return how many tasks the sandbox has billed."""
        count: int = self.ledger()["summary"]["billed_tasks"]
        return count


class SandboxClock:
    """The sandbox's time: this machine's, moved. Moving it on ends the tasks that run."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def __call__(self) -> float:
        """Return seconds since 1970."""
        return time.time() + self.offset_s


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Return what a process wrote to stderr up to the line with this text."""
    assert process.stderr is not None
    seen = ""
    while text not in seen:
        line = process.stderr.readline()
        assert line, f"it ended first: {seen}"
        seen += line
    return seen


def scratch_environ(folder: Path) -> dict[str, str]:
    """Return an environment without keys, settings and proxies."""
    return {**base_environ(), "HOME": str(folder), "FLUX2_TOOL_HOME": str(folder / "data"), "COLUMNS": "200"}
