"""Keep of a colour profile its colours: no description, copyright, device, maker, date or private tag.

A profile of primaries and tone curves is rebuilt from these; one of tables cannot be checked, so that its picture has
to be converted to sRGB. Sources: ICC.1:2022 (version 4), ICC.1:2001-04 (version 2).
"""

from __future__ import annotations

import hashlib
import io
import struct
from itertools import pairwise
from typing import Final

from flux2_tool.images.parts import CannotCutError

MAX_PROFILE_BYTES: Final = 4 * 1024 * 1024
_MAX_TAGS: Final = 100
_MAX_CURVE_POINTS: Final = 4096
_D50: Final = bytes.fromhex("0000f6d6000100000000d32d")
_NEEDED: Final = {
    b"RGB ": (b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"),
    b"GRAY": (b"wtpt", b"kTRC"),
}
_OPTIONAL: Final = (b"chad", b"bkpt")
_TABLES: Final = (b"A2B", b"B2A", b"D2B", b"B2D")
_PARAMETERS: Final = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}
# Values that thousands of profiles share say nothing about a person. Source: the ICC's signature registry.
_KNOWN_SIGNATURES: Final = frozenset((bytes(4), b"lcms", b"APPL", b"appl", b"ADBE", b"MSFT", b"*nix", b"SGI ", b"SUNW"))
_KNOWN_TEXTS: Final = ("sRGB built-in", "No copyright, use freely")


def colours_of(profile: bytes) -> bytes | None:
    """Return a profile with the same colours and nothing else, or None for bytes that are no profile.

    It is returned unchanged if it already has nothing else.

    Raises:
        CannotCutError: It has colours that only a colour management module can read, such as tables.
    """
    tags = _tags_of(profile)
    if tags is None:
        return None
    space = profile[16:20]
    needed = _NEEDED.get(space, ())
    is_simple = bool(needed) and not any(name[:3] in _TABLES for name in tags)
    if not is_simple or not all(_is_colour(name, tags.get(name, b"")) for name in needed):
        if _is_readable(profile):
            raise CannotCutError("its colour profile has more than primaries and curves")
        return None
    if _has_nothing_else(profile, tags):
        return profile
    kept = {name: tags[name] for name in (*needed, *_OPTIONAL) if _is_colour(name, tags.get(name, b""))}
    return _built(profile, kept)


def _tags_of(profile: bytes) -> dict[bytes, bytes] | None:
    """Return the tags of a profile with a valid header, or None."""
    if not 132 <= len(profile) <= MAX_PROFILE_BYTES or profile[36:40] != b"acsp":
        return None
    size, count = int.from_bytes(profile[:4], "big"), int.from_bytes(profile[128:132], "big")
    if size > len(profile) or count > _MAX_TAGS or profile[8] not in (2, 4) or 132 + 12 * count > size:
        return None
    if profile[12:16] not in (b"mntr", b"scnr", b"prtr", b"spac") or profile[20:24] not in (b"XYZ ", b"Lab "):
        return None
    tags: dict[bytes, bytes] = {}
    for name, at, length in struct.iter_unpack(">4sII", profile[132 : 132 + 12 * count]):
        if at < 132 + 12 * count or at + length > size or name in tags:
            return None
        tags[name] = profile[at : at + length]
    return tags


def _is_colour(name: bytes, tag: bytes) -> bool:
    """Return whether a tag is a valid colour tag, of exactly the length that its type has."""
    kind, length = tag[:4], len(tag)
    if len(tag) < 12 or tag[4:8] != bytes(4):
        return False
    if name.endswith(b"TRC") and kind == b"curv":
        points = struct.unpack(f">{(length - 12) // 2}H", tag[12 : 12 + (length - 12) // 2 * 2])
        is_whole = length == 12 + 2 * int.from_bytes(tag[8:12], "big") and len(points) <= _MAX_CURVE_POINTS
        # Letters as points of a curve would go up and down.
        return is_whole and all(one <= next_one for one, next_one in pairwise(points))
    if name.endswith(b"TRC") and kind == b"para":
        count = _PARAMETERS.get(int.from_bytes(tag[8:10], "big"))
        return count is not None and tag[10:12] == bytes(2) and length == 12 + 4 * count and _is_small(tag[12:], 16)
    if name == b"chad":
        return kind == b"sf32" and length == 44 and _is_small(tag[8:], 4)
    return name[-2:] in (b"YZ", b"pt") and kind == b"XYZ " and length == 20 and _is_small(tag[8:], 4)


def _is_small(numbers: bytes, limit: int) -> bool:
    """Return whether all s15Fixed16 numbers are colours' ones and not, say, letters."""
    return all(abs(number) <= limit * 65536 for (number,) in struct.iter_unpack(">i", numbers))


def _is_readable(profile: bytes) -> bool:
    """Return whether the colour management module can convert from it."""
    from PIL import ImageCms

    mode = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}.get(profile[16:20])
    if mode is None:
        return False
    try:
        ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), mode, "RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return False
    return True


