"""Cut a PNG down to its picture: chunks that display it, each of its own length and values.

Colour chunks whose values no encoder writes are left out; compressed pixels end where their stream ends. A moving
PNG keeps its frames if all follow the rules, else its still picture. Source: PNG, third edition (W3C).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flux2_tool.images.icc import MAX_PROFILE_BYTES, colours_of
from flux2_tool.images.parts import CannotCutError
from flux2_tool.images.png_header import Header
from flux2_tool.images.png_pixels import PixelStream, raw_bytes

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEADER_END: Final = len(SIGNATURE) + 12 + 13
_DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_SAMPLES_OF_SBIT: Final = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
# A PNG of the largest size has some 4,000 pieces of 8 KiB, as encoders write them; decoders take time for each.
MAX_CHUNKS: Final = 100_000
_MAX_FRAME_BYTES: Final = 1024 * 1024 * 1024  # decompressed, of all frames together


@dataclass(slots=True, kw_only=True)
class _Frame:
    control: bytes  # the body of fcTL without its sequence number
    pieces: list[bytes]


@dataclass(slots=True)
class _Parts:
    """The chunks of one file that are kept, as they come."""

    header: Header
    ihdr: bytes
    before: list[tuple[bytes, bytes]] = field(default_factory=list)  # between IHDR and the pixels
    names: set[bytes] = field(default_factory=set)
    palette_entries: int = 0
    pixels: list[bytes] = field(default_factory=list)
    animation: bytes | None = None
    frames: list[_Frame] = field(default_factory=list)
    first_frame_is_still: bool = False
    is_still: bool = False  # the animation breaks its rules


def cut_png(data: bytes) -> bytes:
    """Return a PNG's picture.

    Raises:
        CannotCutError: See `only_the_picture`.
    """
    parts = _parts_of(data)
    if not parts.pixels:
        raise CannotCutError("it has no pixels")
    if parts.header.colour == 3 and not parts.palette_entries:
        raise CannotCutError("it has no palette")
    width_px, height_px = parts.header.width_px, parts.header.height_px
    still = PixelStream(parts.pixels).cut_to(raw_bytes(parts.header, width_px, height_px))
    output = [SIGNATURE, chunk(b"IHDR", parts.ihdr)]
    frames = _checked_frames(parts)
    if frames is None:
        output += [chunk(name, body) for name, body in parts.before if name != b"acTL"]
        output += [chunk(b"IDAT", piece) for piece in still]
    else:
        output += [chunk(name, body) for name, body in parts.before]
        output += _animated(parts, still, frames)
    output.append(chunk(b"IEND", b""))
    return b"".join(output)


def has_too_many_chunks(data: bytes) -> bool:
    """Return whether a file is a PNG of more than MAX_CHUNKS chunks, without counting the rest."""
    if not data.startswith(SIGNATURE):
        return False
    at = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if at >= len(data):
            return False
    return True


def with_colours_of(source: bytes, target: bytes) -> bytes:
    """Return a PNG with the colour chunks of another one, which are not part of its pixels."""
    return target[:_HEADER_END] + colour_chunks(source) + target[_HEADER_END:]


def with_code_points(png: bytes, points: tuple[int, int]) -> bytes:
    """Return a PNG whose samples have these primaries and this transfer function. Source: ITU-T H.273."""
    return png[:_HEADER_END] + chunk(b"cICP", bytes((*points, 0, 1))) + png[_HEADER_END:]


def colour_chunks(source: bytes, *, also: Sequence[bytes] = ()) -> bytes:
    """Return the chunks of a PNG that say how its samples are shown, without its profile unless it is in `also`."""
    try:
        before = _parts_of(source).before
    except CannotCutError:
        return b""
    names = (b"gAMA", b"cHRM", b"sRGB", b"cICP", *also)
    return b"".join(chunk(name, body) for name, body in before if name in names)


def check_pixels(data: bytes) -> None:
    """Check in bounded memory that a PNG has all pixels that its header claims.

    Raises:
        CannotCutError: It has not.
    """
    parts = _parts_of(data)
    PixelStream(parts.pixels).cut_to(raw_bytes(parts.header, parts.header.width_px, parts.header.height_px))


def chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return b"".join((struct.pack(">I", len(body)), name, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))))


def chunks_of(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Return the names and contents of a file's chunks.

    Raises:
        CannotCutError: It ends before its last one.
    """
    at = len(SIGNATURE)
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if len(body) < length or len(name) < 4:
            raise CannotCutError("a chunk is cut short")
        yield name, body
        if name == b"IEND":
            return
        at += 12 + length
    raise CannotCutError("it has no end")


