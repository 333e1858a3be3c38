"""Reading a file, and nothing else that may be in its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flux2_tool._files import open_file, read_file


def test_a_file_is_read_whole_within_its_bound(tmp_path: Path) -> None:
    """Also by a link."""
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"x" * 100_000)
    link.symlink_to(path)

    assert read_file(link, most_bytes=100_000) == path.read_bytes()


def test_a_file_beyond_its_bound_is_an_error(tmp_path: Path) -> None:
    """Not read: it may be larger than the memory."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(10_000_000_000_000)

    with pytest.raises(OSError, match="it has more than 16777216 bytes"):
        read_file(path)


def test_a_pipe_that_somebody_writes_to_is_no_file_either(tmp_path: Path) -> None:
    """Whether there is somebody must not decide."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    os.write(writer, b"{}")

    with pytest.raises(OSError, match="it is a pipe, not a file"):
        open_file(path)

    os.close(writer)


def test_a_link_is_not_followed_where_it_may_not_be(tmp_path: Path) -> None:
    """Somebody else may have put it there."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")

    with pytest.raises(OSError, match="it is a link, not a file"):
        open_file(tmp_path / "link", follows_links=False)
