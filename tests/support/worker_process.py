"""Starts the worker and speaks its protocol, as the plugin does; also anything that breaks it."""

from __future__ import annotations

import itertools
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.support.environ import base_environ
from tests.support.forked_commands import relayed
from tests.support.waiting import PATIENCE_S

COMMAND: Final = (sys.executable, "-m", "flux2_tool", "worker")
"""What the plugin starts, for tests of how the process begins and ends, or of what it has for children."""


class WorkerProcess:
    """One worker process: messages go in, every line that comes out must be protocol.

    Args:
        home: Its home folder and where it is started.
        command: What to start; by default a worker that is forked, see `forked_commands.py`.
        environ: What it has in its environment beside what each has.
    """

    def __init__(self, home: Path, command: Sequence[str] | None = None, **environ: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        env = {**base_environ(), "HOME": str(home), "FLUX2_TOOL_HOME": str(home / "data"), **environ}
        self.process = subprocess.Popen(
            relayed("worker", environ=env) if command is None else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=home,
        )
        self.progress: list[dict[str, Any]] = []
        self.lines: list[bytes] = []
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._kept: list[dict[str, Any]] = []
        self._errors = bytearray()
        self._numbers = itertools.count(1000)
        self._threads = [threading.Thread(target=task, daemon=True) for task in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()

    # ---- out ---------------------------------------------------------------------------------------------------------

    def send(self, message: Any) -> None:
        """Send one message; bytes go as they are, with a line end."""
        line = message if isinstance(message, bytes) else json.dumps(message).encode()
        assert self.process.stdin
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def request(self, method: str, params: Any = None, **members: Any) -> Any:
        """Send a request and return its id."""
        members = {"id": next(self._numbers), **members}
        self.send({"jsonrpc": "2.0", "method": method, "params": {} if params is None else params, **members})
        return members["id"]

    def notify(self, method: str, params: Any) -> None:
        """Send a notification."""
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def begin(self, arguments: Any, *, tool: str = "text_to_image", **params: Any) -> Any:
        """Start a tool call and return its id."""
        members = {"id": params.pop("id")} if "id" in params else {}
        return self.request("call", {"tool": tool, "arguments": arguments, **params}, **members)

    # ---- in ----------------------------------------------------------------------------------------------------------

    def answer(self, request_id: Any) -> dict[str, Any]:
        """Return the answer to a request; others are kept for those who ask for them."""
        for message in self._kept:
            if message["id"] == request_id and type(message["id"]) is type(request_id):
                self._kept.remove(message)
                return message
        while True:
            found = self._answers.get(timeout=PATIENCE_S)
            assert found is not None, f"the worker ended: {self.stderr}"
            if found["id"] == request_id and type(found["id"]) is type(request_id):
                return found
            self._kept.append(found)

    def result(self, request_id: Any) -> dict[str, Any]:
        """Return a request's result; a protocol error fails the test."""
        found = self.answer(request_id)
        assert "result" in found, found
        result: dict[str, Any] = found["result"]
        return result

    def call(self, arguments: Any, **params: Any) -> dict[str, Any]:
        """Make a tool call and return its result object."""
        return self.result(self.begin(arguments, **params))

    def is_alive(self) -> bool:
        """Whether it still answers."""
        return "version" in self.result(self.request("initialize"))

    @property
    def stderr(self) -> str:
        """What it has logged so far."""
        return self._errors.decode(errors="replace")

    def end(self, timeout_s: float = PATIENCE_S) -> int:
        """Close its input and wait for its end."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end and for all it had to say."""
        code = self.process.wait(timeout_s)
        for thread in self._threads:
            thread.join(timeout_s)
        return code

    def kill(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream
            with suppress(BrokenPipeError):
                stream.close()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            message = json.loads(line)
            assert message["jsonrpc"] == "2.0"
            if message.get("method") == "progress":
                self.progress.append(message["params"])
            else:
                self._answers.put(message)
        self._answers.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self._errors += line


@contextmanager
def running_worker(home: Path, command: Sequence[str] | None = None, **environ: str) -> Iterator[WorkerProcess]:
    """Run a worker while the block runs; its input ends with the block, and so must it."""
    worker = WorkerProcess(home, command, **environ)
    try:
        yield worker
        with suppress(BrokenPipeError):
            worker.end()
        worker.wait()
    finally:
        worker.kill()