def _parts_of(data: bytes) -> _Parts:
    chunks = chunks_of(data)
    name, body = next(chunks)
    if not data.startswith(SIGNATURE) or name != b"IHDR" or len(body) != 13:
        raise CannotCutError("it does not begin with a header")
    width_px, height_px, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", body)
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1 or not width_px * height_px:
        raise CannotCutError("its header is invalid")
    header = Header(width_px=width_px, height_px=height_px, depth=depth, colour=colour, is_interlaced=bool(interlace))
    parts = _Parts(header, body)
    for name, body in chunks:
        if name == b"IDAT":
            parts.pixels.append(body)
            parts.first_frame_is_still |= len(parts.frames) == 1
        elif name in (b"fcTL", b"fdAT"):
            _add_frame_part(parts, name, body)
        elif name in _RULES and not parts.pixels:
            _add(parts, name, body)
        elif name[0:1].isupper() and name != b"IEND" and name not in _RULES:
            raise CannotCutError("a critical chunk is unknown")
    return parts


def _add(parts: _Parts, name: bytes, body: bytes) -> None:
    if name in parts.names:
        if name in (b"PLTE", b"tRNS"):
            raise CannotCutError("it has two palettes")
        parts.is_still |= name == b"acTL"
        return
    parts.names.add(name)
    kept = _RULES[name](body, parts)
    if kept is not None:
        parts.before.append((name, kept))


# ---- the chunks before the pixels ------------------------------------------------------------------------------------


