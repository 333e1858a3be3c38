"""Price schedules and quotes, which need no key.

The layout of `billing_config` is only known as `{key|keys, overrides, matrix}`: pro uses the first form here and
flex the second, so that a reader of either is tried.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from flux2_tool.sandbox.catalog import ACTIONS, MODELS, PRICED_AS, Action, Tier


def schedules(wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    """The schedules that match the filters service, action and model."""
    return [
        _schedule(action, model, tier)
        for action in ACTIONS
        for model, tier in MODELS[action].items()
        if wanted.get("action", action) == action
        and wanted.get("model", model) == model
        and wanted.get("service", PRICED_AS[tier.service][0]) in PRICED_AS[tier.service]
    ]


def etag(found: list[dict[str, Any]]) -> str:
    """Changes when a price does."""
    return f'W/"{hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:32]}"'


def quote(asked: Mapping[str, Any]) -> tuple[dict[str, Any] | None, dict[str, list[str]]]:
    """A quote without its date, or None and what is wrong with the question, by field."""
    problems: dict[str, list[str]] = {}
    names = {spelling: service for service, spellings in PRICED_AS.items() for spelling in spellings}
    service = names.get(str(asked.get("service")))
    if service is None:
        problems["service"] = ["is not known"]
    action: Action | None = next((name for name in ACTIONS if name == asked.get("action")), None)
    if action is None:
        problems["action"] = ["is not known"]
    params = asked.get("params") or {}
    if not isinstance(params, dict):
        problems["params"] = ["must be an object"]
        params = {}
    tier = MODELS[action].get(str(asked.get("model") or params.get("model"))) if action else None
    tier = tier if tier is None or tier.service == service else None
    resolution = params.get("output_resolution", "1k")
    if action and tier is None:
        problems["model"] = ["is not known"]
    elif tier and resolution not in tier.price_cents:
        problems["params"] = [f"output_resolution must be one of: {', '.join(tier.price_cents)}"]
    elif tier and "output_resolution" in params and "output_resolution" in tier.refuses:
        problems["params"] = ["output_resolution is not supported by this model"]
    if problems or tier is None:
        return None, problems
    found = {
        "service": asked["service"],
        "action": action,
        "model": asked.get("model") or params["model"],
        "pricing_status": "available",
        "currency": "USD",
        "reservation_amount_cents": tier.price_cents[resolution],
        "estimate_basis": "exact",
    }
    return found, {}


def _schedule(action: Action, model: str, tier: Tier) -> dict[str, Any]:
    base_cents = tier.price_cents["1k"]
    config: dict[str, Any] | None = None
    if tier.name == "pro":
        config = {"key": "output_resolution", "overrides": {"2k": tier.price_cents["2k"]}}
    elif tier.name == "flex":
        config = {"keys": ["output_resolution"], "matrix": dict(tier.price_cents)}
    return {
        "service": PRICED_AS[tier.service][0],
        "action": action,
        "model": model,
        "pricing_status": "available",
        "catalog_status": "active",
        "currency": "USD",
        "billing_unit": "per_call",
        "billing_strategy": "flat",
        "unit_price_cents": base_cents,
        "billing_config": config,
    }
