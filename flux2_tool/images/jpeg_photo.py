"""Cut a camera's JPEG without following its scan in Python, which takes two seconds for 12 megapixels.

What is behind the last bit of a scan, or before a restart, decoders skip without a word. So the picture is decoded
twice, once with the last byte of every such piece changed: where that changes the last pixels, the piece holds nothing
behind them. The bits that fill up its last byte stay as they are. Any other file is left to `jpeg_scan.py`.
Source: ITU-T T.81, annexes A.2 (order of blocks), B.1 and F.1.2.3 (byte stuffing).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from flux2_tool.images.jpeg import cut_with
from flux2_tool.images.jpeg_scan import Frame, Scan, ceil_div, check_scan
from flux2_tool.images.parts import CannotCutError

_RESTART: Final = re.compile(rb"\xff([\xd0-\xd7])")
# Of the first component, the others having one block; with them no change is seen in an MCU above or below its own.
_SAMPLINGS: Final = ((1, 1), (2, 1), (2, 2))
# So far from each other, changes to two pieces are not taken for one another.
_LEAST_MCUS: Final = 8
_MAX_PIECES: Final = 5_000
_BLOCK_PX: Final = 8
# The bits that are inverted, one after the other where nothing is seen of it: the first bit is always in use.
_MASKS: Final = (0xFF, 0x80, 0xC0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A part of a scan between restarts: where its last byte is in the coded data, and its last MCU's number."""

    last_at: int
    end: int
    last_mcu: int


@dataclass(slots=True)
class _Found:
    """The only scan of a file."""

    coded: bytes
    frame: Frame
    pieces: list[_Piece]


def cut_photo(data: bytes) -> bytes:
    """Return a baseline JPEG's picture, equal to what `cut_jpeg` returns but for the bits that fill a last byte.

    Raises:
        CannotCutError: It is no such file, is damaged, or its scan may hold more than its picture.
    """
    scans: list[_Found] = []

    def unfollowed(coded: bytes, frame: Frame, scan: Scan, restart_mcus: int) -> bytes:
        if scans or frame.is_progressive or len(scan.components) != len(frame.components):
            raise CannotCutError("it has more than one scan")
        check_scan(frame, scan)
        coded = coded.rstrip(b"\xff")  # fill bytes before a marker
        scans.append(_Found(coded, frame, list(_pieces(coded, frame, restart_mcus))))
        return coded

    clean = cut_with(unfollowed, data)
    [found] = scans
    ends = _ends(clean, found.frame, found.pieces)
    open_pieces = found.pieces
    for mask in _MASKS:
        changed = _ends(_with_changed(clean, found.coded, open_pieces, mask), found.frame, open_pieces)
        open_pieces = [piece for piece in open_pieces if changed[piece] == ends[piece]]
        if not open_pieces:
            return clean
    raise CannotCutError("its scan may hold more than its picture")


def _with_changed(data: bytes, scan: bytes, pieces: list[_Piece], mask: int) -> bytes:
    """Return a file with some bits inverted in the last byte of some pieces of its only scan."""
    coded = bytearray(scan)
    for piece in reversed(pieces):
        # Such a byte may need a stuffed zero after it, or none any more.
        changed = coded[piece.last_at] ^ mask
        coded[piece.last_at : piece.end] = b"\xff\0" if changed == 0xFF else bytes((changed,))
    return data[: len(data) - 2 - len(scan)] + bytes(coded) + data[-2:]


def _pieces(coded: bytes, frame: Frame, restart_mcus: int) -> Iterator[_Piece]:
    sampling, *others = ((one.across, one.down) for one in frame.components)
    if len(frame.components) not in (1, 3) or sampling not in _SAMPLINGS or any(one != (1, 1) for one in others):
        raise CannotCutError("its blocks are in an unusual order")
    if not others and sampling != (1, 1):
        raise CannotCutError("its blocks are in an unusual order")
    per_piece = restart_mcus or frame.mcus
    count = ceil_div(frame.mcus, per_piece)
    restarts = list(_RESTART.finditer(coded))
    if len(restarts) != count - 1 or count > _MAX_PIECES or (restarts and per_piece < _LEAST_MCUS):
        raise CannotCutError("its restarts are missing or many")
    edges = [-2, *(restart.start() for restart in restarts), len(coded)]
    for number, (before, end) in enumerate(pairwise(edges)):
        if number and coded[before + 1] != 0xD0 + (number - 1) % 8:
            raise CannotCutError("a restart is out of order")
        piece = coded[before + 2 : end]
        if not piece or piece.count(b"\xff") != piece.count(b"\xff\0"):
            raise CannotCutError("its coded data are damaged")
        last_bytes = 2 if piece.endswith(b"\xff\0") else 1
        yield _Piece(last_at=end - last_bytes, end=end, last_mcu=min(frame.mcus, (number + 1) * per_piece) - 1)


def _ends(data: bytes, frame: Frame, pieces: list[_Piece]) -> dict[_Piece, bytes]:
    """Return the pixels of the last MCU of some pieces of a file's only scan."""
    from PIL import Image

    first = frame.components[0]
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        # At half the size, colours of which every second is coded have all their pixels, and none is made up.
        shrinking = 2 if (first.across, first.down) == (2, 2) else 1
        image.draft("YCbCr", (max(1, frame.width_px // shrinking), max(1, frame.height_px // shrinking)))
        image.load()
    except MemoryError:
        raise
    except Exception as exc:  # decoders raise many types for invalid data
        raise CannotCutError("it cannot be decoded") from exc
    if image.size != (ceil_div(frame.width_px, shrinking), ceil_div(frame.height_px, shrinking)):
        raise CannotCutError("it is not decoded at the size that was asked for")
    width, height = (_BLOCK_PX * one // shrinking for one in (first.across, first.down))
    columns = ceil_div(image.size[0], width)
    ends = {}
    for piece in pieces:
        top, left = (
            number * side for number, side in zip(divmod(piece.last_mcu, columns), (height, width), strict=True)
        )
        box = (left, top, min(left + width, image.size[0]), min(top + height, image.size[1]))
        ends[piece] = image.crop(box).tobytes()
    return ends