def _palette(body: bytes, parts: _Parts) -> bytes | None:
    if parts.header.colour != 3:
        return None  # a hint for screens of few colours
    kept = body[: min(len(body) // 3, 2**parts.header.depth) * 3]
    parts.palette_entries = len(kept) // 3
    return kept or None


def _transparency(body: bytes, parts: _Parts) -> bytes | None:
    colour = parts.header.colour
    if colour == 3:
        return body[: parts.palette_entries] or None
    length = {0: 2, 2: 6}.get(colour)
    if length is None:
        return None
    if len(body) < length:
        raise CannotCutError("its transparent colour is cut short")
    return _samples(body[:length], parts)


def _background(body: bytes, parts: _Parts) -> bytes | None:
    colour = parts.header.colour
    if colour == 3:
        return body if len(body) == 1 and body[0] < parts.palette_entries else None
    return _samples(body, parts) if len(body) == {0: 2, 4: 2, 2: 6, 6: 6}[colour] else None


def _samples(body: bytes, parts: _Parts) -> bytes:
    """Return two-byte samples without the bits that a picture of this depth does not use."""
    mask = (1 << parts.header.depth) - 1
    return b"".join(struct.pack(">H", sample & mask) for (sample,) in struct.iter_unpack(">H", body))


def _gamma(body: bytes, _: _Parts) -> bytes | None:
    return body if len(body) == 4 and 1 <= int.from_bytes(body, "big") <= 1_000_000 else None


def _chromaticities(body: bytes, _: _Parts) -> bytes | None:
    # In 1/100000; ProPhoto RGB has one of 0.84, ACES one slightly above 1.
    is_valid = len(body) == 32 and all(value <= 120_000 for value in struct.unpack(">8I", body))
    return body if is_valid else None


def _intent(body: bytes, _: _Parts) -> bytes | None:
    return body if len(body) == 1 and body[0] <= 3 else None


def _resolution(body: bytes, _: _Parts) -> bytes | None:
    # Up to 25,400 dots per inch.
    is_valid = len(body) == 9 and body[8] <= 1 and all(1 <= axis <= 1_000_000 for axis in struct.unpack(">2Ix", body))
    return body if is_valid else None


def _significant_bits(body: bytes, parts: _Parts) -> bytes | None:
    depth = 8 if parts.header.colour == 3 else parts.header.depth
    is_valid = len(body) == _SAMPLES_OF_SBIT[parts.header.colour] and all(1 <= bits <= depth for bits in body)
    return body if is_valid else None


def _code_points(body: bytes, _: _Parts) -> bytes | None:
    """Primaries, transfer function, matrix (none for RGB) and range. Source: ITU-T H.273."""
    is_valid = len(body) == 4 and 1 <= body[0] <= 22 and 1 <= body[1] <= 18 and body[2] == 0 and body[3] <= 1
    return body if is_valid else None


def _profile(body: bytes, _: _Parts) -> bytes | None:
    name, _zero, packed = body.partition(b"\0")
    if packed[:1] != b"\0":
        return None
    stream = zlib.decompressobj()
    try:
        profile = stream.decompress(packed[1:], MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return None
    kept = colours_of(profile) if stream.eof else None
    if kept is None:
        return None
    if kept == profile and name == b"ICC Profile" and not stream.unused_data:
        return body
    return b"ICC Profile\0\0" + zlib.compress(kept)


def _animation(body: bytes, parts: _Parts) -> bytes | None:
    parts.animation = body[:8] if len(body) >= 8 else None
    return parts.animation


_RULES: Final[Mapping[bytes, Callable[[bytes, _Parts], bytes | None]]] = {
    b"PLTE": _palette,
    b"tRNS": _transparency,
    b"bKGD": _background,
    b"gAMA": _gamma,
    b"cHRM": _chromaticities,
    b"sRGB": _intent,
    b"pHYs": _resolution,
    b"sBIT": _significant_bits,
    b"cICP": _code_points,
    b"iCCP": _profile,
    b"acTL": _animation,
}


# ---- the frames of a moving PNG --------------------------------------------------------------------------------------


def _add_frame_part(parts: _Parts, name: bytes, body: bytes) -> None:
    if name == b"fcTL" and len(body) == 26 and (parts.pixels or not parts.frames):
        parts.frames.append(_Frame(control=body[4:], pieces=[]))
    elif name == b"fdAT" and len(body) >= 4 and parts.frames and parts.pixels:
        parts.frames[-1].pieces.append(body[4:])
    else:
        parts.is_still = True


def _checked_frames(parts: _Parts) -> list[_Frame] | None:
    """Return the frames, cut; None when they are not a valid animation, so that only the still picture is kept."""
    if parts.animation is None or parts.is_still or len(parts.frames) != int.from_bytes(parts.animation[:4], "big"):
        return None
    frames, left_bytes = [], _MAX_FRAME_BYTES
    for number, frame in enumerate(parts.frames):
        width_px, height_px, x, y, _, _, dispose, blend = struct.unpack(">4I2H2B", frame.control)
        size_bytes = raw_bytes(parts.header, width_px, height_px)
        left_bytes -= size_bytes
        is_inside = x + width_px <= parts.header.width_px and y + height_px <= parts.header.height_px
        if not is_inside or not width_px * height_px or dispose > 2 or blend > 1 or left_bytes < 0:
            return None
        if number == 0 and parts.first_frame_is_still:
            if frame.pieces or (width_px, height_px) != (parts.header.width_px, parts.header.height_px):
                return None
            frames.append(frame)
            continue
        try:
            frames.append(_Frame(control=frame.control, pieces=PixelStream(frame.pieces).cut_to(size_bytes)))
        except CannotCutError:
            return None
    return frames


def _animated(parts: _Parts, still: list[bytes], frames: list[_Frame]) -> Iterator[bytes]:
    sequence = 0
    waiting = [chunk(b"IDAT", piece) for piece in still]
    if not parts.first_frame_is_still:
        yield from waiting
    for number, frame in enumerate(frames):
        yield chunk(b"fcTL", struct.pack(">I", sequence) + frame.control)
        sequence += 1
        if number == 0 and parts.first_frame_is_still:
            yield from waiting
        for piece in frame.pieces:
            yield chunk(b"fdAT", struct.pack(">I", sequence) + piece)
            sequence += 1
