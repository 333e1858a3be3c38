"""Make text from the service safe to show: one bounded line, which nobody can take for ours. Pure.

Every text of the service that reaches a model, a chat or a person goes through `quoted`, or through `as_token` where it
is an identifier. Time and memory are bounded by the limit and not by the text.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from flux2_tool._characters import is_ignorable

# A page's title is near its beginning; an error page may be megabytes long.
MAX_TITLE_PAGE_BYTES: Final = 8192

_QUOTATION_MARKS: Final = dict.fromkeys(
    map(ord, '"\u201c\u201d\u201e\u201f\u2033\u2036\u301d\u301e\u301f\uff02\u02ba'), "'"
)
# Takes no room by itself, and shows a character as an emoji.
_EMOJI_SELECTOR: Final = "\ufe0f"
_TOKEN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]*")


def quoted(text: str, limit: int = 300) -> str:
    """Return text of the service in quotation marks that it cannot leave.

    It is one bounded line, see `printable`. Its own double quotation marks become single ones, and its backslashes are
    doubled, so that also a reader who knows escapes finds the end where it is.
    """
    inner = printable(text, limit).translate(_QUOTATION_MARKS).replace("\\", "\\\\")
    return f'"{inner}"'


def as_token(text: str, limit: int) -> str | None:
    """Return an identifier of the service that may be shown without quotation marks, None for any other text.

    It has no blanks and no punctuation but that of ids, slugs and dates.
    """
    return text if len(text) <= limit and _TOKEN.fullmatch(text) else None


def printable(text: str, limit: int = 300) -> str:
    """Return text as one bounded line without control, format, invisible and surrogate characters.

    Terminal escapes lose their escape byte; bidirectional overrides are removed.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():  # the usual case, and much cheaper
        return " ".join(text.split())
    kept = "".join(
        " " if character.isspace() else character
        for character in text[: limit * 8]
        if character.isspace() or _is_kept(character)
    )
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _is_kept(character: str) -> bool:
    return unicodedata.category(character)[0] != "C" and (character == _EMOJI_SELECTOR or not is_ignorable(character))


def html_title(body: bytes) -> str:
    """Return the title or first heading of an HTML page, quoted; or that it has none in its first kilobytes.

    Linear in what is read: each step of the search goes on where the last one ended.
    """
    page = body[:MAX_TITLE_PAGE_BYTES]
    lowered = page.lower()
    for name in (b"title", b"h1"):
        title = printable(without_tags(_element(page, lowered, name).decode("utf-8", "replace")), 80)
        if title:
            return quoted(title, 80)
    return "no title"


def _element(page: bytes, lowered: bytes, name: bytes) -> bytes:
    """Return what is in the first element of a name, nothing where it does not end."""
    start = 0
    while (start := lowered.find(b"<" + name, start)) >= 0:
        start += len(name) + 1
        if lowered[start : start + 1] in (b">", b" ", b"\t", b"\r", b"\n", b"/"):
            opened = lowered.find(b">", start)
            end = lowered.find(b"</" + name, opened)
            return page[opened + 1 : end] if 0 <= opened < end else b""
    return b""


def without_tags(text: str) -> str:
    """Return text without what is between "<" and ">"."""
    first, *parts = text.split("<")
    return first + "".join(tag_and_text.partition(">")[2] for tag_and_text in parts)
