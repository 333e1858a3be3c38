"""Turn a PNG of 16 bits a sample, which Pillow reads with 8: its upper and lower bytes are turned one after the other.

Pillow undoes the row filters for 16-bit samples and then drops one byte of each. Which one depends on the byte order it
is told, so that two readings have all. Source: Pillow's modes "RGB;16B" and "RGB;16L"; PNG, third edition (W3C).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from flux2_tool.images.png import SIGNATURE, chunk, colour_chunks

if TYPE_CHECKING:
    from PIL import Image

_SAMPLES: Final = {"RGB": 3, "RGBA": 4}
_COLOURS: Final = {"RGB": 2, "RGBA": 6}
_UP: Final = 2  # the filter that stores the difference to the row above
_ROWS_AT_ONCE: Final = 256


def is_deep(data: bytes) -> bool:
    """Return whether a file is a PNG of 16 bits a sample that Pillow reads with 8."""
    return data.startswith(SIGNATURE) and len(data) > 25 and data[24] == 16 and data[25] in _COLOURS.values()


def deep_turned(data: bytes, turn: Callable[[Image.Image], Image.Image]) -> tuple[bytes, tuple[int, int]]:
    """Return a 16-bit PNG that is turned, with its colours, and its size in pixels.

    Args:
        data: A file for which `is_deep` holds.
        turn: Turns a picture upright.
    """
    upper, lower = (turn(_half(data, order)) for order in ("B", "L"))
    samples, (width_px, height_px) = _SAMPLES[upper.mode], upper.size
    header = struct.pack(">IIBBBBB", width_px, height_px, 16, _COLOURS[upper.mode], 0, 0, 0)
    squeezed, output = (
        zlib.compressobj(),
        [SIGNATURE, chunk(b"IHDR", header), colour_chunks(data, also=(b"tRNS", b"iCCP"))],
    )
    row_bytes = width_px * samples * 2
    above = bytes(row_bytes)
    for top in range(0, height_px, _ROWS_AT_ONCE):
        box = (0, top, width_px, min(top + _ROWS_AT_ONCE, height_px))
        rows = bytearray(row_bytes * (box[3] - top))
        rows[0::2], rows[1::2] = upper.crop(box).tobytes(), lower.crop(box).tobytes()
        packed = squeezed.compress(_filtered(bytes(rows), above))
        output += [chunk(b"IDAT", packed)] if packed else []
        above = bytes(rows[-row_bytes:])
    output += [chunk(b"IDAT", squeezed.flush()), chunk(b"IEND", b"")]
    return b"".join(output), (width_px, height_px)


def _half(data: bytes, order: str) -> Image.Image:
    from PIL import Image

    image = Image.open(io.BytesIO(data), formats=("PNG",))
    image.tile = [_in_order(tile, order) for tile in image.tile]
    image.load()
    image.info = {}
    return image


def _in_order(tile: Any, order: str) -> Any:
    """Return a tile whose raw mode, its last member or the first of that, names another byte order."""
    args = tile[3]
    changed = f"{args[:-1]}{order}" if isinstance(args, str) else (f"{args[0][:-1]}{order}", *args[1:])
    parts = (*tile[:3], changed)
    # Older versions of Pillow have plain tuples.
    return type(tile)(*parts) if hasattr(tile, "_fields") else parts


def _filtered(rows: bytes, above: bytes) -> bytes:
    """Return rows with the filter "up", each after its number, computed by Pillow as one grey picture."""
    from PIL import Image, ImageChops

    row_bytes = len(above)
    size = (row_bytes, len(rows) // row_bytes)
    now = Image.frombytes("L", size, rows)
    before = Image.frombytes("L", size, above + rows[:-row_bytes])
    difference = ImageChops.subtract_modulo(now, before).tobytes()
    return b"".join(bytes((_UP,)) + difference[at : at + row_bytes] for at in range(0, len(difference), row_bytes))
