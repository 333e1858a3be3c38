"""Mask a key in received text, in every form it is likely to be echoed in, and secrets in recorded responses.

A service may quote the key it refuses, and a proxy's error page may repeat a whole request. Received text is masked
before anything else reads it, so that no result, record or log line can contain the key, even if invisible characters
split it. This protects against echoes, not against a malicious service.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, Final, TypeGuard
from urllib.parse import unquote, urlsplit

from flux2_tool._characters import without_ignorable

MASK: Final = b"[key]"
# A shorter text is a word, not a key, and masking it would corrupt responses before they are parsed.
MIN_KEY_CHARS: Final = 8
MAX_DEPTH: Final = 40
# Limits of a record: its nesting depth, and the members of one object or list.
MAX_RECORD_DEPTH: Final = 20
MAX_RECORD_MEMBERS: Final = 200
_ESCAPE_MARKS: Final = (b"%", b"\\", b"&")
# A pair of backslashes is matched as one, so that the text after it is not taken for an escape.
_JSON_ESCAPE: Final = re.compile(rb"\\(\\|/|u00([2-7][0-9a-fA-F]))")
_URL_ALPHABET: Final = bytes.maketrans(b"+/", b"-_")
_HTML_NAMES: Final = {"&": ("&amp;",), "<": ("&lt;",), ">": ("&gt;",), '"': ("&quot;",), "'": ("&apos;",)}

_SECRET_PARAMETER: Final = re.compile(r"sig|token|key|secret|credential|password|auth", re.IGNORECASE)
_SECRET_FIELD: Final = re.compile(
    r"token|secret|password|credential|signature|authorization|(api|access|private)[_-]?key", re.IGNORECASE
)


class SecretStr:
    """A text that neither `repr` nor a log line shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        """Return the text."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "SecretStr('**********')"

    def __str__(self) -> str:
        return "**********"


# ---- a key -----------------------------------------------------------------------------------------------------------


def masked(data: bytes, key: str | None) -> bytes:
    """Return data with the key masked: plain, escaped as in URLs, JSON or HTML, in base64 or in hexadecimal."""
    return _masked(data, key) if _is_key(key) else data


def masked_text(text: str, key: str | None) -> str:
    """Return text with the key masked, see `masked`; also if invisible characters split the key."""
    # No form of a key is shorter than the key.
    return _masked_text(text, key) if _is_key(key) and len(text) >= len(key) else text


def masked_json(value: Any, key: str | None) -> Any:
    """Return decoded JSON with the key masked; the same object if it does not contain the key."""
    return _masked_json(value, key, 0) if holds_key(visible(" ".join(_texts(value))), key) else value


def holds_key(text: str, key: str | None) -> bool:
    """Return whether `masked` would find the key in a text."""
    return _is_key(key) and _holds(text, key)


def visible(text: str) -> str:
    """Return text without control, format, surrogate and ignorable characters, white space kept."""
    if not text.isprintable():
        text = "".join(c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    return text if text.isascii() else without_ignorable(text)


# ---- a response that is kept -----------------------------------------------------------------------------------------


def redact(body: Any, *, secrets: tuple[str, ...] = (), limit: int = 4000) -> str:
    """Return a response as JSON text for the record: bounded, without keys, signatures and fields named like a secret.

    Args:
        body: Decoded JSON.
        secrets: Texts to mask anywhere, also those too short for `masked`.
        limit: The maximum length, in characters, without the mark of truncation.
    """
    text = json.dumps(_redacted(body, secrets, 0), ensure_ascii=False, default=str)
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= limit else text[:limit] + "…"


def redact_url(url: str) -> str:
    """Return a URL without its fragment and without the query values that sign or authorise it."""
    try:
        # Without other letters: normalizing them takes time by the square of their number.
        urlsplit(url if url.isascii() else "".join(c if c.isascii() else "x" for c in url))
    except ValueError:  # not a URL after all
        return url.partition("?")[0]
    address, hash_mark, _ = url.partition("#")
    path, query_mark, query = address.partition("?")
    shown = "&".join(map(_without_secret_value, query.split("&")))
    return f"{path}{query_mark}{shown}{'#…' if hash_mark else ''}"


# ---- private ---------------------------------------------------------------------------------------------------------


def _is_key(text: str | None) -> TypeGuard[str]:
    return text is not None and len(text) >= MIN_KEY_CHARS


def _masked(data: bytes, key: str) -> bytes:
    data = _without(data, key)
    if b"\\" in data:
        # Afterwards, because a key may itself contain text that looks like an escape.
        plain = _JSON_ESCAPE.sub(_plain, data)
        clean = _without(plain, key)
        return data if clean == plain else clean
    return data


def _masked_text(text: str, key: str) -> str:
    found = _masked(text.encode("utf-8", "surrogatepass"), key).decode("utf-8", "surrogatepass")
    seen = visible(found)
    return _masked_text(seen, key) if seen is not found and _holds(seen, key) else found


def _holds(text: str, key: str) -> bool:
    data = text.encode("utf-8", "surrogatepass")
    return _masked(data, key).count(MASK) > data.count(MASK)


def _texts(value: Any) -> Iterator[str]:
    """Yield every text of decoded JSON, names too; without recursion, because it may be nested very deep."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
            left.append(_inner(one))
        elif isinstance(one, Mapping):
            yield from one
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)