# ---- a profile that already has nothing else -------------------------------------------------------------------------


def _has_nothing_else(profile: bytes, tags: dict[bytes, bytes]) -> bool:
    """Return whether every byte of a profile is a colour, a value that all such profiles share, or zero."""
    count = len(tags)
    covered = bytearray(profile)
    covered[: 132 + 12 * count] = bytes(132 + 12 * count)
    for name, at, length in struct.iter_unpack(">4sII", profile[132 : 132 + 12 * count]):
        if not (_is_colour(name, tags[name]) or _is_chromaticity(name, tags[name]) or tags[name] in _known_texts()):
            return False
        covered[at : at + length] = bytes(length)
    return int.from_bytes(profile[:4], "big") == len(profile) and not any(covered) and _is_common_header(profile)


def _is_common_header(profile: bytes) -> bool:
    year, month, day, hour, minute, second = struct.unpack(">6H", profile[24:36])
    is_date = 1990 <= year < 2200 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61
    signatures = (profile[at : at + 4] for at in (4, 40, 48, 52, 80))
    unsigned = profile[:44] + bytes(4) + profile[48:64] + bytes(4) + profile[68:84] + bytes(16) + profile[100:]
    identity = profile[84:100]
    return (
        is_date
        and all(signature in _KNOWN_SIGNATURES for signature in signatures)
        and profile[10:12] == bytes(2)
        and int.from_bytes(profile[44:48], "big") < 4
        and profile[56:64] == bytes(8)
        and int.from_bytes(profile[64:68], "big") < 4
        and profile[68:80] == _D50
        and identity in (bytes(16), hashlib.md5(unsigned, usedforsecurity=False).digest())
        and profile[100:128] == bytes(28)
    )


def _is_chromaticity(name: bytes, tag: bytes) -> bool:
    numbers = struct.unpack(">6I", tag[12:]) if name == b"chrm" and len(tag) == 36 else (65537,)
    return tag[:12] == b"chrm\0\0\0\0\0\3\0\0" and max(numbers) <= 65536


def _known_texts() -> frozenset[bytes]:
    return frozenset(_localised(text) for text in _KNOWN_TEXTS)


# ---- a profile built anew --------------------------------------------------------------------------------------------


def _built(profile: bytes, kept: dict[bytes, bytes]) -> bytes:
    """Return a profile of colour tags with the texts that the format demands, and a fixed date."""
    text = _localised if profile[8] == 4 else _described
    copyright_text = _localised("-") if profile[8] == 4 else b"text\0\0\0\0-\0"
    tags = {b"desc": text("colours"), b"cprt": copyright_text, **kept}
    table, body, places = b"", b"", dict[bytes, int]()
    start = 132 + 12 * len(tags)
    for name, tag in tags.items():
        if tag not in places:
            places[tag] = start + len(body)
            body += tag + bytes(-len(tag) % 4)
        table += struct.pack(">4sII", name, places[tag], len(tag))
    header = b"".join(
        (
            struct.pack(">I", start + len(body)) + bytes(4),
            profile[8:10] + bytes(2) + profile[12:24],
            struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(24),
            struct.pack(">I", min(int.from_bytes(profile[64:68], "big"), 3)) + _D50 + bytes(48),
        )
    )
    return header + struct.pack(">I", len(tags)) + table + body


def _localised(text: str) -> bytes:
    coded = text.encode("utf-16-be")
    return b"mluc\0\0\0\0\0\0\0\1\0\0\0\x0cenUS" + struct.pack(">II", len(coded), 28) + coded


def _described(text: str) -> bytes:
    coded = text.encode("ascii") + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(coded)) + coded + bytes(4 + 4 + 2 + 1 + 67)
