"""Follow the LZW codes of a GIF's frame to its last pixel, because decoders skip what comes after it.

Source: GIF89a, appendix F.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flux2_tool.images.parts import CannotCutError

_MAX_CODES: Final = 4096
_STEP_BYTES: Final = 64


@dataclass(slots=True)
class CodeBudget:
    """How many codes may still be followed in a file; a bound on time, about a quarter of a microsecond each."""

    codes: int = 24_000_000


def cut_codes(data: bytes, size: int, pixels: int, budget: CodeBudget) -> bytes:
    """Return a frame's coded data up to its last pixel, with the code for the end; unchanged if that is all.

    Args:
        data: The sub-blocks' content.
        size: The bits of a pixel, the first byte of a frame's data.
        pixels: The frame's pixels.
        budget: Lowered by the codes that are followed.

    Raises:
        CannotCutError: The codes are invalid, fewer than the pixels, or too many to be followed.
    """
    if not 1 <= size <= 8 or not pixels:
        raise CannotCutError("a frame is invalid")
    used_bits, width = _followed(data, size, pixels, budget)
    end = (1 << size) + 1
    total_bytes = (used_bits + width + 7) // 8
    tail_at = used_bits // 8
    # The last byte in use, with the code for the end and zeros behind it.
    used_here = int.from_bytes(data[tail_at : tail_at + 1], "little") & ((1 << used_bits % 8) - 1)
    tail = (used_here | end << used_bits % 8).to_bytes(total_bytes - tail_at, "little")
    return data if data[tail_at:] == tail else data[:tail_at] + tail


def _followed(data: bytes, size: int, pixels: int, budget: CodeBudget) -> tuple[int, int]:
    """Return how many bits the codes of all pixels take, and how many the next code would."""
    clear = 1 << size
    width, mask, limit = size + 1, (2 << size) - 1, 2 << size
    lengths = [1] * clear + [0, 0]
    place = waiting = bits = 0
    previous = 0
    codes = budget.codes
    while pixels > 0:
        while bits < width:
            step = data[place : place + _STEP_BYTES]
            if not step:
                raise CannotCutError("a frame has too few pixels")
            waiting |= int.from_bytes(step, "little") << bits
            place += len(step)
            bits += 8 * len(step)
        code = waiting & mask
        waiting >>= width
        bits -= width
        codes -= 1
        if code == clear:
            del lengths[clear + 2 :]
            width, mask, limit, previous = size + 1, (2 << size) - 1, 2 << size, 0
            continue
        if previous and len(lengths) < _MAX_CODES:
            lengths.append(previous + 1)
            if len(lengths) == limit and limit < _MAX_CODES:
                width, mask, limit = width + 1, 2 * limit - 1, 2 * limit
        if code == clear + 1 or code >= len(lengths):
            raise CannotCutError("a frame's codes are invalid")
        previous = lengths[code]
        pixels -= previous
        if codes < 0:
            break
    budget.codes = codes
    if codes < 0:
        raise CannotCutError("it has too many codes")
    return 8 * place - bits, width
