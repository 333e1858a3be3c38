"""Read what a task cost from a response, in any of the known fields. Pure; `contract.py` names them."""

from __future__ import annotations

from typing import Any, Final

from flux2_tool.runapi import contract
from flux2_tool.runapi.fields import dig

# A cost above this is an error in the response and ignored.
MAX_COST_USD: Final = 10_000.0


def read_cost_usd(body: Any) -> float | None:
    """Return the billed cost in US dollars, or None where the response names none."""
    for fields, divisor in (
        (contract.COST_USD_FIELDS, 1.0),
        (contract.COST_CENTS_FIELDS, 100.0),
        (contract.COST_MICRO_CENTS_FIELDS, 1e8),
    ):
        for path in fields:
            value = dig(body, path)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_COST_USD * divisor:
                return round(value / divisor, 6)
    return None


def was_refunded(body: Any) -> bool:
    """Return whether the response says when the charge was refunded."""
    return any(dig(body, path) for path in contract.REFUND_FIELDS)
