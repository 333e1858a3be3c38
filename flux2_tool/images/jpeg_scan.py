"""Follow a JPEG's scan to its last bit, in Python, because decoders skip what comes after it without a word.

Source: ITU-T T.81, annexes A.2 (order of blocks), F.2 (sequential) and G.1 (progressive).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from flux2_tool.images.jpeg_huffman import BlockSteps, HuffmanTable, Symbols
from flux2_tool.images.parts import CannotCutError, EndsEarlyError

_MAX_BLOCKS: Final = 40_000_000  # of all scans together: as many as 64 megapixels have in ten scans
_RESTART: Final = re.compile(rb"\xff([\xd0-\xd7])")
_BITS: Final = struct.Struct(">I").unpack_from
_SPARE: Final = bytes(8)  # so that 16 bits can be read at the end


def ceil_div(number: int, divisor: int) -> int:
    """Return the quotient, rounded up."""
    return (number + divisor - 1) // divisor


@dataclass(slots=True, kw_only=True)
class Component:
    """One colour component of a frame, and which of its coefficients have been coded down to which bit."""

    number: int
    across: int
    down: int
    quantisation: int
    low_bits: dict[int, int] = field(default_factory=dict)
    blocks: int = 0
    nonzero: list[int] = field(default_factory=list)
    """For each block of a progressive frame, one bit for each coefficient that is not zero."""


@dataclass(slots=True, kw_only=True)
class Frame:
    """A picture's size and components."""

    width_px: int
    height_px: int
    components: list[Component]
    is_progressive: bool
    mcus: int = 0
    visited_blocks: int = 0

    def check(self) -> None:
        """Check the frame and count its blocks.

        Raises:
            CannotCutError: It is invalid.
        """
        parts = self.components
        if len({part.number for part in parts}) != len(parts) or not self.width_px * self.height_px:
            raise CannotCutError("its frame is invalid")
        if not all(1 <= part.across <= 4 and 1 <= part.down <= 4 and part.quantisation <= 3 for part in parts):
            raise CannotCutError("its frame is invalid")
        across, down = max(part.across for part in parts), max(part.down for part in parts)
        self.mcus = ceil_div(self.width_px, 8 * across) * ceil_div(self.height_px, 8 * down)
        for part in parts:
            columns = ceil_div(ceil_div(self.width_px * part.across, across), 8)
            rows = ceil_div(ceil_div(self.height_px * part.down, down), 8)
            part.blocks = columns * rows

    def check_complete(self) -> None:
        """Raise CannotCutError if a component has no scan."""
        if not all(0 in part.low_bits for part in self.components):
            raise CannotCutError("a component has no scan")


@dataclass(slots=True, kw_only=True)
class Scan:
    """A scan: its components with their tables, the coefficients it codes, and from which bit to which."""

    first: int
    last: int
    high: int
    low: int
    components: list[Component] = field(default_factory=list)
    dc_tables: list[HuffmanTable | None] = field(default_factory=list)
    ac_tables: list[HuffmanTable | None] = field(default_factory=list)


def walk(coded: bytes, frame: Frame, scan: Scan, restart_mcus: int) -> bytes:
    """Return a scan's coded data without any byte that its blocks do not need.

    Raises:
        CannotCutError: It is damaged, or codes again what an earlier scan has coded.
    """
    check_scan(frame, scan)
    is_alone = len(scan.components) == 1
    units = scan.components[0].blocks if is_alone else frame.mcus
    frame.visited_blocks += sum(part.blocks for part in scan.components)
    if frame.visited_blocks > _MAX_BLOCKS:
        raise CannotCutError("it has too many scans")
    walker = _walker(frame, scan, is_alone=is_alone)
    pieces = _RESTART.split(coded)
    output: list[bytes] = []
    per_piece = restart_mcus or units
    for number, begin in enumerate(range(0, units, per_piece)):
        if 2 * number >= len(pieces):
            raise EndsEarlyError("a restart is missing")
        if number:
            if pieces[2 * number - 1] != bytes((0xD0 + (number - 1) % 8,)):
                raise CannotCutError("a restart is out of order")
            output += (b"\xff", pieces[2 * number - 1])
        output.append(_cut_piece(pieces[2 * number], walker, begin, min(units, begin + per_piece)))
    return b"".join(output)


