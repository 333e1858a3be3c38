"""Read a decoded JSON response by dotted paths, such as those of `contract.py`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any


def dig(body: Any, path: str) -> Any:
    """Return the value at a dotted path, None where there is none."""
    for key in _keys(path):
        if not isinstance(body, Mapping):
            return None
        body = body.get(key)
    return body


def text_of(value: Any) -> str | None:
    """Return a value that is text and not blank, else None."""
    return value if isinstance(value, str) and value.strip() else None


def first_text(body: Any, paths: tuple[str, ...]) -> str | None:
    """Return the first text at any of the paths."""
    return next((value for path in paths if (value := text_of(dig(body, path))) is not None), None)


@lru_cache(maxsize=128)
def _keys(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))
