"""Read the integers in JSON that others wrote; pass `json_number` to `json.loads` as `parse_int`. Pure.

Python's own parser refuses the whole text for one number of thousands of digits, also where nobody reads that number.
"""

from __future__ import annotations

from typing import Final

# What Python turns into an integer and back without complaint, whatever its own limit is set to.
_MAX_DIGITS: Final = 600


def json_number(digits: str) -> int | float:
    """Return a JSON integer; one of very many digits as a float, which may be infinite."""
    return float(digits) if len(digits) > _MAX_DIGITS else int(digits)
