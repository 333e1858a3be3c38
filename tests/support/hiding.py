"""Every place of a PNG, JPEG, WebP or GIF where bytes can hide beside the picture, each as a file with them in it.

A place is named after what it is, for the message of a failing test. The parsing here is the test's own: it takes
well-formed files only.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from PIL import ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
_ICC = b"ICC_PROFILE\0"


def places_of(kind: str, data: bytes, secret: bytes) -> Iterator[tuple[str, bytes]]:
    """Return the name of each place of a file, and the file with the secret in it."""
    yield "after the end", data + secret
    yield from {"PNG": _png, "JPEG": _jpeg, "WEBP": _webp, "GIF": _gif}[kind](data, secret)


def profiles(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """Return colour profiles, true and false, with a secret in each part of one."""
    yield "no profile at all", secret
    yield "after a profile", SRGB + secret
    yield "in the header of a false profile", SRGB[:40] + secret.ljust(88, b"\0")[:88] + SRGB[128:]
    for at, length, name in (
        (4, 4, "module"),
        (48, 16, "device"),
        (80, 4, "creator"),
        (84, 16, "id"),
        (100, 28, "rest"),
    ):
        yield f"in a profile's {name}", SRGB[:at] + secret[:length].ljust(length, b"\0") + SRGB[at + length :]
    for name in (b"desc", b"cprt", b"dmnd", b"dmdd", b"vcgt", b"meta", b"Prvt", b"A2B9"):
        yield f"in a profile's tag {name!r}", _with_tag(SRGB, name, b"text\0\0\0\0" + secret + b"\0")
    for name in (b"rXYZ", b"wtpt", b"rTRC", b"chad", b"chrm"):
        old = _tag(SRGB, name)
        yield f"after a profile's tag {name!r}", _with_tag(SRGB, name, old + secret)
        yield (
            f"in a profile's tag {name!r}",
            _with_tag(SRGB, name, (old[:12] + secret).ljust(len(old), b"\0")[: len(old)]),
        )
    curve = secret + bytes(len(secret) % 2)
    curve_tag = b"curv\0\0\0\0" + struct.pack(">I", len(curve) // 2) + curve
    yield "in a profile's curve", _with_tag(SRGB, b"gTRC", curve_tag)


def _tag(profile: bytes, name: bytes) -> bytes:
    for found, at, length in struct.iter_unpack(">4sII", profile[132 : 132 + 12 * profile[131]]):
        if found == name:
            return profile[at : at + length]
    raise LookupError(name)


def _with_tag(profile: bytes, name: bytes, body: bytes) -> bytes:
    """Return a valid profile with one tag added or replaced."""
    old = {
        found: profile[at : at + n]
        for found, at, n in struct.iter_unpack(">4sII", profile[132 : 132 + 12 * profile[131]])
    }
    tags = {**old, name: body}
    table, bodies, at = b"", b"", 132 + 12 * len(tags)
    for found, tag in tags.items():
        table += struct.pack(">4sII", found, at + len(bodies), len(tag))
        bodies += tag + bytes(-len(tag) % 4)
    return struct.pack(">I", at + len(bodies)) + profile[4:128] + struct.pack(">I", len(tags)) + table + bodies


# ---- PNG -------------------------------------------------------------------------------------------------------------


def png_chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk with its checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return a PNG's chunks."""
    found, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _png(data: bytes, secret: bytes) -> Iterator[tuple[str, bytes]]:
    chunks = png_chunks(data)

    def file(parts: list[tuple[bytes, bytes]]) -> bytes:
        return data[:8] + b"".join(png_chunk(*part) for part in parts)

    new = [
        (b"tEXt", b"Author\0" + secret),
        (b"zTXt", b"Author\0\0" + zlib.compress(secret)),
        (b"iTXt", b"Author\0\0\0\0\0" + secret),
        (b"eXIf", b"MM\0*\0\0\0\x08\0\0" + secret),
        (b"tIME", secret[:7].ljust(7, b"1")),
        (b"prVt", secret),
        (b"sPLT", secret),
        (b"hIST", secret),
        (b"gAMA", secret[:4]),
        (b"cHRM", secret.ljust(32, b"x")[:32]),
        (b"pHYs", secret.ljust(9, b"x")[:9]),
        (b"cICP", secret[:4]),
        *((name, secret) for name in (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"bKGD", b"sBIT", b"cICP", b"iCCP", b"acTL")),
        (b"iCCP", b"n\0\0" + zlib.compress(SRGB) + secret),
        (b"iCCP", secret + b"\0\0" + zlib.compress(SRGB)),
        *((b"iCCP", b"n\0\0" + zlib.compress(profile)) for _, profile in profiles(secret)),
    ]
    for at in range(1, len(chunks) + 1):
        for name, body in new:
            yield f"chunk {name!r} at {at}", file([*chunks[:at], (name, body), *chunks[at:]])
    for at, (name, body) in enumerate(chunks):
        # A palette may have unused entries, so that what is added to one is part of it.
        is_palette = name == b"PLTE" or (name == b"tRNS" and chunks[0][1][9] == 3)
        if at and name not in (b"IDAT", b"fdAT", b"fcTL") and not is_palette:
            yield f"at the end of chunk {name!r}", file([*chunks[:at], (name, body + secret), *chunks[at + 1 :]])
        if name in (b"IDAT", b"fdAT"):
            is_last = chunks[at + 1][0] != name
            head, stream = (b"", body) if name == b"IDAT" else (body[:4], body[4:])
            if is_last:
                yield f"after the stream of {name!r}", file([*chunks[:at], (name, body + secret), *chunks[at + 1 :]])
            if is_last and chunks[at - 1][0] != name:
                raw = zlib.compress(zlib.decompress(stream) + secret)
                yield f"after the pixels of {name!r}", file([*chunks[:at], (name, head + raw), *chunks[at + 1 :]])


