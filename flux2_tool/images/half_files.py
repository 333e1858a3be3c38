"""Tell a picture whose file was cut short, of which decoders say nothing.

A program that reserves a file's place before it downloads it leaves zeros where the rest was to come, and many coded
data may go on with zeros. So this looks where the picture's own data end. Raw pixels may well be zeros to their end.
Sources: ITU-T T.81, B.1; ISO/IEC 14496-12 (boxes), 23008-12 (items); ITU-T H.265, 7.4.2; RFC 9649 (WebP); PNG,
third edition (W3C), 5.3.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from flux2_tool.images.file_kinds import AVIF, HEIC, ICO, JPEG, PNG, WEBP, FileKind
from flux2_tool.images.jpeg import check_scans, has_end
from flux2_tool.images.parts import CannotCutError, EndsEarlyError
from flux2_tool.images.png import SIGNATURE
from flux2_tool.images.webp_frame import chunk

if TYPE_CHECKING:
    from PIL import Image

# No HEVC data have more than two zeros one after the other, and no encoder of AV1 writes so many.
_ITEM_ZEROS: Final = bytes(64)
_JPEG_ZEROS: Final = bytes(64)
# A plain picture may have a hundred thousand, of which the decoder reads each; an encoder fills up three at most.
_WEBP_ZEROS: Final = 1024
_WEBP_SHARE: Final = 16
_PNG_PIXELS: Final = (b"IDAT", b"fdAT")
_WEBP_PICTURES: Final = (b"VP8 ", b"VP8L")
_STRIP_ROWS: Final = 64
_CODED_ITEMS: Final = (b"hvc1", b"av01")
# What libjpeg shows where there are no data.
_GREY: Final = {"L": (128, 128), "RGB": ((128, 128),) * 3}


def is_cut_short(data: bytes, kind: FileKind, image: Image.Image | None = None) -> bool:
    """Return whether a file ends before its picture does.

    Args:
        data: The picture's file.
        kind: What it is.
        image: The same, decoded without an error; None if it was not decoded.
    """
    if kind is JPEG:
        return _ends_in_zeros(data) or (image is not None and _misses_its_bottom(data, image))
    if kind is PNG:
        return _is_half_a_png(data)
    if kind is ICO:
        return any(map(_is_half_a_png, _pictures_of_an_icon(data)))
    if kind is WEBP:
        return image is not None and _is_half_a_webp(data, image)
    return kind in (AVIF, HEIC) and any(extent.endswith(_ITEM_ZEROS) for extent in _coded_extents(data))


# ---- JPEG ------------------------------------------------------------------------------------------------------------


def _ends_in_zeros(data: bytes) -> bool:
    """Return whether a JPEG without an end has zeros in its place, and its scans end before them."""
    if not data.endswith(_JPEG_ZEROS) or has_end(data):
        return False
    try:
        # A few zeros may belong to the last codes.
        check_scans(data.rstrip(b"\0") + bytes(8) + b"\xff\xd9")
    except CannotCutError:
        return True
    return False


def _misses_its_bottom(data: bytes, image: Image.Image) -> bool:
    """Return whether a JPEG's last rows are grey because there are no data for them, and not because they are grey."""
    width_px, height_px = image.size
    last_row = image.crop((0, height_px - 1, width_px, height_px))
    if last_row.mode not in _GREY or last_row.getextrema() != _GREY[last_row.mode]:
        return False
    try:
        check_scans(data)
    except EndsEarlyError:
        return True
    except (CannotCutError, MemoryError):  # it cannot be told
        return False
    return False


# ---- PNG -------------------------------------------------------------------------------------------------------------


def _is_half_a_png(data: bytes) -> bool:
    """Return whether zeros stand for the rest of a PNG's pixels, for their checksum, and for all that is to follow.

    Pillow takes zeros for pixels of some kind, and does not compare this checksum.
    """
    last, at = len(data.rstrip(b"\0")), len(SIGNATURE)
    while last < len(data) and at + 8 <= len(data):
        stop = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if stop >= last:
            return data[at + 4 : at + 8] in _PNG_PIXELS and zlib.crc32(data[at + 4 : stop]) != 0
        if data[at + 4 : at + 8] == b"IEND":
            return False
        at = stop + 4
    return False


