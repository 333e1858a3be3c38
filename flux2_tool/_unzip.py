"""Decompress what arrives over HTTP, in steps whose size is known before.

A decoder that returns all that a block holds lets a few hundred bytes fill the memory. Source: RFC 9110, section 8.4,
RFC 1951, and of several members RFC 1952, section 2.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

_STEP_BYTES: Final = 256 * 1024
# How a member of gzip begins; zlib's frame is known by as many bytes.
_MEMBER: Final = b"\x1f\x8b"
# How soon a transfer has to end once its content is whole.
_END_WITHIN_S: Final = 1.0
PLAIN: Final = frozenset({"", "identity"})
ZIPPED: Final = frozenset({"gzip", "x-gzip", "deflate"})


class UnzipError(ValueError):
    """What arrived is not compressed as it was said to be, or ends before its end."""


def coding_of(header: str | None) -> str:
    """Return a response's content coding as it is compared: one of `PLAIN`, of `ZIPPED`, or something else."""
    return (header or "").strip().lower()


async def unzipped(blocks: AsyncIterable[bytes], coding: str) -> AsyncIterator[bytes]:
    """Decompress gzip, of one member or several, or zlib, each step small.

    The blocks are taken to their end, without which a connection cannot be used again; for what comes behind the end of
    the content, or does not come, nothing fails or waits for long.

    Args:
        blocks: As they arrive; none at all is an empty content.
        coding: One of `ZIPPED`.

    Raises:
        UnzipError: It is damaged, or is not whole.
    """
    # The 32 of zlib's inflateInit2 tells the two apart.
    unzip, is_first, behind = zlib.decompressobj(zlib.MAX_WBITS | 32), True, b""
    rest = aiter(blocks)
    while (block := await _next_of(rest, is_whole=unzip.eof)) is not None:
        block = behind + block
        while block:
            if unzip.eof and (coding == "deflate" or not _MEMBER.startswith(block[:2])):
                return  # nothing that belongs to it
            if len(block) < len(_MEMBER) and (is_first or unzip.eof):
                break  # too little to know the frame by
            if unzip.eof:
                unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                step = unzip.decompress(block, _STEP_BYTES)
            except zlib.error as exc:
                if coding == "deflate" and is_first:  # some servers send it without zlib's frame
                    unzip, is_first = zlib.decompressobj(-zlib.MAX_WBITS), False
                    continue
                raise UnzipError("its compression is broken") from exc
            block, is_first = unzip.unused_data if unzip.eof else unzip.unconsumed_tail, False
            yield step
        behind = block
    if not unzip.eof and (behind or not is_first):
        raise UnzipError("its compression ends too early")


async def _next_of(blocks: AsyncIterator[bytes], *, is_whole: bool) -> bytes | None:
    """Return what arrives next, None at the end, or when it is whole and nothing more comes soon."""
    if not is_whole:
        return await anext(blocks, None)
    with contextlib.suppress(Exception):  # what has arrived counts, however its transfer ends
        async with asyncio.timeout(_END_WITHIN_S):
            return await anext(blocks, None)
    return None
