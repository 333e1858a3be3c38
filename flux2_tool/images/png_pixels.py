"""Follow a PNG's compressed pixels to their end, in bounded memory.

Source: PNG, third edition (W3C), sections 7 and 8; RFC 1950.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

from flux2_tool.images.parts import CannotCutError
from flux2_tool.images.png_header import Header

_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Left, top, horizontal and vertical distance of each pass of Adam7.
_PASSES: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_STEP_BYTES: Final = 256 * 1024


def raw_bytes(header: Header, width_px: int, height_px: int) -> int:
    """Return how many bytes the pixels of a picture have after decompression, with each row's filter."""
    bits = header.depth * _CHANNELS[header.colour]

    def size(columns: int, rows: int) -> int:
        return rows * (1 + (columns * bits + 7) // 8) if columns > 0 else 0

    if not header.is_interlaced:
        return size(width_px, height_px)
    return sum(
        size((width_px - left + across - 1) // across, (height_px - top + down - 1) // down)
        for left, top, across, down in _PASSES
    )


class PixelStream:
    """The zlib stream of one picture, in the pieces of its chunks."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces

    def cut_to(self, size_bytes: int) -> list[bytes]:
        """Return the pieces if they are exactly one stream of so many bytes, else one piece that is.

        Raises:
            CannotCutError: There are fewer bytes, or the stream is damaged.
        """
        stream = zlib.decompressobj()
        found_bytes = used_bytes = 0
        data = memoryview(b"".join(self._pieces))
        try:
            while not stream.eof and used_bytes < len(data) and found_bytes <= size_bytes:
                step = data[used_bytes : used_bytes + _STEP_BYTES]
                used_bytes += len(step)
                found_bytes += len(stream.decompress(step, _STEP_BYTES))
                while stream.unconsumed_tail and found_bytes <= size_bytes:
                    found_bytes += len(stream.decompress(stream.unconsumed_tail, _STEP_BYTES))
            # What is still inside the decompressor after the last input.
            while not stream.eof and found_bytes <= size_bytes and (more := stream.decompress(b"", _STEP_BYTES)):
                found_bytes += len(more)
        except zlib.error as exc:
            raise CannotCutError("its compressed pixels are damaged") from exc
        if found_bytes < size_bytes:
            raise CannotCutError("it has fewer pixels than its header says")
        if found_bytes > size_bytes or not stream.eof:
            return [self._packed_again(data, size_bytes)]
        extra_bytes = len(data) - used_bytes + len(stream.unused_data)
        if not extra_bytes and all(self._pieces):
            return list(self._pieces)
        return [bytes(data[: len(data) - extra_bytes])]

    @staticmethod
    def _packed_again(data: memoryview, size_bytes: int) -> bytes:
        """Return a stream of the first bytes; the pixels are the same, since zlib is lossless."""
        stream, packer, output = zlib.decompressobj(), zlib.compressobj(6), bytearray()
        for at in range(0, len(data), _STEP_BYTES):
            tail: bytes | memoryview = data[at : at + _STEP_BYTES]
            while tail and size_bytes > 0:
                raw = stream.decompress(tail, min(_STEP_BYTES, size_bytes))
                size_bytes -= len(raw)
                output += packer.compress(raw)
                tail = stream.unconsumed_tail
        while size_bytes > 0 and (raw := stream.decompress(b"", min(_STEP_BYTES, size_bytes))):
            size_bytes -= len(raw)
            output += packer.compress(raw)
        return bytes(output + packer.flush())