def _pictures_of_an_icon(data: bytes) -> Iterator[bytes]:
    """Return the PNGs of a Windows icon, which has a table of its sizes."""
    table = data[6 : 6 + 16 * int.from_bytes(data[4:6], "little")]
    for size, begin in {struct.unpack_from("<II", table, at + 8) for at in range(0, len(table) - 15, 16)}:
        if data[begin : begin + len(SIGNATURE)] == SIGNATURE:
            yield data[begin : begin + size]


# ---- WebP ------------------------------------------------------------------------------------------------------------


def _is_half_a_webp(data: bytes, image: Image.Image) -> bool:
    """Return whether a WebP's picture ends in many zeros that its decoder does not read.

    A lossless one cannot be decoded without what is read. In a lossy one other bytes in their place change the
    picture; in a lossless one they need not, because several codes may stand for the same plain pixels.
    """
    end = min(8 + int.from_bytes(data[4:8], "little"), len(data))
    last, at = len(data[:end].rstrip(b"\0")), 12
    while end - last >= _WEBP_ZEROS and at + 8 <= end:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        stop = at + 8 + size
        if stop >= last:
            zeros = stop - max(last, at + 8)
            if data[at : at + 4] not in _WEBP_PICTURES or zeros < _WEBP_ZEROS:
                return False
            spare = zeros // _WEBP_SHARE
            is_lossless = data[at : at + 4] == b"VP8L"
            body = data[at + 8 : stop - spare] + (b"" if is_lossless else b"\xff" * spare)
            chunks = data[12:at] + chunk(data[at : at + 4], body) + data[stop + size % 2 : end]
            return _shows(b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WEBP" + chunks, image)
        at = stop + size % 2
    return False


def _shows(data: bytes, image: Image.Image) -> bool:
    """Return whether a WebP shows the same picture as another one."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("WEBP",)) as other:
            other.load()
            if (other.size, other.mode) != (image.size, image.mode):
                return False
            boxes = ((0, top, image.width, top + _STRIP_ROWS) for top in range(0, image.height, _STRIP_ROWS))
            return all(other.crop(box).tobytes() == image.crop(box).tobytes() for box in boxes)
    except Exception:  # noqa: BLE001 - decoders raise many types for invalid data
        return False


# ---- HEIC and AVIF ---------------------------------------------------------------------------------------------------


def _coded_extents(data: bytes) -> Iterator[bytes]:
    """Return the pieces of a file that hold coded pictures; none where its tables cannot be read."""
    try:
        meta = next((body for name, body in _boxes(data) if name == b"meta"), b"")
        tables = dict(_boxes(meta[4:]))
        coded = set(_coded_items(tables.get(b"iinf", b"")))
        places = [place for item, place in _places(tables.get(b"iloc", b"")) if item in coded]
    except (struct.error, IndexError):
        return
    for begin, size in places:
        yield data[begin : begin + size] if size else data[begin:]


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, at + 8), 16
        stop = at + size if size else len(data)
        if stop < at + head:
            return
        # The pictures themselves are not copied.
        yield name, b"" if name == b"mdat" else data[at + head : stop]
        at = stop


def _coded_items(table: bytes) -> Iterator[int]:
    """Return the numbers of the items that are coded pictures."""
    wide = table[:1] != b"\0"
    for name, entry in _boxes(table[8:] if wide else table[6:]):
        if name == b"infe" and entry[0] in (2, 3):
            layout = ">H2x4s" if entry[0] == 2 else ">I2x4s"
            item, kind = struct.unpack_from(layout, entry, 4)
            if kind in _CODED_ITEMS:
                yield item


def _places(table: bytes) -> Iterator[tuple[int, tuple[int, int]]]:
    """Return for each piece of an item in the file the item's number, and where the piece begins and its length."""
    version, sizes = table[0], struct.unpack_from(">H", table, 4)[0]
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    at = 6

    def number(size: int) -> int:
        nonlocal at
        at += size
        if at > len(table):
            raise IndexError("the table is cut short")
        return int.from_bytes(table[at - size : at], "big")

    for _ in range(number(2 if version < 2 else 4)):
        item = number(2 if version < 2 else 4)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(base_size)
        for _ in range(number(2)):
            number(index_size if version else 0)
            begin, size = base + number(offset_size), number(length_size)
            if method == 0:
                yield item, (begin, size)
