"""Cut a JPEG down to its picture: frame, tables that its scans use, scans up to their last bit, and colours.

Huffman-coded baseline, extended and progressive files of 8 bits are followed scan by scan (`jpeg_scan.py`); others
are to be encoded again. Sources: ITU-T T.81; JFIF 1.02; ITU-T T.872 (APP14); ICC.1, annex B.4 (APP2).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from flux2_tool.images.icc import MAX_PROFILE_BYTES, colours_of
from flux2_tool.images.jpeg_huffman import HuffmanTable
from flux2_tool.images.jpeg_scan import Component, Frame, Scan, walk
from flux2_tool.images.parts import CannotCutError

_EOI, _SOS, _DQT, _DHT, _DRI, _APP0, _APP2, _APP14 = 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xE0, 0xE2, 0xEE
_QUANTISATION: Final = 2
_FRAMES: Final = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, all with Huffman codes
_DROPPED: Final = frozenset((0xFE, *range(0xE0, 0xF0)))  # comments and application segments
_WITHOUT_LENGTH: Final = frozenset((0x01, *range(0xD0, 0xD8)))
# One byte before the marker's, so that a long run of fill bytes is read once.
_MARKER: Final = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_ICC: Final = b"ICC_PROFILE\0"
_ICC_BYTES: Final = 65535 - 2 - len(_ICC) - 2
_MAX_PROFILE_PIECES: Final = 255
_MAX_PARTS: Final = 10_000
# What following takes at most, in seconds of CPU time: for a byte of tables and scans, and for a block of a scan.
_S_PER_BYTE: Final = 0.4e-6
_S_PER_PROGRESSIVE_BYTE: Final = 2e-6
_S_PER_BLOCK: Final = 0.1e-6
_MAX_S: Final = 6.0
# Returns of a scan's coded data what its blocks need; takes the frame, the scan and the restart interval.
Follow: TypeAlias = Callable[[bytes, Frame, Scan, int], bytes]
_PHOTOSHOP_FLAGS: Final = (0, 0x4000, 0x8000, 0xC000)


@dataclass(slots=True)
class _Table:
    """One table of a segment; kept if a scan uses it before it is replaced."""

    body: bytes
    codes: HuffmanTable | None
    is_used: bool = False


@dataclass(slots=True)
class _Part:
    """A marker with its segment; for a scan also the coded data after it."""

    marker: int
    body: bytes = b""
    coded: bytes = b""
    tables: list[_Table] = field(default_factory=list)
    is_used: bool = True

    def written(self) -> bytes:
        body = self.body or b"".join(table.body for table in self.tables if table.is_used)
        if not body or not self.is_used:
            return b""
        return b"".join((bytes((0xFF, self.marker)), struct.pack(">H", len(body) + 2), body, self.coded))


@dataclass(slots=True)
class _Reader:
    """What has been read of one file."""

    follow: Follow
    parts: list[_Part] = field(default_factory=list)
    profile_pieces: list[bytes] = field(default_factory=list)
    profile_at: int = 0
    jfif: _Part | None = None
    adobe: _Part | None = None
    frame: Frame | None = None
    interval: _Part | None = None
    restart_mcus: int = 0
    tables: dict[tuple[int, int], _Table] = field(default_factory=dict)
    """By class (0 and 1 for Huffman tables of DC and AC, 2 for quantisation) and number."""
    has_scans: bool = False


def cut_jpeg(data: bytes) -> bytes:
    """Return a JPEG's picture.

    Raises:
        CannotCutError: See `only_the_picture`.
    """
    _check_cost(data)
    return cut_with(walk, data)


def cut_with(follow: Follow, data: bytes) -> bytes:
    """Return a JPEG's picture, with the scans that a function returns of the coded data in it.

    Raises:
        CannotCutError: See `only_the_picture`, or as the function does.
    """
    reader = _followed(follow, data)
    kept = [part.written() for part in reader.parts]
    kept[reader.profile_at : reader.profile_at] = _profile_segments(reader.profile_pieces)
    return b"".join((b"\xff\xd8", *kept, b"\xff\xd9"))


def check_scans(data: bytes) -> None:
    """Follow a JPEG to its end.

    Raises:
        EndsEarlyError: It is cut short.
        CannotCutError: It cannot be followed.
    """
    try:
        _check_cost(data)
        _followed(walk, data)
    except (IndexError, ValueError, struct.error) as exc:
        raise CannotCutError("a part ends before its length") from exc


def has_end(data: bytes) -> bool:
    """Return whether a JPEG's picture has the marker of its end; those of pictures in it or after it do not count."""
    try:
        for _ in _parts_of(data):
            pass
    except CannotCutError:
        return False
    return True


