"""What arrives compressed: in whatever blocks, of however many members, and followed by whatever."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from flux2_tool._unzip import UnzipError, unzipped
from tests.support.virtual_time import run_virtual

ONE, OTHER = b"a red fox " * 50, b"a grey cat " * 100


def bare(content: bytes) -> bytes:
    """Return deflate's data without zlib's frame."""
    squeezed = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeezed.compress(content) + squeezed.flush()


async def arriving(data: bytes, *, block_bytes: int, ends: bool = True) -> AsyncIterator[bytes]:
    """Yield data in blocks, and then, where it does not end, nothing for ever."""
    for begin in range(0, len(data), block_bytes):
        yield data[begin : begin + block_bytes]
    if not ends:
        await asyncio.Event().wait()


def read(data: bytes, coding: str = "gzip", *, block_bytes: int = 4096, ends: bool = True) -> bytes:
    """Return what data hold."""

    async def main() -> bytes:
        blocks = arriving(data, block_bytes=block_bytes, ends=ends)
        return b"".join([step async for step in unzipped(blocks, coding)])

    return run_virtual(main())


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 50, len(gzip.compress(ONE)), len(gzip.compress(ONE)) + 1, 4096])
@pytest.mark.parametrize(
    ("data", "coding", "content"),
    [
        pytest.param(gzip.compress(ONE), "gzip", ONE, id="gzip"),
        pytest.param(gzip.compress(ONE) + gzip.compress(OTHER), "gzip", ONE + OTHER, id="gzip of two members"),
        pytest.param(zlib.compress(ONE), "deflate", ONE, id="deflate"),
        pytest.param(bare(ONE), "deflate", ONE, id="deflate without its frame"),
        pytest.param(gzip.compress(b""), "gzip", b"", id="nothing, compressed"),
        pytest.param(b"", "gzip", b"", id="nothing"),
    ],
)
def test_all_of_it_is_read_however_it_is_cut(data: bytes, coding: str, content: bytes, block_bytes: int) -> None:
    """A server may join what others have compressed, and a network cuts anywhere."""
    assert read(data, coding, block_bytes=block_bytes) == content


@pytest.mark.parametrize("behind", [b"\0" * 100, b"\x1f", b"a page of a proxy", zlib.compress(OTHER)])
@pytest.mark.parametrize("block_bytes", [1, 4096])
def test_what_stands_behind_its_end_is_no_part_of_it(behind: bytes, block_bytes: int) -> None:
    """Padding, or what somebody on the way has added."""
    assert read(gzip.compress(ONE) + behind, block_bytes=block_bytes) == ONE


def test_what_is_whole_counts_though_its_transfer_does_not_end() -> None:
    """It may be the response that names a paid task."""
    assert read(gzip.compress(ONE), ends=False) == ONE


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(gzip.compress(ONE)[:-1], "ends too early", id="cut"),
        pytest.param(gzip.compress(ONE) + gzip.compress(OTHER)[:-1], "ends too early", id="cut in the second member"),
        pytest.param(gzip.compress(ONE)[:1], "ends too early", id="one byte"),
        pytest.param(b"<html>", "broken", id="not compressed"),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 4096])
def test_what_is_not_whole_is_refused(data: bytes, said: str, block_bytes: int) -> None:
    """Half a response would be taken for a whole one."""
    with pytest.raises(UnzipError, match=said):
        read(data, block_bytes=block_bytes)
