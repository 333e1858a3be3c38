"""The models the sandbox offers: what each accepts, costs and takes, and how large its pictures are.

Parameters and prices of pro, flex and klein are the service's; max's price, all durations and pixel sizes are made up
to be believable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

Action = Literal["text_to_image", "remix_image"]
ACTIONS: tuple[Action, ...] = ("text_to_image", "remix_image")

# The part of the paths that names a service, and how questions for prices may spell it.
Service = Literal["flux_2", "flux"]
PRICED_AS: Mapping[Service, tuple[str, ...]] = {"flux_2": ("flux-2", "flux_2"), "flux": ("flux",)}

RATIOS = ("1:1", "4:3", "3:4", "16:9", "9:16", "3:2", "2:3")
PROMPT_CHARS = (3, 5000)

_SIZES_1K_PX = {
    "1:1": (1024, 1024),
    "4:3": (1152, 864),
    "3:4": (864, 1152),
    "16:9": (1360, 768),
    "9:16": (768, 1360),
    "3:2": (1248, 832),
    "2:3": (832, 1248),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One of pro, flex, max and klein.

    `max_sources` 0 stands for a tier that makes pictures from text alone. `refuses` are parameters of others.
    """

    name: str
    service: Service = "flux_2"
    price_cents: Mapping[str, int]
    median_s: float
    sigma: float
    max_sources: int
    needs_ratio: bool = False
    refuses: frozenset[str] = frozenset({"output_count"})


TIERS = {
    "pro": Tier(name="pro", price_cents={"1k": 5, "2k": 7}, median_s=6.0, sigma=0.2, max_sources=8),
    "flex": Tier(name="flex", price_cents={"1k": 14, "2k": 24}, median_s=10.0, sigma=0.25, max_sources=8),
    "max": Tier(
        name="max",
        price_cents={"1k": 10},
        median_s=14.0,
        sigma=0.25,
        max_sources=1,
        needs_ratio=True,
        refuses=frozenset({"enable_safety_checker"}),
    ),
    "klein": Tier(
        name="klein",
        service="flux",
        price_cents={"1k": 3},
        median_s=3.0,
        sigma=0.2,
        max_sources=0,
        refuses=frozenset({"output_resolution", "enable_safety_checker"}),
    ),
}


def _slug(action: Action, tier: Tier) -> str:
    return f"flux-2-{tier.name}" if tier.service == "flux" else f"flux-2-{tier.name}-{action.replace('_', '-')}"


MODELS: dict[Action, dict[str, Tier]] = {
    action: {_slug(action, tier): tier for tier in TIERS.values() if action == "text_to_image" or tier.max_sources}
    for action in ACTIONS
}


def price_cents(action: Action, arguments: Mapping[str, Any]) -> int:
    """What a valid request costs when it completes."""
    return MODELS[action][arguments["model"]].price_cents[arguments.get("output_resolution", "1k")]


def median_duration_s(tier: Tier, resolution: str) -> float:
    """The median time a picture takes."""
    return tier.median_s * (1.5 if resolution == "2k" else 1.0)


def size_px(ratio: str, resolution: str) -> tuple[int, int]:
    """Width and height: about 1 megapixel at 1k and 4 at 2k, multiples of 16."""
    width_px, height_px = _SIZES_1K_PX.get(ratio, _SIZES_1K_PX["1:1"])
    scale = 2 if resolution == "2k" else 1
    return width_px * scale, height_px * scale


def nearest_ratio(width_px: int, height_px: int) -> str:
    """The offered ratio closest to a picture's, for `auto`."""
    wanted = width_px / height_px
    return min(RATIOS, key=lambda ratio: abs(wanted - _SIZES_1K_PX[ratio][0] / _SIZES_1K_PX[ratio][1]))


