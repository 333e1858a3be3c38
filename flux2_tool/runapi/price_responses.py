"""Parse RunAPI's prices: a quote, or a schedule whose `billing_config` is understood.

Pure. An invalid price (negative, zero, not a number, another currency, unit, model or format) is ignored: the caller
tries the next source. Source: the SDK's `pricing.py`; `billing_config` has the format of the vendor's published price
list, `{"key", "overrides"}` or `{"keys", "matrix"}`, both in cents by the value of a parameter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flux2_tool.runapi import contract
from flux2_tool.runapi.image_links import read_instant
from flux2_tool.runapi.services import current_action, current_model, service_of

# A price above this for one picture is an error in the response and ignored.
MAX_PRICE_USD: Final = 1000.0
MAX_SCHEDULES: Final = 500

_BILLING_MEMBERS: Final = frozenset({"key", "keys", "overrides", "matrix"})


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedPrice:
    """A price that the service quotes; `as_of` is its date, None when it names none."""

    usd: float
    as_of: str | None


def read_quote(body: Any, *, action: str, model: str) -> QuotedPrice | None:
    """Return the price in a quote, or None when it is invalid or for another action or model."""
    quote = body.get("price_quote", body) if isinstance(body, Mapping) else None
    if not isinstance(quote, Mapping) or not _is_valid(quote) or not _is_for(quote, action, model):
        return None
    usd = usd_of_cents(quote.get("reservation_amount_cents"))
    return None if usd is None else QuotedPrice(usd=usd, as_of=read_instant(quote.get("as_of")))


def read_schedules(
    body: Any, *, action: str, model: str, resolutions: tuple[str, ...]
) -> tuple[dict[str, float], str | None]:
    """Return the valid prices of a model in USD by resolution, and the schedule's date."""
    if not isinstance(body, Mapping) or not isinstance(body.get("price_schedules"), list):
        return {}, None
    found: dict[str, float] = {}
    for row in body["price_schedules"][:MAX_SCHEDULES]:
        if not isinstance(row, Mapping) or row.get("model") is None or row.get("action") is None:
            continue
        if not _is_valid(row) or not _is_for(row, action, model) or not _is_per_image(row.get("billing_unit")):
            continue
        for resolution in resolutions:
            usd = usd_of_cents(_cents(row, {"output_resolution": resolution, "output_count": "1"}))
            if usd is not None:
                found.setdefault(resolution, usd)
    return found, read_instant(body.get("as_of"))


def usd_of_cents(value: Any) -> float | None:
    """Return cents as dollars, or None for an invalid price; never zero."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 < value <= MAX_PRICE_USD * 100 or not math.isfinite(value):
        return None
    return round(value / 100, 6) or None


def _cents(row: Mapping[str, Any], params: Mapping[str, str]) -> Any:
    config = row.get("billing_config")
    if config is None or config == {}:
        return row.get("unit_price_cents")
    if not isinstance(config, Mapping) or not set(config) <= _BILLING_MEMBERS:
        return None
    key, keys = config.get("key"), config.get("keys")
    if isinstance(key, str) and keys is None and "matrix" not in config:
        overrides = config.get("overrides")
        if key not in params or not isinstance(overrides, Mapping):
            return None
        # A value without an override costs the unit price.
        return overrides.get(params[key], row.get("unit_price_cents"))
    if isinstance(keys, list) and keys and key is None and "overrides" not in config:
        return _in_matrix(config.get("matrix"), keys, params)
    return None


def _in_matrix(matrix: Any, keys: list[Any], params: Mapping[str, str]) -> Any:
    for key in keys:
        if not isinstance(key, str) or key not in params or not isinstance(matrix, Mapping):
            return None
        matrix = matrix.get(params[key], matrix.get("any"))
    return matrix


def _is_valid(offer: Mapping[str, Any]) -> bool:
    return _word(offer.get("pricing_status")) in contract.PRICED_STATUSES and _word(offer.get("currency")) == "usd"


def _is_for(offer: Mapping[str, Any], action: str, model: str) -> bool:
    """Whether an offer is for this action and model; a field that is missing counts as equal."""
    named = offer.get("model"), offer.get("action"), offer.get("service")
    if any(not isinstance(name, str | None) for name in named):
        return False
    return (
        (named[0] is None or current_model(named[0]) == model)
        and (named[1] is None or current_action(named[1]) == action)
        and named[2] in (None, *service_of(model).priced_as)
    )


def _is_per_image(unit: Any) -> bool:
    return unit is None or _word(unit) in contract.IMAGE_UNITS


def _word(value: Any) -> str:
    return value.strip().lower() if isinstance(value, str) else ""