def _followed(follow: Follow, data: bytes) -> _Reader:
    reader = _Reader(follow=follow)
    for part in _parts_of(data):
        _read(reader, part)
    if reader.frame is None or not reader.has_scans:
        raise CannotCutError("it has no scan")
    reader.frame.check_complete()
    return reader


def _check_cost(data: bytes) -> None:
    """Raise CannotCutError if following would take so long that there would be no time left to encode it again."""
    frame: Frame | None = None
    cost_s = 0.0
    for part in _parts_of(data):
        if part.marker in _FRAMES and frame is None:
            frame = _frame_of(part.marker, part.body)
        elif part.marker == _DHT:
            cost_s += _S_PER_BYTE * len(part.body)
        elif part.marker == _SOS and frame is not None:
            cost_s += (_S_PER_PROGRESSIVE_BYTE if frame.is_progressive else _S_PER_BYTE) * len(part.coded)
            chosen = part.body[1 : 1 + 2 * part.body[0] : 2] if part.body else b""
            cost_s += _S_PER_BLOCK * sum(one.blocks for one in frame.components if one.number in chosen)
        if cost_s > _MAX_S:
            raise CannotCutError("its scans are too long to be followed")


def _parts_of(data: bytes) -> Iterator[_Part]:
    if not data.startswith(b"\xff\xd8"):
        raise CannotCutError("it does not begin with its marker")
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        at, marker = found.end(), data[found.end() - 1]
        if marker == _EOI:
            return
        if marker in _WITHOUT_LENGTH:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + length]
        if length < 2 or len(body) != length - 2:
            raise CannotCutError("a segment is cut short")
        at += length
        if marker in _DROPPED and marker not in (_APP0, _APP2, _APP14):
            continue
        part = _Part(marker, body)
        if marker == _SOS:
            after = _AFTER_SCAN.search(data, at)
            end = len(data) if after is None else after.start()
            part.coded = data[at:end]
            at = end
        yield part
    raise CannotCutError("it has no end")


def _read(reader: _Reader, part: _Part) -> None:
    marker, body = part.marker, part.body
    if len(reader.parts) > _MAX_PARTS:
        raise CannotCutError("it has too many tables and scans")
    if marker == _APP0 and body.startswith(b"JFIF\0"):
        _read_jfif(reader, body)
    elif marker == _APP2 and body.startswith(_ICC) and not reader.has_scans:
        if not reader.profile_pieces:
            reader.profile_at = len(reader.parts)
        if len(reader.profile_pieces) <= _MAX_PROFILE_PIECES:
            reader.profile_pieces.append(body[len(_ICC) :])
    elif marker == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
        _read_adobe(reader, body)
    elif marker in _DROPPED:
        return
    elif marker in (_DQT, _DHT):
        _read_tables(reader, marker, body)
    elif marker == _DRI and len(body) == 2:
        # Kept if a scan uses it before it is replaced.
        if reader.interval is None or reader.interval.is_used:
            reader.interval = _Part(marker, is_used=False)
            reader.parts.append(reader.interval)
        reader.interval.body, reader.restart_mcus = body, int.from_bytes(body, "big")
    elif marker in _FRAMES and reader.frame is None:
        reader.frame = _frame_of(marker, body)
        reader.parts.append(part)
    elif marker == _SOS:
        _read_scan(reader, part)
    else:
        raise CannotCutError(f"its part {marker:02X} cannot be followed")


# ---- colours and resolution ------------------------------------------------------------------------------------------


def _read_jfif(reader: _Reader, body: bytes) -> None:
    if len(body) < 14:
        raise CannotCutError("its JFIF segment is cut short")
    if reader.has_scans or reader.jfif is not None:
        return
    version = body[5:7] if body[5] == 1 and body[6] <= 2 else b"\1\2"
    density = body[7:12] if body[7] <= 2 else b"\0\0\1\0\1"
    # Without its small picture.
    reader.jfif = _Part(_APP0, b"JFIF\0" + version + density + b"\0\0")
    reader.parts.append(reader.jfif)