def problems(service: Service, action: Action, body: Mapping[str, Any]) -> dict[str, list[str]]:
    """Every complaint of the service about a create body, by field; empty when it is valid."""
    found: dict[str, list[str]] = {}
    tier = _check_model(service, action, body, found)
    _check_prompt(body, found)
    _check_ratio(action, body, tier, found)
    _check_resolution(body, tier, found)
    _check_switches(body, tier, found)
    if action == "remix_image":
        _check_sources(body, tier, found)
    allowed = {"model", "prompt", "aspect_ratio", "output_resolution", "callback_url"}
    allowed |= {"enable_safety_checker", "output_count"}
    allowed |= {"source_image_urls"} if action == "remix_image" else set()
    for name in body:
        if name not in allowed:
            found.setdefault(name, []).append("is not a known parameter")
    return found


def is_web_url(value: object) -> bool:
    """Whether a value is an absolute http or https URL."""
    if not isinstance(value, str) or re.search(r"\s", value):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _check_model(service: Service, action: Action, body: Mapping[str, Any], found: dict[str, list[str]]) -> Tier | None:
    model = body.get("model")
    offered = {slug: tier for slug, tier in MODELS[action].items() if tier.service == service}
    if model is None:
        found["model"] = ["is required"]
    elif not isinstance(model, str) or model not in offered:
        found["model"] = [f"must be one of: {', '.join(offered)}"]
    else:
        return offered[model]
    return None


def _check_prompt(body: Mapping[str, Any], found: dict[str, list[str]]) -> None:
    prompt = body.get("prompt")
    low, high = PROMPT_CHARS
    if prompt is None:
        found["prompt"] = ["is required"]
    elif not isinstance(prompt, str):
        found["prompt"] = ["must be a string"]
    elif len(prompt) < low:
        found["prompt"] = [f"is too short (minimum is {low} characters)"]
    elif len(prompt) > high:
        found["prompt"] = [f"is too long (maximum is {high} characters)"]


def _check_ratio(action: Action, body: Mapping[str, Any], tier: Tier | None, found: dict[str, list[str]]) -> None:
    strict = tier is not None and tier.needs_ratio
    allowed = RATIOS + (("auto",) if action == "remix_image" and not strict else ())
    if "aspect_ratio" not in body:
        if strict:
            found["aspect_ratio"] = ["is required"]
    elif body["aspect_ratio"] not in allowed:
        found["aspect_ratio"] = [f"must be one of: {', '.join(allowed)}"]


def _check_resolution(body: Mapping[str, Any], tier: Tier | None, found: dict[str, list[str]]) -> None:
    allowed = tuple(tier.price_cents) if tier else ("1k", "2k")
    if tier is not None and "output_resolution" in body and "output_resolution" in tier.refuses:
        found["output_resolution"] = ["is not supported by this model"]
    elif "output_resolution" in body and body["output_resolution"] not in allowed:
        found["output_resolution"] = [f"must be one of: {', '.join(allowed)}"]


def _check_switches(body: Mapping[str, Any], tier: Tier | None, found: dict[str, list[str]]) -> None:
    if "enable_safety_checker" in body:
        if tier is not None and "enable_safety_checker" in tier.refuses:
            found["enable_safety_checker"] = ["is not supported by this model"]
        elif not isinstance(body["enable_safety_checker"], bool):
            found["enable_safety_checker"] = ["must be a boolean"]
    if "output_count" in body:
        if tier is not None and "output_count" in tier.refuses:
            found["output_count"] = ["is not supported by this model"]
        elif isinstance(body["output_count"], bool) or body["output_count"] != 1:
            found["output_count"] = ["must be 1"]
    if "callback_url" in body and not is_web_url(body["callback_url"]):
        found["callback_url"] = ["must be a public http(s) URL"]


def _check_sources(body: Mapping[str, Any], tier: Tier | None, found: dict[str, list[str]]) -> None:
    sources = body.get("source_image_urls")
    most = tier.max_sources if tier else 8
    if sources is None:
        found["source_image_urls"] = ["is required"]
    elif not isinstance(sources, list):
        found["source_image_urls"] = ["must be an array"]
    elif not 1 <= len(sources) <= most:
        found["source_image_urls"] = [f"must have {'exactly 1 item' if most == 1 else f'1 to {most} items'}"]
    elif not all(is_web_url(source) for source in sources):
        found["source_image_urls"] = ["must be public http(s) URLs"]
