"""Read `data:` URLs as RFC 2397 defines them, and as programs write them.

The media type and its parameters are not looked at: what the data are is told by the data. Tolerated are lines and
spaces, the alphabet of URLs, missing padding, and percent-encoding of any part. Source: RFC 2397, RFC 4648.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

_SPACE: Final = re.compile(rb"\s+")
_IS_BASE64: Final = re.compile(r";\s*base64\s*$", re.IGNORECASE)
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


class DataUrlError(Exception):
    """It is no readable `data:` URL. The message completes the sentence "its data: URL …"."""


def is_data_url(text: str) -> bool:
    """Return whether a text is meant as a `data:` URL."""
    return text.lstrip()[:5].lower() == "data:"


def data_of(text: str, *, max_bytes: int) -> bytes:
    """Return the data of a URL for which `is_data_url` holds.

    Args:
        text: The URL.
        max_bytes: More data than this are cut: the result is then at least one byte longer, and no more is decoded.

    Raises:
        DataUrlError: It has no data, or its base64 is broken.
    """
    head, comma, body = text.strip().partition(",")
    if not comma:
        raise DataUrlError('has no comma before its data; write it as "data:image/png;base64,…"')
    if not _IS_BASE64.search(head):
        return unquote_to_bytes(body)[: max_bytes + 1]
    coded = unquote_to_bytes(body) if "%" in body else body.encode("utf-8")
    coded = _SPACE.sub(b"", coded).translate(_TO_STANDARD).rstrip(b"=")[: (max_bytes // 3 + 2) * 4]
    try:
        return base64.b64decode(coded + b"=" * (-len(coded) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        found = re.search(rb"[^A-Za-z0-9+/]", coded)
        problem = f"an invalid character at {found.start() + 1}" if found else "an impossible length: a part is missing"
        raise DataUrlError(f"has broken base64: {problem}") from exc
