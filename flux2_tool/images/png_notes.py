"""Take out of a PNG what need not be read and cannot be, so that its pixels can.

Decoders refuse a whole picture for a note that unpacks to more than they allow; viewers do not read it at all. It is
not unpacked here either. Source: PNG, third edition (W3C), sections 11.3 and 13.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from flux2_tool.images.icc import MAX_PROFILE_BYTES
from flux2_tool.images.parts import CannotCutError
from flux2_tool.images.png import SIGNATURE, chunk, chunks_of

_NOTES: Final = (b"tEXt", b"zTXt", b"iTXt")


def without_notes(data: bytes) -> bytes:
    """Return a PNG without notes, and without chunks that need not be read and are damaged; viewers skip these too.

    Raises:
        CannotCutError: A chunk that must be read is damaged.
    """
    output = [SIGNATURE]
    for name, body, is_whole in _checked_chunks(data):
        if name[:1].isupper():
            if not is_whole:
                raise CannotCutError("a critical chunk is damaged")
        elif not is_whole or name in _NOTES or (name == b"iCCP" and _is_too_large(body)):
            continue
        output.append(chunk(name, body))
    return b"".join(output)


@contextmanager
def large_profiles() -> Iterator[None]:
    """Let Pillow read colour profiles that are larger than it allows notes to be, in the block."""
    from PIL import PngImagePlugin

    usual = PngImagePlugin.MAX_TEXT_CHUNK
    PngImagePlugin.MAX_TEXT_CHUNK = MAX_PROFILE_BYTES
    try:
        yield
    finally:
        PngImagePlugin.MAX_TEXT_CHUNK = usual


def moves(png: bytes) -> bool:
    """Return whether a PNG has several frames."""
    try:
        for name, body in chunks_of(png):
            if name == b"acTL" and len(body) >= 8:
                return int.from_bytes(body[:4], "big") > 1
            if name == b"IDAT":
                return False
    except CannotCutError:
        pass
    return False


def _is_too_large(body: bytes) -> bool:
    """Return whether a colour profile unpacks to more than any has."""
    stream = zlib.decompressobj()
    try:
        stream.decompress(body.partition(b"\0")[2][1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return False
    return bool(stream.unconsumed_tail)


def _checked_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    at = len(SIGNATURE)
    for name, body in chunks_of(data):
        at += 12 + len(body)
        yield name, body, data[at - 4 : at] == struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))
