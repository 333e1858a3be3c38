"""Read a decoded JSON response by dotted paths, such as those of `contract.py`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, Final

_MAX_WORDS_CHARS: Final = 400


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


def field_errors(body: Any) -> str:
    """Return the text of a response's `errors`, by field or as a list; empty if there is none."""
    errors = dig(body, "errors")
    if isinstance(errors, Mapping):
        named = ((name, found if isinstance(found, list) else [found]) for name, found in islice(errors.items(), 20))
        return "; ".join(f"{_words(name)} {' and '.join(map(_words, found[:20]))}" for name, found in named)
    if isinstance(errors, list):
        return "; ".join(text_of(item) or text_of(dig(item, "message")) or "" for item in errors[:20]).strip("; ")
    return ""


def _words(value: Any) -> str:
    """Return a field error's text; of a number, its digits; of anything else nothing, because it may be huge."""
    if isinstance(value, str):
        return value[:_MAX_WORDS_CHARS]
    return str(value) if isinstance(value, int | float) else ""
