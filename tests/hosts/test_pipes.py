"""The output of a worker or MCP server, when its reader is slow and when writing fails."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest

from flux2_tool.hosts.pipes import LineWriter
from tests.support.waiting import PATIENCE_S


@pytest.fixture
def full() -> Iterator[FileIO]:
    """An output on a disk without space: always ready to be written to, and every write fails."""
    if not Path("/dev/full").exists():
        pytest.skip("macOS has no /dev/full")
    with FileIO("/dev/full", "wb") as output:
        yield output


@pytest.mark.parametrize(
    "length", [pytest.param(10, id="written at once"), pytest.param(select.PIPE_BUF + 1, id="written by the thread")]
)
def test_an_output_that_cannot_be_written_counts_as_broken(full: FileIO, length: int) -> None:
    """A worker whose responses get lost must end, so that its peer starts another one."""
    writer, broken = LineWriter(full), threading.Event()
    writer.on_broken(broken.set)

    writer.put(b"x" * length)

    assert broken.wait(PATIENCE_S)
    writer.close(timeout_s=PATIENCE_S)


@pytest.fixture(params=["pipe", "socket"])
def two_ends(request: pytest.FixtureRequest) -> Iterator[tuple[FileIO, FileIO]]:
    """A reading and a writing end: Python's hosts start servers on pipes, Node's on sockets."""
    if request.param == "pipe":
        reading, writing = os.pipe()
    else:
        reading, writing = (end.detach() for end in socket.socketpair())
    source, output = FileIO(reading, "rb"), FileIO(writing, "wb")
    yield source, output
    source.close()
    output.close()


def test_an_output_is_read_once_its_reader_has_taken_all(two_ends: tuple[FileIO, FileIO]) -> None:
    """A picture counts as delivered then, and not when it is in the pipe."""
    source, output = two_ends
    writer = LineWriter(output)
    was_read = [writer.is_read]

    writer.put(b"answer\n")
    was_read.append(writer.is_read)
    source.read(3)
    was_read.append(writer.is_read)
    source.read(10)
    was_read.append(writer.is_read)
    source.close()
    was_read.append(writer.is_read)

    assert was_read == [True, False, False, True, True]
    writer.close(timeout_s=PATIENCE_S)


def test_what_a_reader_left_behind_is_never_read(two_ends: tuple[FileIO, FileIO]) -> None:
    """A host that crashed has not seen the picture."""
    source, output = two_ends
    writer = LineWriter(output)

    writer.put(b"answer\n")
    source.close()
    writer.wait_until_read(timeout_s=0.0)

    assert [writer.is_read, writer.is_read] == [False, False]
    writer.close(timeout_s=PATIENCE_S)


def test_lines_that_a_slow_reader_holds_up_arrive_in_order() -> None:
    """A short line must not overtake the long one that waits for room in the pipe."""
    reading, writing = os.pipe()
    lines = [b"x" * 1_000_000 + b"\n", b"second\n", b"third\n"]
    received = bytearray()
    with FileIO(reading, "rb") as source, FileIO(writing, "wb") as output:
        writer = LineWriter(output)
        for line in lines:
            writer.put(line)
        while len(received) < sum(map(len, lines)):
            received += source.read(65536) or b""
        writer.close(timeout_s=PATIENCE_S)

    assert bytes(received) == b"".join(lines)
