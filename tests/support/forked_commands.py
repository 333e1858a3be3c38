"""`flux2-tool` in processes forked from one that has imported everything: real processes at a fraction of the cost.

A server, `python -m tests.support.forked_commands SOCKET`, forks for each request, and ends with its stdin. Only the
start of Python and the imports are shared; how a process begins is tested with real ones (`Command.start`).

Where a host starts the process itself, `relayed` is the command for it: `relay.py` stands for the fork, with its
pipes, signals and exit code. Only the fork's parent is another: what becomes of a server when its host dies is tested
with real ones.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

from tests.support.environ import base_environ
from tests.support.preloading import IN_A_CALL, preload
from tests.support.readme import ROOT

PATIENCE_S: Final = 120.0
# What calls, and the commands that the tests run most, import once for all, also in the middle of a call.
_PRELOADED: Final = (
    "flux2_tool.cli.run",
    "flux2_tool.cli.output",
    "flux2_tool.cli.tool_commands",
    "flux2_tool.cli.call",
    "flux2_tool.cli.tasks",
    "flux2_tool.cli.prices",
    "flux2_tool.cli.doctor",
    "flux2_tool.cli.manifest",
    "flux2_tool.diagnostics.doctor",
    "flux2_tool.hosts.worker.server",
    "flux2_tool.schema.manifest_check",
    *IN_A_CALL,
)
_SERVERS: Final = ("flux2_tool.cli.mcp", "flux2_tool.hosts.mcp_server", "flux2_tool.hosts.mcp_http.server")
_RELAY: Final = Path(__file__).with_name("relay.py")
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
            _pid, code = int(replies.readline()), int(replies.readline())
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
        kind: "servers" has also imported what the MCP servers need, which no command waits for.
    """

    def __init__(self, prefix: Sequence[str] = (), *, kind: str = "commands") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="flux2-commands-")
        self.path = str(Path(self._folder.name) / "socket")
        python_path = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", __name__, self.path, kind],
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


def relayed(*arguments: str, environ: Mapping[str, str]) -> list[str]:
    """Return what starts `flux2-tool` with these arguments in a fork, for a host that starts it with this environment.

    Where a fork cannot have the environment, it is the real command.
    """
    if not is_startable(environ):
        return [sys.executable, "-P", "-m", "flux2_tool", *arguments]
    return [sys.executable, "-I", "-S", str(_RELAY), _server("servers").path, *arguments]


@cache
def _server(kind: str = "commands") -> Server:
    """Return the server of this process, of one kind."""
    server = Server(kind=kind)
    atexit.register(server.end)
    return server


# ---- the server ------------------------------------------------------------------------------------------------------


def serve(path: str, kind: str) -> None:
    """Fork for each request until stdin ends."""
    preload(_PRELOADED if kind == "commands" else (*_PRELOADED, *_SERVERS))
    _save_coverage()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(100)
        gc.freeze()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            _reap()
            if sys.stdin in ready:
                return
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(connection)
            connection.close()


def _save_coverage() -> None:
    """Save which lines were run by importing, where coverage is measured: else each fork would save them again."""
    measuring = sys.modules.get("coverage")
    measured = measuring.Coverage.current() if measuring else None
    if measured is not None:
        measured.save()


def _reap() -> None:
    """Take note of the processes that have answered, so that their time counts as this one's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _answer(connection: socket.socket) -> NoReturn:
    """Run one command in a process of its own, and tell its exit code."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile() as lines:
        request = json.loads(lines.readline())
    pid = os.fork()
    if pid == 0:
        connection.close()
        sys.exit(_run(files, **request))
    for file in files:
        os.close(file)
    connection.sendall(f"{pid}\n".encode())
    threading.Thread(target=_end_with, args=(connection, pid), daemon=True).start()
    _, status = os.waitpid(pid, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os.kill(
        os.getpid(), signal.SIGKILL
    )  # an exit would have coverage write what it has of this process, which is nothing
    raise AssertionError


def _end_with(connection: socket.socket, pid: int) -> None:
    """Kill a process when whoever asked for it is gone: what was killed was meant to be the process itself."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


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
    serve(*sys.argv[1:])
