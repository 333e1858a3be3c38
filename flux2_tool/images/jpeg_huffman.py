"""Read a JPEG's Huffman codes several at a time: what the next 16 bits mean is worked out once and remembered.

Only lengths matter here: how many bits belong to a block, not which coefficients they are. Source: ITU-T T.81,
annexes C and F.2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flux2_tool.images.parts import CannotCutError

_MAX_SIZE: Final = {False: 11, True: 10}  # of a DC difference and of an AC coefficient with samples of 8 bits


@dataclass(frozen=True, slots=True)
class HuffmanTable:
    """One table: for each length from 1 to 16, the first code, their number, and the place of its first value."""

    rows: tuple[tuple[int, int, int], ...]
    values: bytes

    @classmethod
    def of(cls, body: bytes, *, is_ac: bool) -> HuffmanTable:
        """Return the table of 16 counts and the values.

        Raises:
            CannotCutError: The codes or the values are invalid.
        """
        code, at, rows, values = 0, 0, [], body[16:]
        for bits, count in enumerate(body[:16], 1):
            rows.append((code, count, at))
            code, at = code + count, at + count
            if code > 1 << bits:
                raise CannotCutError("a table has too many codes")
            code <<= 1
        if len(set(values)) != len(values) or any(value & 15 > _MAX_SIZE[is_ac] for value in values):
            raise CannotCutError("a table has values without a meaning")
        if not is_ac and any(value > 15 for value in values):
            raise CannotCutError("a table has values without a meaning")
        return cls(tuple(rows), values)

    def read(self, window: int, known_bits: int = 16) -> tuple[int, int] | None:
        """Return the length and value of the code that 16 bits begin with; None if it needs more than are known."""
        for bits, (first, count, at) in enumerate(self.rows[:known_bits], 1):
            offset = (window >> (16 - bits)) - first
            if 0 <= offset < count:
                return bits, self.values[at + offset]
        return None

    def read_whole(self, window: int) -> tuple[int, int]:
        """Return the same, for 16 known bits.

        Raises:
            CannotCutError: No code is like that.
        """
        found = self.read(window)
        if found is None:
            raise CannotCutError("its coded data are damaged")
        return found


class Symbols(dict[int, tuple[int, int, int]]):
    """By the next 16 bits: the length of one code, and its value's upper and lower half."""

    def __init__(self, table: HuffmanTable) -> None:
        super().__init__()
        self._table = table

    def __missing__(self, window: int) -> tuple[int, int, int]:
        bits, value = self._table.read_whole(window)
        self[window] = found = (bits, value >> 4, value & 15)
        return found


class BlockSteps(dict[int, tuple[int, int, bool]]):
    """By the next 16 bits: how many bits as many coefficients of a block take as are known, and whether it ends.

    The second number is how far they lead in the block. Only the first code's own bits may lie outside the 16.
    """

    def __init__(self, ac: HuffmanTable, dc: HuffmanTable | None = None, *, is_single: bool = False) -> None:
        super().__init__()
        self._ac, self._dc, self._is_single = ac, dc, is_single

    def __missing__(self, window: int) -> tuple[int, int, bool]:
        used = at = 0
        ended = False
        if self._dc is not None:
            bits, size = self._dc.read_whole(window)
            used, at = bits + size, 1
        while not ended and used < 16:
            found = self._ac.read(window << used & 0xFFFF, 16 - used)
            if found is None and not used:
                raise CannotCutError("its coded data are damaged")
            if found is None:
                break
            bits, value = found
            run, size = value >> 4, value & 15
            if self._dc is not None and at + run + 1 >= 64:
                break
            ended = size == 0 and run != 15
            used += bits + size
            at += 0 if ended else run + 1
            if self._is_single:
                break
        self[window] = step = (used, at, ended)
        return step
