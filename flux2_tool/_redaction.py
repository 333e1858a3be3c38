"""Take a key out of text that somebody else wrote, in every form it is likely to be echoed in.

A service may quote the key it refuses, and a proxy's error page may repeat a whole request. What comes in is masked
before anything else reads it, so that no result, record or log line can carry it on; also where only the reader puts
the key together, by dropping what nobody sees. A service that means to tell the key has a thousand ways more; this is
against echoes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

MASK: Final = b"[key]"
# A shorter text is no key but a word, and masking it would spoil answers.
MIN_KEY_CHARS: Final = 8
MAX_DEPTH: Final = 40
_ESCAPE_MARKS: Final = (b"%", b"\\", b"&")
# Pairs of backslashes are read as one, so that what follows them is not taken for an escape.
_JSON_ESCAPE: Final = re.compile(rb"\\(\\|/|u00([2-7][0-9a-fA-F]))")
_URL_ALPHABET: Final = bytes.maketrans(b"+/", b"-_")
_HTML_NAMES: Final = {"&": ("&amp;",), "<": ("&lt;",), ">": ("&gt;",), '"': ("&quot;",), "'": ("&apos;",)}


def masked(data: bytes, key: str | None) -> bytes:
    """Return data without the key: as it is, escaped as in URLs, JSON or HTML, in base64, or in hexadecimal digits."""
    if key is None or len(key) < MIN_KEY_CHARS:
        return data
    data = _without(data, key)
    if b"\\" in data:
        # Afterwards, because a key may itself hold what looks like an escape.
        data = _without(_JSON_ESCAPE.sub(_plain, data), key)
    return data


def masked_text(text: str, key: str | None) -> str:
    """Return text without the key, see `masked`; also when unseen characters stand between the key's own."""
    found = masked(text.encode("utf-8", "surrogatepass"), key).decode("utf-8", "surrogatepass")
    seen = visible(found)
    return masked_text(seen, key) if seen is not found and holds_key(seen, key) else found


def masked_json(value: Any, key: str | None) -> Any:
    """Return decoded JSON without the key; the very same object where no text of it has any."""
    return _masked_json(value, key, 0) if holds_key(visible(" ".join(_texts(value))), key) else value


def holds_key(text: str, key: str | None) -> bool:
    """Return whether `masked` would find the key in a text."""
    data = text.encode("utf-8", "surrogatepass")
    return masked(data, key).count(MASK) > data.count(MASK)


def visible(text: str) -> str:
    """Return text without control, format and surrogate characters, white space kept."""
    if text.isprintable():  # nearly always
        return text
    return "".join(c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")


def _texts(value: Any) -> Iterator[str]:
    """Yield every text of decoded JSON, names too; without recursion, because a service may nest it very deep."""
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
    """Return the JSON that a text of JSON is with escapes of its own, which its reader undoes as well; else None."""
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
    if depth > MAX_DEPTH:  # deeper than anything is read
        return None
    if isinstance(value, list):
        return [_masked_json(item, key, depth + 1) for item in value]
    return {masked_text(name, key): _masked_json(item, key, depth + 1) for name, item in value.items()}


def _without(data: bytes, key: str) -> bytes:
    for form in _forms(key):
        data = data.replace(form, MASK)
    if any(mark in data for mark in _ESCAPE_MARKS):
        data = _escaped(key).sub(MASK, data)
    return data


def _plain(escape: re.Match[bytes]) -> bytes:
    """Return what an escape of JSON stands for, where JSON needs no escape; to a reader of JSON nothing changes."""
    code = escape.group(2)
    if escape.group(1) == b"/":
        return b"/"
    return escape.group() if code is None or code.lower() in (b"22", b"5c", b"7f") else bytes([int(code, 16)])


@lru_cache(maxsize=32)
def _forms(key: str) -> tuple[bytes, ...]:
    """Return the key as it may stand letter for letter."""
    data = key.encode()
    forms = [data, data.hex().encode(), data.hex().upper().encode()]
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + data)
        # The characters that the key alone decides, wherever in the encoded bytes it begins.
        form = whole[-(-shift * 8 // 6) : (shift + len(data)) * 8 // 6]
        if len(form) >= MIN_KEY_CHARS:
            forms += [form, form.translate(_URL_ALPHABET), form.replace(b"/", b"\\/")]
            forms.append(form.replace(b"+", b"%2B").replace(b"/", b"%2F"))
    return tuple(dict.fromkeys(forms))


@lru_cache(maxsize=32)
def _escaped(key: str) -> re.Pattern[bytes]:
    """Return a pattern of the key whose characters may be escaped, each for itself."""
    return re.compile("".join(map(_character, key)).encode("ascii"))


def _character(character: str) -> str:
    """Return a pattern of one character: itself, %XX, or an escape of JSON or HTML."""
    code = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{ord(character):02x}")
    ways = [re.escape(character), f"%(?:25)?{code}", rf"\\u00{code}", f"&#(?:[xX]0*{code}|0*{ord(character)});"]
    if not character.isalnum():
        ways += [rf"\\{re.escape(character)}", *_HTML_NAMES.get(character, ())]
    return f"(?:{'|'.join(ways)})"