def _read_adobe(reader: _Reader, body: bytes) -> None:
    if reader.has_scans:
        return
    version, *flags = struct.unpack(">HHH", body[5:11])
    is_known = version in (100, 101) and all(flag in _PHOTOSHOP_FLAGS for flag in flags)
    values = body[5:11] if is_known else b"\0\x64\0\0\0\0"
    if reader.adobe is None:
        reader.adobe = _Part(_APP14)
        reader.parts.append(reader.adobe)
    reader.adobe.body = b"Adobe" + values + body[11:12]  # decoders obey the last one


def _profile_segments(pieces: list[bytes]) -> list[bytes]:
    """Return the segments of a colour profile, unchanged where they hold only colours; none if they are no profile."""
    if len(pieces) > _MAX_PROFILE_PIECES:
        return []
    numbered = sorted(pieces, key=lambda piece: piece[:2])
    count = len(pieces)
    if [piece[:2] for piece in numbered] != [bytes((number, count)) for number in range(1, count + 1)]:
        return []
    profile = b"".join(piece[2:] for piece in numbered)
    kept = colours_of(profile) if len(profile) <= MAX_PROFILE_BYTES else None
    if kept is None:
        return []
    if kept != profile:
        parts = [kept[at : at + _ICC_BYTES] for at in range(0, len(kept), _ICC_BYTES)]
        pieces = [bytes((number, len(parts))) + part for number, part in enumerate(parts, 1)]
    return [_Part(_APP2, _ICC + piece).written() for piece in pieces]


# ---- tables, frame and scans -----------------------------------------------------------------------------------------


def _read_tables(reader: _Reader, marker: int, body: bytes) -> None:
    at, segment = 0, _Part(marker)
    while at < len(body):
        upper, number = body[at] >> 4, body[at] & 15
        size = 17 + sum(body[at + 1 : at + 17]) if marker == _DHT else 1 + 64 * (1 + upper)
        content = body[at : at + size]
        if len(content) != size or upper > 1 or number > 3:
            raise CannotCutError("a table is invalid")
        if marker == _DQT and reader.has_scans:
            raise CannotCutError("a quantisation table follows a scan")
        codes = HuffmanTable.of(content[1:], is_ac=bool(upper)) if marker == _DHT else None
        table = _Table(content, codes)
        reader.tables[upper if marker == _DHT else _QUANTISATION, number] = table
        segment.tables.append(table)
        at += size
    reader.parts.append(segment)


def _table(reader: _Reader, table_class: int, number: int) -> _Table:
    table = reader.tables.get((table_class, number))
    if table is None:
        raise CannotCutError("a table is missing")
    table.is_used = True
    return table


def _frame_of(marker: int, body: bytes) -> Frame:
    if len(body) < 6 or len(body) != 6 + 3 * body[5] or body[0] != 8 or not 1 <= body[5] <= 4:
        raise CannotCutError("its frame is invalid")
    height_px, width_px = struct.unpack(">HH", body[1:5])
    components = [
        Component(number=number, across=sampling >> 4, down=sampling & 15, quantisation=table)
        for number, sampling, table in struct.iter_unpack("BBB", body[6:])
    ]
    frame = Frame(width_px=width_px, height_px=height_px, components=components, is_progressive=marker == 0xC2)
    frame.check()
    return frame


def _read_scan(reader: _Reader, part: _Part) -> None:
    body, frame = part.body, reader.frame
    if frame is None or not body or len(body) != 4 + 2 * body[0] or not 1 <= body[0] <= 4:
        raise CannotCutError("a scan is invalid")
    by_number = {component.number: component for component in frame.components}
    chosen = [(by_number.get(body[at]), body[at + 1]) for at in range(1, 1 + 2 * body[0], 2)]
    first, last, approximation = body[-3:]
    scan = Scan(first=first, last=last, high=approximation >> 4, low=approximation & 15)
    for component, numbers in chosen:
        if component is None:
            raise CannotCutError("a scan is invalid")
        _table(reader, _QUANTISATION, component.quantisation)
        scan.components.append(component)
        needs_dc = first == 0 and scan.high == 0
        scan.dc_tables.append(_table(reader, 0, numbers >> 4).codes if needs_dc else None)
        scan.ac_tables.append(_table(reader, 1, numbers & 15).codes if last else None)
    if reader.interval is not None:
        reader.interval.is_used = True
    part.coded = reader.follow(part.coded, frame, scan, reader.restart_mcus)
    reader.has_scans = True
    reader.parts.append(part)