def check_scan(frame: Frame, scan: Scan) -> None:
    """Check that a scan codes something new: each bit of each coefficient once.

    Raises:
        CannotCutError: It does not.
    """
    if not frame.is_progressive:
        is_valid = (scan.first, scan.last, scan.high, scan.low) == (0, 63, 0, 0)
    elif scan.first == 0:
        is_valid = scan.last == 0
    else:
        is_valid = scan.first <= scan.last <= 63 and len(scan.components) == 1
    if not is_valid or (scan.high and scan.low != scan.high - 1) or scan.low > 13:
        raise CannotCutError("a scan is invalid")
    if len({part.number for part in scan.components}) != len(scan.components):
        raise CannotCutError("a scan is invalid")
    for part in scan.components:
        for coefficient in range(scan.first, scan.last + 1):
            # The first scan of a coefficient has no higher bits before it.
            if part.low_bits.get(coefficient, 0) != scan.high or (not scan.high and coefficient in part.low_bits):
                raise CannotCutError("a scan repeats another")
            part.low_bits[coefficient] = scan.low


def _cut_piece(piece: bytes, walker: _Walker, begin: int, end: int) -> bytes:
    piece = piece.rstrip(b"\xff")  # fill bytes before a marker
    if piece.count(b"\xff") != piece.count(b"\xff\0"):
        raise CannotCutError("its coded data are damaged")
    data = piece.replace(b"\xff\0", b"\xff")
    try:
        used_bits = walker.walk(data + _SPARE, begin, end)
    except struct.error as exc:
        raise EndsEarlyError("its coded data end early") from exc
    used_bytes, padding = (used_bits + 7) // 8, -used_bits % 8
    if used_bytes > len(data):
        raise EndsEarlyError("its coded data end early")
    kept = data[:used_bytes]
    filler = (1 << padding) - 1
    if padding and kept[-1] & filler not in (0, filler):
        kept = kept[:-1] + bytes((kept[-1] | filler,))
    return kept.replace(b"\xff", b"\xff\0")


# ---- how each kind of scan is followed -------------------------------------------------------------------------------


class _Walker:
    """Follows the coded data of one kind of scan."""

    def walk(self, data: bytes, begin: int, end: int) -> int:
        """Return the number of bits that the units from `begin` to `end` take; a unit is an MCU, or a block."""
        raise NotImplementedError


def _walker(frame: Frame, scan: Scan, *, is_alone: bool) -> _Walker:
    counts = [1 if is_alone else part.across * part.down for part in scan.components]
    if frame.is_progressive and scan.first == 0:
        if scan.high:
            return _DcBits(sum(counts))
        tables = [Symbols(table) for table in _present(scan.dc_tables)]
        return _DcFirst([table for table, count in zip(tables, counts, strict=True) for _ in range(count)])
    if frame.is_progressive:
        part = scan.components[0]
        part.nonzero = part.nonzero or [0] * part.blocks
        (table,) = _present(scan.ac_tables)
        return (_AcBits if scan.high else _AcFirst)(Symbols(table), part.nonzero, scan.first, scan.last)
    steps = [
        (BlockSteps(ac, dc), BlockSteps(ac), BlockSteps(ac, is_single=True))
        for dc, ac in zip(_present(scan.dc_tables), _present(scan.ac_tables), strict=True)
    ]
    return _Sequential([one for one, count in zip(steps, counts, strict=True) for _ in range(count)])


def _present(tables: list[HuffmanTable | None]) -> Iterator[HuffmanTable]:
    return (table for table in tables if table is not None)


class _Sequential(_Walker):
    def __init__(self, blocks: list[tuple[BlockSteps, BlockSteps, BlockSteps]]) -> None:
        self._blocks = blocks

    def walk(self, data: bytes, begin: int, end: int) -> int:
        bits_of, at = _BITS, 0
        for _ in range(begin, end):
            for first, several, single in self._blocks:
                bits, coefficient, ended = first[bits_of(data, at >> 3)[0] >> (16 - (at & 7)) & 0xFFFF]
                at += bits
                while not ended:
                    window = bits_of(data, at >> 3)[0] >> (16 - (at & 7)) & 0xFFFF
                    bits, steps, ended = several[window]
                    if coefficient + steps >= 64:
                        # The block may end within these.
                        bits, steps, ended = single[window]
                        ended |= coefficient + steps >= 64
                    at += bits
                    coefficient += steps
                if coefficient > 64:
                    raise CannotCutError("a block has too many coefficients")
        return at


