"""Format a wrong value safely, describe what a JSON Schema allows, and find the nearest allowed value.

Pure functions, shared by the checks of arguments and of settings. A formatted value is short, printable, and never
contains the query or the user part of a URL, which may hold secrets: "***" and "…" stand for them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from flux2_tool._characters import is_printable
from flux2_tool._net import split_url

MAX_SHOWN_CHARS = 60
MAX_COMPARED_CHARS = 200

_RATIO = re.compile(r"^\s*(\d{1,5}(?:\.\d{1,4})?)\s*[:：x×*/]\s*(\d{1,5}(?:\.\d{1,4})?)\s*$", re.IGNORECASE)
_KILO = re.compile(r"^\s*(\d{1,5})\s*(k|px|p)?\s*$", re.IGNORECASE)
_USER_PART = re.compile(r"//[^/?#]*@")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,9}://\S*\s*", re.IGNORECASE)
NAMED_RATIOS = {"square": "1:1", "landscape": "16:9", "wide": "16:9", "portrait": "9:16", "tall": "9:16"}
TYPE_WORDS = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def shown(value: Any) -> str:
    """Return a value formatted for a message: JSON-like, printable, at most about 60 characters."""
    if isinstance(value, str):
        return f'"{shown_text(value)}"'
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 200 else f"a number of {value.bit_length()} bits"
    if isinstance(value, float):
        return str(value)
    return kind_of(value)


def shown_text(text: str, limit: int = MAX_SHOWN_CHARS) -> str:
    """Return text without a URL's secrets, cut to the limit, with unprintable characters escaped."""
    text = _without_url_secrets(text) if "://" in text[:40] else text
    if len(text) > limit:
        text = f"{text[: limit - 1]}…"
    return "".join(c if is_printable(c) else f"\\u{ord(c):04x}" for c in text)


def shown_address(text: str) -> str:
    """Return the value of a URL setting formatted for a message; only its kind unless it looks like a URL.

    Key and base URL are set next to each other: if they are swapped, the error must not show the key.
    """
    return shown(text) if _ADDRESS.fullmatch(text) else f"{kind_of(text)} (is it the key?)"


def _without_url_secrets(text: str) -> str:
    """Return a URL, also one in another such as blob:https://…, with "***" for its user part and "…" for its query."""
    try:
        split_url(text)
    except ValueError:
        return f"{text.partition('://')[0]}://…"
    place, _, query = text.partition("#")[0].partition("?")
    return _USER_PART.sub("//***@", place) + ("?…" if query else "")


def kind_of(value: Any) -> str:
    """Return the kind of a value in JSON terms."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {shown(value)}"
    if isinstance(value, str):
        return f"text of {len(value)} {_characters(len(value))}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return "an object"
    return f"a {type(value).__name__}"


def allowed(schema: Mapping[str, Any]) -> str:
    """Return what a property's schema allows, worded to follow "must be"."""
    if "enum" in schema:
        return f"one of {', '.join(str(item) for item in schema['enum'])}"
    if schema.get("type") == "array":
        return f"a list of {_span(schema, 'minItems', 'maxItems')}{_items_of(schema)}".rstrip()
    if "x-allowed" in schema:
        return str(schema["x-allowed"])
    if schema.get("type") == "string":
        span = _span(schema, "minLength", "maxLength")
        most = schema.get("maxLength", schema.get("minLength"))
        return f"text of {span}{_characters(most)}" if span else "text"
    if schema.get("type") in ("number", "integer"):
        return f"{TYPE_WORDS[schema['type']]} {_bounds(schema)}".rstrip()
    return TYPE_WORDS.get(str(schema.get("type")), "something else")


def _characters(count: Any) -> str:
    return "character" if count == 1 else "characters"


def _items_of(schema: Mapping[str, Any]) -> str:
    items = schema.get("items", {})
    if "enum" in items:
        return f"{', '.join(str(item) for item in items['enum'])}"
    return {"string": "texts", "number": "numbers"}.get(str(items.get("type")), "values")


def _span(schema: Mapping[str, Any], low: str, high: str) -> str:
    if low in schema and high in schema:
        return f"{schema[low]} to {schema[high]} "
    if high in schema:
        return f"at most {schema[high]} "
    return f"at least {schema[low]} " if low in schema else ""


def _bounds(schema: Mapping[str, Any]) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f"from {schema['minimum']} to {schema['maximum']}"
    if "minimum" in schema:
        return f"of at least {schema['minimum']}"
    return f"of at most {schema['maximum']}" if "maximum" in schema else ""


def nearest(value: Any, choices: Iterable[str]) -> str | None:
    """Return the allowed value most similar to the given one, or None if none is similar.

    Ratios and sizes are compared as numbers ("2:1" is nearest to 16:9), everything else as text.
    """
    options = list(choices)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    given = shown(value) if is_number else value
    if not isinstance(given, str) or not given.strip() or len(given) > MAX_COMPARED_CHARS:
        return None
    return _nearest_number(given, options) or _nearest_text(given, options)


def _nearest_number(given: str, options: list[str]) -> str | None:
    if all(_RATIO.match(option) or option.isalpha() for option in options):
        named = NAMED_RATIOS.get(given.strip().casefold())
        wanted = _ratio(named or given)
        ratios = {option: ratio for option in options if (ratio := _ratio(option)) is not None}
        if wanted is not None and ratios:
            return min(ratios, key=lambda option: abs(math.log(ratios[option] / wanted)))
    if all(_KILO.match(option) for option in options):
        pixels = _pixels(given)
        if pixels is not None:
            return min(options, key=lambda option: abs((_pixels(option) or 0) - pixels))
    return None


def _ratio(text: str) -> float | None:
    match = _RATIO.match(text)
    if match is None:
        return None
    width, height = float(match[1]), float(match[2])
    return width / height if width > 0 and height > 0 else None


def _pixels(text: str) -> int | None:
    match = _KILO.match(text)
    if match is None:
        return None
    number = int(match[1])
    in_kilo = (match[2] or "").casefold() == "k" or (match[2] is None and number < 100)
    return number * 1024 if in_kilo else number


def _nearest_text(given: str, options: list[str]) -> str | None:
    folded = {re.sub(r"[\s_-]+", "-", option.casefold()): option for option in options}
    wanted = re.sub(r"[\s_-]+", "-", given.strip().casefold())
    if wanted in folded:
        return folded[wanted]
    within = [option for key, option in folded.items() if wanted in key]
    if within and len(wanted) >= 3:
        return within[0]
    # Imported here because most values are right.
    import difflib

    alike = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.6)
    return folded[alike[0]] if alike else None


def nearest_bound(value: Any, schema: Mapping[str, Any]) -> int | float | None:
    """Return the bound that a number violates, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and value < low:
        return low  # type: ignore[no-any-return]
    if high is not None and value > high:
        return high  # type: ignore[no-any-return]
    return None