def _inner(text: str) -> Any:
    """Return the value of a text that is itself JSON with escapes, which its reader would decode; else None."""
    if "\\" in text and text.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    return None


def _masked_json(value: Any, key: str | None, depth: int) -> Any:
    if isinstance(value, str):
        inner = _inner(value)
        return masked_text(value, key) if inner is None else json.dumps(_masked_json(inner, key, depth + 1))
    if not isinstance(value, Mapping | list):
        return value
    if depth > MAX_DEPTH:  # deeper than any field that is read
        return None
    if isinstance(value, list):
        return [_masked_json(item, key, depth + 1) for item in value]
    return {masked_text(name, key): _masked_json(item, key, depth + 1) for name, item in value.items()}


def _redacted(value: Any, secrets: tuple[str, ...], depth: int) -> Any:
    if depth > MAX_RECORD_DEPTH:
        return "…"
    if isinstance(value, list):
        return [_redacted(item, secrets, depth + 1) for item in value[:MAX_RECORD_MEMBERS]]
    if isinstance(value, Mapping):
        return {
            _without_secrets(str(name), secrets): "…"
            if isinstance(item, str) and _SECRET_FIELD.search(str(name))
            else _redacted(item, secrets, depth + 1)
            for name, item in islice(value.items(), MAX_RECORD_MEMBERS)
        }
    if not isinstance(value, str):
        return value
    return _without_secrets(
        redact_url(value) if value[:8].lower().startswith(("https://", "http://")) else value, secrets
    )


def _without_secrets(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = _masked_text(text, secret)
    return text


def _without_secret_value(pair: str) -> str:
    """Return a query parameter without a secret value; some servers take ";" as a separator, like "&"."""
    if ";" in pair:
        return ";".join(map(_without_secret_value, pair.split(";")))
    name, equals, _value = pair.partition("=")
    return f"{name}{equals}…" if equals and _SECRET_PARAMETER.search(unquote(name)) else pair


def _without(data: bytes, key: str) -> bytes:
    for form in _forms(key):
        data = data.replace(form, MASK)
    if any(mark in data for mark in _ESCAPE_MARKS):
        data = _escaped(key).sub(MASK, data)
    return data


def _plain(escape: re.Match[bytes]) -> bytes:
    """Return the character of a JSON escape unless JSON requires the escape; the decoded JSON stays the same."""
    code = escape.group(2)
    if escape.group(1) == b"/":
        return b"/"
    return escape.group() if code is None or code.lower() in (b"22", b"5c", b"7f") else bytes([int(code, 16)])


@lru_cache(maxsize=32)
def _forms(key: str) -> tuple[bytes, ...]:
    """Return the key plain, in hexadecimal and in base64."""
    data = key.encode()
    forms = [data, data.hex().encode(), data.hex().upper().encode()]
    # Only the characters that depend on the key alone, at each alignment.
    for shift, first in ((0, 0), (1, 2), (2, 3)):
        form = base64.b64encode(b"\0" * shift + data)[first : (shift + len(data)) * 8 // 6]
        if len(form) >= MIN_KEY_CHARS:
            forms += [form, form.translate(_URL_ALPHABET), form.replace(b"/", b"\\/")]
            forms.append(form.replace(b"+", b"%2B").replace(b"/", b"%2F"))
    return tuple(dict.fromkeys(forms))


@lru_cache(maxsize=32)
def _escaped(key: str) -> re.Pattern[bytes]:
    """Return a pattern of the key in which any character may be escaped."""
    return re.compile("".join(map(_character, key)).encode())


def _character(character: str) -> str:
    """Return a pattern of one character: itself, %XX, or an escape of JSON or HTML."""
    code = _in_any_case(f"{ord(character):x}")
    in_url = "".join(f"%(?:25)?{_in_any_case(f'{byte:02x}')}" for byte in character.encode())
    in_json = rf"\\u{_in_any_case(f'{ord(character):04x}')}"
    ways = [re.escape(character), in_url, in_json, f"&#(?:[xX]0*{code}|0*{ord(character)});"]
    if not character.isalnum():
        ways += [rf"\\{re.escape(character)}", *_HTML_NAMES.get(character, ())]
    return f"(?:{'|'.join(ways)})"


def _in_any_case(digits: str) -> str:
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits)
