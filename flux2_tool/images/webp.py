"""Cut a WebP down to its picture: canvas, colour profile, transparency and frames, each with nothing after its end.

Frames are kept, all of them. Source: the WebP container specification (Google).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from flux2_tool.images.icc import colours_of
from flux2_tool.images.parts import CannotCutError
from flux2_tool.images.webp_frame import DecodeBudget, WebpFrame, chunk, cut_frame, quantizer_of

_ICC, _ALPHA, _ANIMATION = 0x20, 0x10, 0x02
_PICTURES: Final = (b"VP8 ", b"VP8L")
_FRAME_HEADER_BYTES: Final = 16
_USUAL_QUALITY: Final = 95


@dataclass(slots=True)
class _Parts:
    """The chunks of one file that are kept."""

    extended: bytes | None = None
    profile: bytes | None = None
    animation: bytes | None = None
    alpha: bytes | None = None
    picture: tuple[bytes, bytes] | None = None


def cut_webp(data: bytes) -> bytes:
    """Return a WebP's picture.

    Raises:
        CannotCutError: See `only_the_picture`.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise CannotCutError("it does not begin with its header")
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise CannotCutError("it is cut short")
    parts, frames, budget = _Parts(), list[bytes](), DecodeBudget()
    for number, (name, body) in enumerate(_chunks(data, 12, end)):
        if name == b"VP8X" and number == 0:
            parts.extended = body
        elif name == b"ANMF" and parts.animation is not None:
            frames.append(_frame(body, budget))
        elif name == b"ANIM" and parts.animation is None and len(body) >= 6:
            parts.animation = body[:6]
        elif name == b"ICCP" and parts.profile is None:
            parts.profile = body
        elif name == b"ALPH" and parts.alpha is None and parts.picture is None:
            parts.alpha = body
        elif name in _PICTURES and parts.picture is None:
            parts.picture = name, body
    written = b"".join(_written(parts, frames, budget))
    return b"RIFF" + (4 + len(written)).to_bytes(4, "little") + b"WEBP" + written


def lossy_quality(data: bytes) -> int | None:
    """Return the quality with which a WebP's picture, or its first frame, was coded; None if that was without loss.

    It is what the encoder makes its quantizer of, the other way round. Source: libwebp's QualityToCompression.
    """
    try:
        body = _first_lossy(data)
        if body is None:
            return None
        share = (1 - quantizer_of(body) / 127) ** 3
    except (CannotCutError, IndexError):
        return _USUAL_QUALITY
    return min(100, math.ceil(100 * (1.5 * share if share < 0.5 else (share + 1) / 2)))


def _first_lossy(data: bytes) -> bytes | None:
    for name, body in _chunks(data, 12, len(data)):
        if name in _PICTURES:
            return body if name == b"VP8 " else None
        if name == b"ANMF":
            inner = dict(_chunks(body, _FRAME_HEADER_BYTES, len(body)))
            return inner.get(b"VP8 ")
    raise CannotCutError("it has no picture")


def _chunks(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    while at + 8 <= end:
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > end:
            raise CannotCutError("a chunk is cut short")
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _written(parts: _Parts, frames: list[bytes], budget: DecodeBudget) -> Iterator[bytes]:
    if parts.extended is None:
        if parts.picture is None:
            raise CannotCutError("it has no picture")
        yield from cut_frame(WebpFrame(None, *parts.picture), budget).written()
        return
    if len(parts.extended) < 10:
        raise CannotCutError("its header is cut short")
    is_animation = bool(parts.extended[0] & _ANIMATION)
    kept = None if parts.profile is None or not parts.extended[0] & _ICC else colours_of(parts.profile)
    flags = parts.extended[0] & (_ALPHA | _ANIMATION) | (0 if kept is None else _ICC)
    yield chunk(b"VP8X", bytes((flags, 0, 0, 0)) + parts.extended[4:10])
    if kept is not None:
        yield chunk(b"ICCP", kept)
    if is_animation:
        if parts.animation is None or not frames:
            raise CannotCutError("it has no frames")
        yield chunk(b"ANIM", parts.animation)
        yield from (chunk(b"ANMF", frame) for frame in frames)
        return
    if parts.picture is None:
        raise CannotCutError("it has no picture")
    yield from cut_frame(WebpFrame(parts.alpha, *parts.picture), budget).written()


def _frame(body: bytes, budget: DecodeBudget) -> bytes:
    """Return a frame of an animation: its place, size, duration and picture."""
    if len(body) < _FRAME_HEADER_BYTES:
        raise CannotCutError("a frame is cut short")
    alpha: bytes | None = None
    for name, content in _chunks(body, _FRAME_HEADER_BYTES, len(body)):
        if name == b"ALPH" and alpha is None:
            alpha = content
        elif name in _PICTURES:
            # How it is blended and disposed of; the other bits are reserved.
            head = body[:15] + bytes((body[15] & 3,))
            return head + b"".join(cut_frame(WebpFrame(alpha, name, content), budget).written())
    raise CannotCutError("a frame has no picture")
