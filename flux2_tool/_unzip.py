"""Decompress what arrives over HTTP, in steps whose size is known before.

A decoder that returns all that a block holds lets a few hundred bytes fill the memory. Source: RFC 9110, section 8.4,
and RFC 1951.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

_STEP_BYTES: Final = 256 * 1024
PLAIN: Final = frozenset({"", "identity"})
ZIPPED: Final = frozenset({"gzip", "x-gzip", "deflate"})


class UnzipError(ValueError):
    """What arrived is not compressed as it was said to be, or ends before its end."""


def coding_of(header: str | None) -> str:
    """Return a response's content coding as it is compared: one of `PLAIN`, of `ZIPPED`, or something else."""
    return (header or "").strip().lower()


async def unzipped(blocks: AsyncIterable[bytes], coding: str) -> AsyncIterator[bytes]:
    """Decompress gzip or zlib, each step small; what comes behind the end is not read.

    Args:
        blocks: As they arrive; none at all is an empty content.
        coding: One of `ZIPPED`.

    Raises:
        UnzipError: It is damaged, or is not whole.
    """
    # The 32 of zlib's inflateInit2 tells the two apart.
    unzip, is_first = zlib.decompressobj(zlib.MAX_WBITS | 32), True
    async for block in blocks:
        while block and not unzip.eof:
            try:
                step = unzip.decompress(block, _STEP_BYTES)
            except zlib.error as exc:
                if coding == "deflate" and is_first:  # some servers send it without zlib's frame
                    unzip, is_first = zlib.decompressobj(-zlib.MAX_WBITS), False
                    continue
                raise UnzipError("its compression is broken") from exc
            block, is_first = unzip.unconsumed_tail, False
            yield step
        if unzip.eof:
            return
    if not is_first:
        raise UnzipError("its compression ends too early")
