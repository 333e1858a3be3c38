"""Check that a picture's file contains only the picture, by iterating over its parts.

Only parts that are needed to display the picture are allowed: any other, known or unknown, may identify the place,
time, device or person. Sources: PNG (W3C), JPEG (ITU-T T.81, JFIF 1.02), the WebP container
specification (Google), GIF89a.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

# The picture, its palette, transparency and colours, and the frames of an animation.
_PNG_CHUNKS: Final = frozenset(
    b"IHDR PLTE IDAT IEND tRNS cHRM gAMA sBIT sRGB iCCP cICP bKGD pHYs acTL fcTL fdAT".split()
)
_WEBP_CHUNKS: Final = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"ANIM", b"ANMF"))
_GIF_LOOPS: Final = (b"\x0bNETSCAPE2.0", b"\x0bANIMEXTS1.0")
# Tables, frame headers and scans: SOF0 to SOF15 with DHT and DAC among them, SOS, DQT, DRI.
_JPEG_SEGMENTS: Final = frozenset((*range(0xC0, 0xC8), *range(0xC9, 0xD0), 0xDA, 0xDB, 0xDD))
_MARKER: Final = re.compile(rb"\xff+[^\x00\xff]", re.DOTALL)
# Within a scan, FF 00 is a byte of data and FF D0 to D7 a restart.
_MARKER_AFTER_SCAN: Final = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)


def is_only_the_picture(data: bytes, kind: str) -> bool:
    """Return whether a file has no part besides its picture; False when its parts cannot be parsed.

    Args:
        data: The bytes of a file that Pillow can read.
        kind: PNG, JPEG, WEBP or GIF.
    """
    try:
        return _CHECKS[kind](data)
    except IndexError:
        return False


def _is_only_png(data: bytes) -> bool:
    at = 8
    while True:
        name = data[at + 4 : at + 8]
        if name not in _PNG_CHUNKS:
            return False
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if name == b"IEND":
            return at == len(data)


def _is_only_jpeg(data: bytes) -> bool:
    at = 2
    while (found := _MARKER.match(data, at)) is not None:
        at = found.end()
        marker = data[at - 1]
        if marker == 0xD9:
            return at == len(data)
        length = int.from_bytes(data[at : at + 2], "big")
        if not _is_needed(marker, data[at + 2 : at + length]):
            return False
        at += length
        if marker == 0xDA:
            after = _MARKER_AFTER_SCAN.search(data, at)
            at = len(data) if after is None else after.start()
    return False


def _is_needed(marker: int, body: bytes) -> bool:
    if marker == 0xE0:  # without a thumbnail
        return body.startswith(b"JFIF\x00") and len(body) == 14
    if marker == 0xE2:
        return body.startswith(b"ICC_PROFILE\x00")
    if marker == 0xEE:  # the colour transform
        return body.startswith(b"Adobe") and len(body) == 12
    return marker in _JPEG_SEGMENTS


def _is_only_webp(data: bytes) -> bool:
    at = 12
    while at < len(data):
        if data[at : at + 4] not in _WEBP_CHUNKS:
            return False
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return at == len(data) == 8 + int.from_bytes(data[4:8], "little")


def _is_only_gif(data: bytes) -> bool:
    at = 13 + _colour_table_bytes(data[10])
    while (block := data[at]) != 0x3B:
        if block == 0x2C:
            at = _after_sub_blocks(data, at + 11 + _colour_table_bytes(data[at + 9]))
        elif block == 0x21 and (data[at + 1] == 0xF9 or data[at + 2 : at + 14] in _GIF_LOOPS):
            at = _after_sub_blocks(data, at + 2)
        else:
            return False
    return at + 1 == len(data)


def _colour_table_bytes(flags: int) -> int:
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0


def _after_sub_blocks(data: bytes, at: int) -> int:
    while size := data[at]:
        at += 1 + size
    return at + 1


_CHECKS: Final[Mapping[str, Callable[[bytes], bool]]] = {
    "PNG": _is_only_png,
    "JPEG": _is_only_jpeg,
    "WEBP": _is_only_webp,
    "GIF": _is_only_gif,
}
