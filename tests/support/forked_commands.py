"""`flux2-tool` in processes forked from one that has imported everything: real processes at a fraction of the cost.

A server, `python -m tests.support.forked_commands SOCKET`, forks for each request, and ends with its stdin. Only the
start of Python and the imports are shared; how a process begins is tested with real ones (`Command.start`).
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

from tests.support.environ import base_environ
from tests.support.readme import ROOT

PATIENCE_S: Final = 120.0
# What calls, and the commands that the tests run most, import once for all.
_PRELOADED: Final = ("cli.run", "cli.output", "cli.tool_commands", "cli.call", "cli.tasks", "cli.prices", "cli.doctor")
# Read when an interpreter starts, so that a fork cannot have another value.
_OF_THE_INTERPRETER: Final = ("PYTHON", "LC_", "LANG", "LD_", "COVERAGE_")


def is_startable(environ: Mapping[str, str]) -> bool:
    """Return whether a fork can have this environment."""
    base = base_environ()
    differing = {name for name in {*environ, *base} if environ.get(name) != base.get(name)}
    return not any(name.startswith(_OF_THE_INTERPRETER) for name in differing)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkedCommand:
    """A command that runs.

    Attributes:
        connection: Where the server tells its exit code.
        outputs: What it writes to stdout and stderr.
    """

    connection: socket.socket
    outputs: tuple[BinaryIO, BinaryIO]

    def ended(self) -> tuple[int, str, str]:
        """Wait for its end; return its exit code and what it printed to stdout and stderr."""
        with self.connection, self.connection.makefile() as replies:
            code = int(replies.readline())
        return (code, *(self._printed(output) for output in self.outputs))  # type: ignore[return-value]

    def drop(self) -> None:
        """Forget it, when it was killed."""
        self.connection.close()
        for output in self.outputs:
            output.close()

    def _printed(self, output: BinaryIO) -> str:
        with output:
            output.seek(0)
            return output.read().decode("utf-8")


def start(
    arguments: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    stdin: str = "",
    server: Server | None = None,
) -> ForkedCommand:
    """Start a command in a folder, with exactly this environment.

    Args:
        server: Forks it; by default the one of this process.
    """
    outputs = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - read when it has ended
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_S)
    connection.connect((server or _server()).path)
    with tempfile.TemporaryFile() as given:
        given.write(stdin.encode("utf-8"))
        given.seek(0)
        socket.send_fds(connection, [b"\n"], [given.fileno(), *(output.fileno() for output in outputs)])
    request = {"arguments": list(arguments), "folder": str(folder), "environ": dict(environ)}
    connection.sendall(json.dumps(request).encode() + b"\n")
    return ForkedCommand(connection=connection, outputs=outputs)


class Server:
    """A process that forks for each command.

    Args:
        prefix: The command that starts it, such as one that gives it a host name of its own.
    """

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="flux2-commands-")
        self.path = str(Path(self._folder.name) / "socket")
        python_path = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", __name__, self.path],
            env={**base_environ(), "PYTHONPATH": os.pathsep.join(python_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def end(self) -> None:
        """End it; commands that run go on."""
        self.process.communicate()
        self._folder.cleanup()


@cache
def _server() -> Server:
    """Return the server of this process."""
    server = Server()
    atexit.register(server.end)
    return server


# ---- the server ------------------------------------------------------------------------------------------------------


def serve(path: str) -> None:
    """Fork for each request until stdin ends."""
    for name in _PRELOADED:
        importlib.import_module(f"flux2_tool.{name}")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that answer
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(100)
        gc.freeze()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> NoReturn:
    """Run one command in a process of its own, and tell its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile() as lines:
        request = json.loads(lines.readline())
    pid = os.fork()
    if pid == 0:
        connection.close()
        sys.exit(_run(files, **request))
    _, status = os.waitpid(pid, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _run(files: Sequence[int], *, arguments: Sequence[str], folder: str, environ: Mapping[str, str]) -> Any:
    from flux2_tool.cli import main

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    sys.argv = ["flux2-tool", *arguments]
    return main()


if __name__ == "__main__":
    serve(sys.argv[1])
