"""Make text from the service safe to show: one bounded line without terminal control characters. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_TITLE: Final = re.compile(r"<(title|h1)[^>]*>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<[^>]*>")


def printable(text: str, limit: int = 300) -> str:
    """Return text as one bounded line without control, format and surrogate characters.

    Terminal escapes lose their escape byte; bidirectional overrides are removed.
    """
    if len(text) <= limit and text.isprintable():  # the usual case, and much cheaper
        return " ".join(text.split())
    kept = "".join(
        " " if character.isspace() else character
        for character in text[: limit * 8]
        if character.isspace() or unicodedata.category(character)[0] != "C"
    )
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def html_title(body: bytes) -> str:
    """Return the title or first heading of an HTML page, as one printable line."""
    found = _TITLE.search(body[:65536].decode("utf-8", "replace"))
    return printable(_TAG.sub("", found.group(2)), 80) if found else "no title"