class _DcFirst(_Walker):
    def __init__(self, blocks: list[Symbols]) -> None:
        self._blocks = blocks

    def walk(self, data: bytes, begin: int, end: int) -> int:
        at = 0
        for _ in range(begin, end):
            for symbols in self._blocks:
                bits, _, size = symbols[_BITS(data, at >> 3)[0] >> (16 - (at & 7)) & 0xFFFF]
                at += bits + size
        return at


class _DcBits(_Walker):
    def __init__(self, blocks: int) -> None:
        self._blocks = blocks

    def walk(self, data: bytes, begin: int, end: int) -> int:
        return (end - begin) * self._blocks


class _AcFirst(_Walker):
    def __init__(self, symbols: Symbols, nonzero: list[int], first: int, last: int) -> None:
        self._symbols, self._nonzero, self._first, self._last = symbols, nonzero, first, last

    def walk(self, data: bytes, begin: int, end: int) -> int:
        symbols, last, at, block = self._symbols, self._last, 0, begin
        while block < end:
            coefficient, found = self._first, 0
            ended_blocks = 1
            while coefficient <= last:
                bits, run, size = symbols[_BITS(data, at >> 3)[0] >> (16 - (at & 7)) & 0xFFFF]
                at += bits + size
                if size == 0 and run < 15:
                    ended_blocks, at = _run_of_ends(data, at, run)
                    break
                coefficient += run + 1
                if size:
                    found |= 1 << (coefficient - 1)
            if coefficient > last + 1 or ended_blocks > end - block:
                raise CannotCutError("a block has too many coefficients")
            self._nonzero[block] |= found
            block += ended_blocks
        return at


class _AcBits(_Walker):
    def __init__(self, symbols: Symbols, nonzero: list[int], first: int, last: int) -> None:
        self._symbols, self._nonzero, self._first, self._last = symbols, nonzero, first, last

    def walk(self, data: bytes, begin: int, end: int) -> int:
        nonzero, band_end, at, ended_blocks = self._nonzero, (2 << self._last) - 1, 0, 0
        for block in range(begin, end):
            coefficient = self._first
            if not ended_blocks:
                coefficient, at, ended_blocks = self._coded(data, at, block)
            if ended_blocks:
                at += ((nonzero[block] & band_end) >> coefficient).bit_count()
                ended_blocks -= 1
        if ended_blocks:
            raise CannotCutError("a run of ends has no blocks")
        return at

    def _coded(self, data: bytes, at: int, block: int) -> tuple[int, int, int]:
        """Follow one block's codes; return the next coefficient, the place, and for how many blocks it is the end."""
        coefficient, last, known, new = self._first, self._last, self._nonzero[block], 0
        ended_blocks = 0
        while coefficient <= last:
            bits, run, size = self._symbols[_BITS(data, at >> 3)[0] >> (16 - (at & 7)) & 0xFFFF]
            at += bits + size
            if size == 0 and run < 15:
                ended_blocks, at = _run_of_ends(data, at, run)
                break
            if size > 1:
                raise CannotCutError("its coded data are damaged")
            # One bit for each known coefficient on the way to the place after `run` zeros.
            while coefficient <= last:
                if known >> coefficient & 1:
                    at += 1
                elif run:
                    run -= 1
                else:
                    break
                coefficient += 1
            if size:
                if coefficient > last:
                    raise CannotCutError("a block has too many coefficients")
                new |= 1 << coefficient
            coefficient += 1
        self._nonzero[block] = known | new
        return coefficient, at, ended_blocks


def _run_of_ends(data: bytes, at: int, size: int) -> tuple[int, int]:
    """Return for how many blocks a code is the end, and the place after its own bits."""
    more = (_BITS(data, at >> 3)[0] >> (32 - (at & 7) - size)) & ((1 << size) - 1)
    return (1 << size) + more, at + size
