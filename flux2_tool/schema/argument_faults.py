"""Values that cannot be sent as JSON, or that are too large to be checked against a schema.

The plugin has the same rules and words in `openclaw/plugin/argument_faults.js`. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from flux2_tool.schema.value_text import allowed, kind_of, shown_text
from flux2_tool.schema.violations import Violation

MAX_DEPTH = 8
MAX_VALUES = 2000
MAX_NAME_CHARS = 200
# A larger one is no number of JavaScript either.
_MAX_BITS = 1024


def faults_of(value: Any, name: str, schema: Mapping[str, Any]) -> Iterator[Violation]:
    """Yield why an argument's value cannot be sent as JSON; not recursive, because it may be nested deep.

    Args:
        value: Anything.
        name: Of the argument.
        schema: The argument's, for what it must be instead.
    """
    # Which of the choices are enabled is not known here.
    must = "" if "enum" in schema else f"; it must be {allowed(schema)}"
    stack: list[tuple[Any, str, int]] = [(value, name, 1)]
    seen = 0
    while stack:
        item, path, depth = stack.pop()
        seen += 1
        unreadable = _unreadable(item)
        if depth > MAX_DEPTH:
            unreadable = f"is nested deeper than {MAX_DEPTH} levels"
        elif seen > MAX_VALUES:
            path, unreadable = name, f"holds more than {MAX_VALUES} values{must}"
        if unreadable is not None:
            yield Violation(path=name, kind="unreadable", text=f"{_short_path(path)} {unreadable}")
            return
        wrong = _endless(item, must if path == name else "") or _unsendable(item)
        if wrong is not None:
            kind = "unreadable" if isinstance(item, int) else "unsendable"
            yield Violation(path=name if kind == "unreadable" else path, kind=kind, text=f"{_short_path(path)} {wrong}")
        if isinstance(item, list):
            stack.extend((part, f"{path}[{index}]", depth + 1) for index, part in enumerate(item[: MAX_VALUES + 1]))
        elif isinstance(item, dict):
            for key, part in islice(item.items(), MAX_VALUES + 1):
                stack.append((key, f"a name in {path}", depth + 1))
                # Cut, because every value below it repeats the name.
                below = f"{path}.{key[:MAX_NAME_CHARS]}" if isinstance(key, str) else path
                stack.append((part, below, depth + 1))


def _unreadable(item: Any) -> str | None:
    if item is None or isinstance(item, str | bool | int | float | list | dict):
        return None
    return f"is {kind_of(item)}, which is not a JSON value"


def _endless(item: Any, must: str) -> str | None:
    """Return what is wrong with a number beyond those of JSON's readers."""
    if isinstance(item, int):
        is_endless = item.bit_length() > _MAX_BITS
    else:
        is_endless = isinstance(item, float) and math.isinf(item)
    return f"is a number that is too {'large' if item > 0 else 'small'}{must}" if is_endless else None


def _unsendable(item: Any) -> str | None:
    if item is None:
        return "is null; leave it out instead"
    if isinstance(item, float) and math.isnan(item):
        return "is nan, which is no number JSON can carry"
    if isinstance(item, str) and not item.isascii() and any("\ud800" <= c <= "\udfff" for c in item):
        what = "half of a character pair (a lone surrogate), or bytes that are no UTF-8"
        return f"has {what}, which cannot be sent; write it again, or rename the file"
    if isinstance(item, str) and "\0" in item:
        return f"has a NUL character (U+0000) at position {item.index(chr(0)) + 1}; write the text without it"
    return None


def _short_path(path: str) -> str:
    return shown_text(path, 80)
