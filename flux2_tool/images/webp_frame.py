"""Cut the coded data of a WebP's frame where its decoder stops to read, because it skips what comes after.

The arithmetic coder has no mark at its end: data are too long if they can be decoded without their last bytes. An
encoder fills up to three. Sources: RFC 6386 (VP8), RFC 9649 (WebP and its lossless format).
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from flux2_tool.images.parts import CannotCutError

_FILLED_BYTES: Final = 3
_STRIP_ROWS: Final = 64
_ALPHA_BITS: Final = 0x3F  # of the first byte; two are reserved
_VP8_HEADER_BYTES: Final = 10


@dataclass(slots=True)
class DecodeBudget:
    """How many pixels may still be decoded to find the ends of a file; a bound on time, about 10 ns each."""

    pixels: int = 300_000_000


@dataclass(frozen=True, slots=True)
class WebpFrame:
    """One picture: the ALPH chunk's content, and the name and content of its VP8 or VP8L chunk."""

    alpha: bytes | None
    name: bytes
    body: bytes

    def written(self) -> Iterator[bytes]:
        """Return its chunks."""
        if self.alpha is not None:
            yield chunk(b"ALPH", self.alpha)
        yield chunk(self.name, self.body)

    def size_px(self) -> tuple[int, int]:
        """Return width and height, as its own header says."""
        if self.name == b"VP8 ":
            if len(self.body) < _VP8_HEADER_BYTES or self.body[3:6] != b"\x9d\x01\x2a":
                raise CannotCutError("a frame is invalid")
            width, height = (int.from_bytes(self.body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
            return width, height
        if self.body[:1] != b"\x2f" or len(self.body) < 5:
            raise CannotCutError("a frame is invalid")
        bits = int.from_bytes(self.body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1

    def pixels_digest(self, budget: DecodeBudget) -> bytes | None:
        """Return a digest of the decoded pixels, or None if the frame is not complete.

        Raises:
            CannotCutError: The budget is used up.
        """
        from PIL import Image

        width_px, height_px = self.size_px()
        if not width_px * height_px:
            raise CannotCutError("a frame is invalid")
        # The fixed part stands for what starting a decoder costs.
        budget.pixels -= width_px * height_px + 2000
        if budget.pixels < 0:
            raise CannotCutError("its frames are too many or too large to be checked")
        body = b"".join(self.written())
        if self.alpha is not None:
            size = (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
            body = chunk(b"VP8X", b"\x10\0\0\0" + size) + body
        file = b"RIFF" + (4 + len(body)).to_bytes(4, "little") + b"WEBP" + body
        digest = hashlib.sha256()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(io.BytesIO(file), formats=("WEBP",)) as image:
                    image.load()
                    for top in range(0, height_px, _STRIP_ROWS):  # never all pixels a second time
                        digest.update(image.crop((0, top, width_px, min(top + _STRIP_ROWS, height_px))).tobytes())
        except Exception:  # noqa: BLE001 - decoders raise many types for invalid data
            return None
        return digest.digest()


def chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk with its length, filled to an even one with zero."""
    return b"".join((name, len(body).to_bytes(4, "little"), body, b"\0" * (len(body) % 2)))


def cut_frame(frame: WebpFrame, budget: DecodeBudget) -> WebpFrame:
    """Return a frame with nothing after the end of any of its streams; the same if it had nothing there.

    Raises:
        CannotCutError: It is damaged, or the budget is used up.
    """
    if frame.name == b"VP8L":
        frame = replace(frame, alpha=None)
        return _shortest(frame, len(frame.body), lambda size: replace(frame, body=frame.body[:size]), budget)
    for number in range(len(_streams_of(frame)[1])):
        head, streams = _streams_of(frame)
        frame = _shortest(frame, len(streams[number]), partial(_with_stream, frame, head, streams, number), budget)
    return _with_cut_alpha(frame, budget)


def _with_stream(frame: WebpFrame, head: bytes, streams: list[bytes], number: int, size: int) -> WebpFrame:
    cut = [*streams[:number], streams[number][:size], *streams[number + 1 :]]
    return replace(frame, body=_joined(head, cut))


def _shortest(frame: WebpFrame, size: int, with_size: Callable[[int], WebpFrame], budget: DecodeBudget) -> WebpFrame:
    """Return a frame with the fewest bytes of one stream that can be decoded; as it is if that saves a few only."""
    too_short = size - _FILLED_BYTES - 1
    found = None if too_short < 0 else with_size(too_short).pixels_digest(budget)
    # A decoder may also read zeros after the end of its data, and take them for pixels.
    if found is None or found != (wanted := with_size(size).pixels_digest(budget)):
        return frame
    enough, step = too_short, 2 * _FILLED_BYTES
    while True:
        too_short = max(enough - step, 0)
        if not too_short or with_size(too_short).pixels_digest(budget) != wanted:
            break
        enough, step = too_short, 2 * step
    while enough - too_short > 1:
        middle = (enough + too_short) // 2
        if with_size(middle).pixels_digest(budget) == wanted:
            enough = middle
        else:
            too_short = middle
    return with_size(enough)


# ---- lossy frames ----------------------------------------------------------------------------------------------------


def _streams_of(frame: WebpFrame) -> tuple[bytes, list[bytes]]:
    """Return a lossy frame's header, and its streams: the modes, then the coefficients in one to eight parts."""
    body = frame.body
    frame.size_px()
    tag = int.from_bytes(body[:3], "little")
    first_end = _VP8_HEADER_BYTES + (tag >> 5)
    modes = body[_VP8_HEADER_BYTES:first_end]
    count = 1 << _partition_bits(modes)
    at = first_end + 3 * (count - 1)
    sizes = [int.from_bytes(body[first_end + 3 * n : first_end + 3 * n + 3], "little") for n in range(count - 1)]
    streams = [modes]
    for size in sizes:
        streams.append(body[at : at + size])
        at += size
    if at > len(body) or tag & 1:
        raise CannotCutError("a frame is cut short")
    return body[:_VP8_HEADER_BYTES], [*streams, body[at:]]


def _joined(head: bytes, streams: list[bytes]) -> bytes:
    tag = int.from_bytes(head[:3], "little") & 0x1F | len(streams[0]) << 5
    sizes = [len(stream).to_bytes(3, "little") for stream in streams[1:-1]]
    return b"".join((tag.to_bytes(3, "little"), head[3:], streams[0], *sizes, *streams[1:]))


def quantizer_of(body: bytes) -> int:
    """Return how coarse a lossy frame is, from 0 to 127: the finest of its segments.

    Args:
        body: The content of a VP8 chunk.
    """
    first_end = _VP8_HEADER_BYTES + (int.from_bytes(body[:3], "little") >> 5)
    return _modes_header(body[_VP8_HEADER_BYTES:first_end])[1]


def _partition_bits(modes: bytes) -> int:
    """Return the logarithm of the number of parts."""
    return _modes_header(modes)[0]


def _modes_header(modes: bytes) -> tuple[int, int]:
    """Return the logarithm of the number of parts, and the quantizer. Source: RFC 6386, sections 7.3 and 9.2 to 9.6."""
    read = _BoolReader(modes).read
    read(2)  # colour space, clamping
    segments: list[int] = []
    is_absolute = False
    if read(1):
        has_map, has_data = read(1), read(1)
        if has_data:
            is_absolute = bool(read(1))
            for _ in range(4):
                segments.append((read(7) * (-1 if read(1) else 1)) if read(1) else 0)
            for _ in range(4):
                if read(1):
                    read(6 + 1)
        if has_map:
            for _ in range(3):
                if read(1):
                    read(8)
    read(1 + 6 + 3)  # the loop filter
    if read(1) and read(1):
        for _ in range(8):
            if read(1):
                read(6 + 1)
    bits, base = read(2), read(7)
    steps = [base, *(step if is_absolute else base + step for step in segments)]
    return bits, max(0, min(steps))


class _BoolReader:
    """The arithmetic decoder for bits of even probability. Source: RFC 6386, section 7.3."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 2
        self._value, self._range, self._shifted = int.from_bytes(data[:2].ljust(2, b"\0"), "big"), 255, 0

    def read(self, bits: int) -> int:
        """Return a number of so many bits."""
        number = 0
        for _ in range(bits):
            split = 1 + ((self._range - 1) * 128 >> 8)
            bit = self._value >= split << 8
            if bit:
                self._range -= split
                self._value -= split << 8
            else:
                self._range = split
            while self._range < 128:
                self._value, self._range, self._shifted = self._value << 1, self._range << 1, self._shifted + 1
                if self._shifted == 8:
                    self._shifted = 0
                    self._value |= self._data[self._at] if self._at < len(self._data) else 0
                    self._at += 1
            number = number << 1 | bit
        return number


# ---- transparency of lossy frames ------------------------------------------------------------------------------------


def _with_cut_alpha(frame: WebpFrame, budget: DecodeBudget) -> WebpFrame:
    if frame.alpha is None:
        return frame
    if not frame.alpha:
        raise CannotCutError("its transparency is cut short")
    width_px, height_px = frame.size_px()
    alpha = bytes((frame.alpha[0] & _ALPHA_BITS,)) + frame.alpha[1:]
    if not alpha[0] & 3:
        return replace(frame, alpha=alpha[: 1 + width_px * height_px])
    frame = replace(frame, alpha=alpha)
    return _shortest(frame, len(alpha), lambda size: replace(frame, alpha=alpha[:size]), budget)
