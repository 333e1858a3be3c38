"""What must not hang in the worker: lines it cannot read, pipes that nobody reads, threads that never end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest

from flux2_tool.hosts.log_stream import MAX_QUEUED_BYTES, LogStream
from flux2_tool.hosts.pipes import LONGEST_UNREAD_S, MAX_UNREAD_BEFORE_PROGRESS_BYTES, MAX_UNREAD_BYTES, LineWriter
from tests.support.environ import base_environ
from tests.support.waiting import PATIENCE_S, wait_until
from tests.support.worker_process import COMMAND, WorkerProcess, running_worker


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker of the test's own."""
    with running_worker(tmp_path, COMMAND) as running:
        yield running


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that nobody reads."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("prompt", [b"9" * 5000, b"NaN", b"[" * 300 + b"]" * 300, rb'"half \ud83e"'])
def test_a_call_that_no_tool_can_take_is_refused_by_its_id(worker: WorkerProcess, prompt: bytes) -> None:
    """Without the id the plugin would wait for the call's whole time."""
    call = b'{"tool":"text_to_image","arguments":{"prompt":' + prompt + b'},"session":"s"}'
    worker.send(b'{"jsonrpc":"2.0","id":7,"method":"call","params":' + call + b"}")

    assert worker.result(7)["error"]["code"] == "invalid_arguments"


def test_levels_that_no_parser_reads_are_refused_by_their_id(worker: WorkerProcess) -> None:
    """A model may send anything, and the plugin passes it on."""
    arguments = b"[" * 100_000 + b"]" * 100_000
    worker.send(b'{"jsonrpc":"2.0","id":7,"method":"call","params":{"arguments":' + arguments + b"}}")

    assert "nested too deep" in worker.answer(7)["error"]["message"]
    assert worker.is_alive()


_STUCK = """
import asyncio, threading
from flux2_tool.hosts.worker import server
async def receive(self, line):
    print("stuck", flush=True)
    {how}
server.Worker.receive = receive
server.main()
"""


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("threading.Event().wait()", id="the event loop is blocked"),
        pytest.param("while True: pass", id="the event loop spins"),
        pytest.param("await asyncio.to_thread(threading.Event().wait)", id="a thread never ends"),
    ],
)
@pytest.mark.parametrize("ending", ["stdin closed", "SIGTERM"])
def test_a_stuck_worker_ends_with_its_host(tmp_path: Path, how: str, ending: str) -> None:
    """Else every gateway that stops would leave a process behind."""
    with running_worker(tmp_path, (sys.executable, "-c", _STUCK.format(how=how))) as worker:
        worker.request("initialize")
        wait_until(lambda: "stuck" in worker.stderr)
        if ending == "stdin closed":
            assert worker.end() == 0
        else:
            worker.process.send_signal(signal.SIGTERM)
            assert worker.wait() in (0, -signal.SIGTERM)


def test_calls_are_answered_while_nobody_reads_stderr(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """A gateway that is busy does not read it, and must find its answers all the same."""
    _reading, writing = pipe
    script = f"import os; os.dup2({writing}, 2); from flux2_tool.cli import main; main(['worker'])"
    environ = {**base_environ(), "HOME": str(tmp_path), "FLUX2_TOOL_HOME": str(tmp_path / "data")}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[writing],
    ) as process:
        assert process.stdin
        assert process.stdout
        # Each is logged with the name of a method, 64 KiB of it altogether are more than the pipe holds.
        process.stdin.write(b'{"jsonrpc":"2.0","method":"%s"}\n' % (b"x" * 60) * 3000)
        process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"initialize"}\n')
        process.stdin.flush()
        assert b'"id":1' in process.stdout.readline()
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0


# ---- the parts -------------------------------------------------------------------------------------------------------


def test_a_full_log_drops_whole_lines_and_counts_them(pipe: tuple[int, int]) -> None:
    """The memory is bounded, and whoever reads at last learns that something is missing."""
    reading, writing = pipe
    log = LogStream(writing)
    line = "x" * 1023 + "\n"
    written = 2 * MAX_QUEUED_BYTES // len(line)
    for _ in range(written):
        log.write(line)

    read = b""
    while b"log lines were dropped" not in read:
        read += os.read(reading, 65536)

    lines = read.decode().splitlines()
    dropped = int(lines[-1].split(": ")[1].split()[0])
    assert set(lines[:-1]) == {line.strip()}
    assert len(lines) - 1 + dropped == written


def test_a_closed_log_is_nobodys_error(pipe: tuple[int, int]) -> None:
    """What was to be logged is lost; the call is not."""
    reading, writing = os.pipe()
    os.close(reading)
    log = LogStream(writing, in_order=True)

    log.write("one\n")
    log.write("two\n")
    log.drain(timeout_s=PATIENCE_S)

    os.close(writing)


class Peer:
    """A writer to a pipe that nobody reads, on a clock that the test moves."""

    def __init__(self, output: FileIO) -> None:
        self.now_s = 0.0
        self.broken = 0
        self.writer = LineWriter(output, monotonic=lambda: self.now_s)
        self.writer.on_broken(self._on_broken)

    def _on_broken(self) -> None:
        self.broken += 1


@pytest.fixture
def unread() -> Iterator[tuple[FileIO, Peer]]:
    """The end of a pipe that nobody reads, and a peer that writes to the other.

    The writer's thread ends before its end is closed: one that went on would write to whatever gets the same number
    next, such as the stdin of another test's worker.
    """
    reading, writing = os.pipe()
    with FileIO(reading, "rb") as source, FileIO(writing, "wb") as output:
        peer = Peer(output)
        yield source, peer
        source.close()
        peer.writer.close(timeout_s=PATIENCE_S)
        assert not peer.writer._thread.is_alive()


def test_a_peer_that_reads_nothing_for_long_is_gone(unread: tuple[FileIO, Peer]) -> None:
    """Its worker ends then, and the tasks stay in the journal."""
    source, peer = unread
    peer.writer.check_reader()
    peer.writer.put(b"x" * 200_000 + b"\n")
    peer.now_s = LONGEST_UNREAD_S - 1
    peer.writer.check_reader()
    assert not peer.broken

    peer.now_s = 3 * LONGEST_UNREAD_S
    peer.writer.check_reader()

    assert peer.broken
    source.read(1 << 20)


def test_what_a_peer_leaves_unread_is_bounded(unread: tuple[FileIO, Peer]) -> None:
    """Progress is left out first; too many unread answers end the worker."""
    _source, peer = unread
    line = b"x" * 100_000 + b"\n"
    for _ in range(10 * MAX_UNREAD_BEFORE_PROGRESS_BYTES // len(line)):
        peer.writer.put_progress(line)
    assert peer.writer._unread_bytes <= MAX_UNREAD_BEFORE_PROGRESS_BYTES + len(line)

    for _ in range(MAX_UNREAD_BYTES // len(line) + 1):
        peer.writer.put(line)

    assert peer.broken
