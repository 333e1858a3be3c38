"""Read `data:` URLs as RFC 2397 defines them, and as programs write them.

The media type and its parameters are not looked at: what the data are is told by the data. Tolerated are lines and
spaces, the alphabet of URLs, missing padding, percent-encoding of any part, and what programs do to such a URL on its
way: forms that make spaces of pluses, JSON that was escaped twice, a prefix that was added twice or lacks ";base64".
Source: RFC 2397, RFC 4648.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

_INVISIBLE: Final = re.compile("[\u200b-\u200f\u2060\ufeff]")
_SPACE: Final = re.compile(rb"\s+")
_IS_BASE64: Final = re.compile(r";\s*base64\s*(?:;|$)", re.IGNORECASE)
# A comma in quotes belongs to a parameter's value.
_HEAD: Final = re.compile(r'[^,"]*+(?:"[^"]*+"[^,"]*+)*+(?=,)')
_ESCAPED_SPACE: Final = re.compile(rb"\\[nrt]")
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_ADVICE: Final = 'write it as "data:image/png;base64,…"'

BASE64_BEGINNINGS: Final = ("iVBORw0KGgo", "/9j/", "UklGR", "R0lGOD")
"""The first bytes of a PNG, JPEG, WebP and GIF, in base64."""


class DataUrlError(Exception):
    """It is no readable `data:` URL. The message completes the sentence "its data: URL …"."""


def is_data_url(text: str) -> bool:
    """Return whether a text is meant as a `data:` URL."""
    return _trimmed(text[:100])[:5].lower() == "data:"


def data_of(text: str, *, max_bytes: int) -> bytes:
    """Return the data of a URL for which `is_data_url` holds.

    Args:
        text: The URL.
        max_bytes: More data than this are cut: the result is then at least one byte longer, and no more is decoded.

    Raises:
        DataUrlError: It has no data, or its base64 is broken.
    """
    head, body = _parts(_trimmed(text))
    if is_data_url(body):
        head, body = _parts(_trimmed(body))
    if not _IS_BASE64.search(unquote(head)) and not body.startswith(BASE64_BEGINNINGS):
        return unquote_to_bytes(body)[: max_bytes + 1]
    coded = _clean(body).translate(_TO_STANDARD).rstrip(b"=")[: (max_bytes // 3 + 2) * 4]
    try:
        return base64.b64decode(coded + b"=" * (-len(coded) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        found = re.search(rb"[^A-Za-z0-9+/]", coded)
        problem = f"an invalid character at {found.start() + 1}" if found else "an impossible length: a part is missing"
        raise DataUrlError(f"has broken base64: {problem}") from exc


def _trimmed(text: str) -> str:
    return (text if text.isascii() else _INVISIBLE.sub("", text)).strip()


def _parts(url: str) -> tuple[str, str]:
    """Return what is before the comma of a URL, and after it."""
    found = _HEAD.match(url)
    end = found.end() if found is not None else url.find(",")
    if end < 0:
        raise DataUrlError(f"has no comma before its data; {_ADVICE}")
    return url[:end], url[end + 1 :]


def _clean(body: str) -> bytes:
    """Return the base64 of a URL without what is no part of it: lines, spaces, escapes, and a fragment."""
    coded = unquote_to_bytes(body) if "%" in body else body.encode("utf-8")
    coded = coded.partition(b"#")[0].strip()
    if b"\\" in coded:
        coded = _ESCAPED_SPACE.sub(b"", coded).replace(b"\\/", b"/")
    return _SPACE.sub(b"", _with_pluses(coded))


def _with_pluses(coded: bytes) -> bytes:
    """Return base64 whose pluses became spaces as it was. Spaces between lines are of equal distance."""
    pieces = coded.split(b" ")
    if len(pieces) == 1 or b"+" in coded or b"-" in coded or len(coded.split()) != len([p for p in pieces if p]):
        return coded
    length = len(pieces[0])
    is_wrapped = length % 4 == 0 and {len(piece) for piece in pieces[:-1]} == {length} and len(pieces[-1]) <= length
    return coded if is_wrapped else b"+".join(pieces)