# ---- JPEG ------------------------------------------------------------------------------------------------------------


def jpeg_segment(marker: int, body: bytes) -> bytes:
    """Return a segment."""
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(body)) + body


def _jpeg(data: bytes, secret: bytes) -> Iterator[tuple[str, bytes]]:
    starts, ends_of_coded, at = [], [], 2
    while data[at + 1] != 0xD9:
        starts.append(at)
        is_scan = data[at + 1] == 0xDA
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        while is_scan:
            at = data.index(b"\xff", at)
            if data[at + 1] != 0:
                ends_of_coded.append(at)
                is_scan = 0xD0 <= data[at + 1] <= 0xD7
            at += 2 if is_scan or data[at + 1] == 0 else 0
    starts.append(at)
    prefixes = (b"", b"JFIF\0", b"JFXX\0\x10", b"Exif\0\0", _ICC, _ICC + b"\1\1", _ICC + b"\1\2", b"Adobe", b"MPF\0")
    new = [jpeg_segment(0xFE, secret), secret, b"\xff" * 5 + jpeg_segment(0xFE, secret), b"\xff\x01" + secret]
    new += [jpeg_segment(marker, prefix + secret) for marker in range(0xE1, 0xF0) for prefix in prefixes]
    new.append(jpeg_segment(0xE0, b"JFXX\0\x10" + secret))
    new.append(jpeg_segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\x01\x01" + secret))
    if b"Adobe" not in data:
        new.append(jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\1" + secret))
    new.append(jpeg_segment(0xC4, b"\x03" + bytes((0,) * 15) + bytes((len(secret),)) + secret))
    for place, start in enumerate(starts):
        # Each part at one boundary of three, which makes a third of the files.
        for number, part in list(enumerate(new))[place % 3 :: 3]:
            yield f"segment {number} ({part[:12]!r}) at {start}", data[:start] + part + data[start:]
    for start in starts[:2]:
        yield "in an unused table", data[:start] + jpeg_segment(0xDB, b"\x03" + secret.ljust(64)[:64]) + data[start:]
        for name, profile in profiles(secret):
            segment = jpeg_segment(0xE2, _ICC + b"\1\1" + profile)
            yield name, data[:start] + segment + data[start:]
            halves = [
                jpeg_segment(0xE2, _ICC + bytes((n, 2)) + part) for n, part in ((1, profile[:99]), (2, profile[99:]))
            ]
            yield f"{name}, in two", data[:start] + b"".join(halves) + data[start:]
            yield f"{name}, of a wrong count", data[:start] + halves[0] + halves[0] + data[start:]
    for end in ends_of_coded:
        yield f"after coded data at {end}", data[:end] + secret + data[end:]


# ---- WebP ------------------------------------------------------------------------------------------------------------


def webp_chunk(name: bytes, body: bytes, fill: bytes = b"\0") -> bytes:
    """Return a chunk."""
    return name + struct.pack("<I", len(body)) + body + (fill if len(body) % 2 else b"")


def webp_chunks(data: bytes, at: int = 12) -> list[tuple[bytes, bytes]]:
    """Return a WebP's chunks, or those of one of its frames."""
    found = []
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        found.append((data[at : at + 4], data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return found


def _webp(data: bytes, secret: bytes) -> Iterator[tuple[str, bytes]]:
    chunks = webp_chunks(data)

    def file(parts: list[tuple[bytes, bytes]], fill: bytes = b"\0") -> bytes:
        body = b"".join(webp_chunk(*part, fill) for part in parts)
        return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body

    names = [b"EXIF", b"XMP ", b"prvt", b"ICCP", b"ALPH", b"VP8 "]
    for at in range(1, len(chunks) + 1):
        for name in names if at == len(chunks) else names[:3]:
            yield f"chunk {name!r} at {at}", file([*chunks[:at], (name, secret), *chunks[at:]])
    yield "in the size", b"RIFF" + struct.pack("<I", len(data) - 8 + 40) + data[8:] + secret.ljust(40, b"s")
    if chunks[0][0] == b"VP8X":
        flagged = (b"VP8X", bytes((chunks[0][1][0] | 0x20,)) + chunks[0][1][1:])
        rest = [part for part in chunks[1:] if part[0] != b"ICCP"]
        for name, profile in profiles(secret):
            yield name, file([flagged, (b"ICCP", profile), *rest])
        reserved = bytes((chunks[0][1][0] | 0xC1,)) + secret[:3] + chunks[0][1][4:]
        yield "in the header's reserved bits", file([(b"VP8X", reserved), *chunks[1:]])
    for at, (name, body) in enumerate(chunks):
        longer = body + secret
        yield f"at the end of {name!r} at {at}", file([*chunks[:at], (name, longer), *chunks[at + 1 :]])
        if name == b"ANMF":
            inner = webp_chunks(body, 16)
            for place in range(len(inner) + 1):
                parts = [*inner[:place], (b"prvt", secret), *inner[place:]]
                frame = body[:16] + b"".join(webp_chunk(*part) for part in parts)
                yield f"in frame {at} at {place}", file([*chunks[:at], (name, frame), *chunks[at + 1 :]])
            for place, (inner_name, content) in enumerate(inner):
                parts = [*inner[:place], (inner_name, content + secret), *inner[place + 1 :]]
                frame = body[:16] + b"".join(webp_chunk(*part) for part in parts)
                yield f"in {inner_name!r} of frame {at}", file([*chunks[:at], (name, frame), *chunks[at + 1 :]])
        if name == b"VP8 ":
            tag = int.from_bytes(body[:3], "little")
            end = 10 + (tag >> 5)
            longer = (tag + (len(secret) << 5)).to_bytes(3, "little") + body[3:end] + secret + body[end:]
            yield "between the streams of a frame", file([*chunks[:at], (name, longer), *chunks[at + 1 :]])


# ---- GIF -------------------------------------------------------------------------------------------------------------


def _sub_blocks(*parts: bytes) -> bytes:
    return b"".join(bytes((len(part),)) + part for part in parts) + b"\0"


def _gif(data: bytes, secret: bytes) -> Iterator[tuple[str, bytes]]:
    def table(flags: int) -> int:
        return 3 * (2 << (flags & 7)) if flags & 0x80 else 0

    def after(at: int) -> int:
        while data[at]:
            at += 1 + data[at]
        return at + 1

    starts, at = [], 13 + table(data[10])
    ends_of_coded, controls = [], []
    while data[at] != 0x3B:
        starts.append(at)
        if data[at] == 0x2C:
            at = after(at + 11 + table(data[at + 9]))
            ends_of_coded.append(at - 1)
        else:
            controls += [at] if data[at + 1] == 0xF9 else []
            at = after(at + 2)
    starts.append(at)
    new = [
        b"\x21\xfe" + _sub_blocks(secret),
        b"\x21\xff" + _sub_blocks(b"NETSCAPE2.0", b"\1\0\0" + secret),
        b"\x21\xff" + _sub_blocks(b"NETSCAPE2.0", b"\1\0\0", secret),
        b"\x21\xff" + _sub_blocks(b"XMP DataXMP", secret),
        b"\x21\xff" + _sub_blocks((secret * 2)[:11], b"\1\0\0"),
        b"\x21\x01" + _sub_blocks(bytes(12), secret),
        b"\x21\x77" + _sub_blocks(secret),
        b"\x21\xf9" + _sub_blocks(b"\4\0\0\0", secret),
        b"\0" + secret,
    ]
    for start in starts:
        for number, part in enumerate(new):
            yield f"block {number} at {start}", data[:start] + part + data[start:]
    for end in ends_of_coded:
        yield f"in a block after the codes at {end}", data[:end] + _sub_blocks(secret)[:-1] + data[end:]
    for start in controls:
        yield "in a longer control", data[: start + 7] + _sub_blocks(secret)[:-1] + data[start + 7 :]
