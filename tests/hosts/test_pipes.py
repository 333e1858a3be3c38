"""The output of a worker or MCP server, when its reader is slow and when writing fails."""

from __future__ import annotations

import os
import select
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
