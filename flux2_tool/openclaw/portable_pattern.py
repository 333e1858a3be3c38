"""Write a Python regular expression as JavaScript reads it, for the rules that the plugin checks by itself.

Pure. The result is for the flag `u`, which reads code points as Python does. Sources: Python's `re`, ECMA-262 22.2.
"""

from __future__ import annotations

import re
from typing import Final

PYTHON_SPACE: Final = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
r"""The members of Python's `\s`; JavaScript's has other ones."""

_IN_CLASS: Final = {r"\s": PYTHON_SPACE, r"\d": r"\p{Nd}"}
_OUTSIDE: Final = {
    r"\s": f"[{PYTHON_SPACE}]",
    r"\S": f"[^{PYTHON_SPACE}]",
    r"\d": r"\p{Nd}",
    # Also before a last line break.
    "$": r"(?=\n?$)",
    ".": r"[^\n]",
    r"\-": "-",
}
_TOKEN: Final = re.compile(
    r"""
      (?P<any>\[\\s\\S\])
    | (?P<class>\[\^?(?!\])(?:[^\\\]]|\\.)+\])
    | (?P<escape>\\(?:x[0-9a-fA-F]{2}|[^x]))
    | (?P<group>\((?:\?(?:[:=!]|<[=!]))?)(?!\?)
    | (?P<repeat>(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??)(?![+*?])
    | (?P<plain>[^\\\[\](){}*+?])
    | (?P<end>\))
    """,
    re.VERBOSE | re.DOTALL,
)
_CLASS_PART: Final = re.compile(r"\\(?:x[0-9a-fA-F]{2}|[^x])|[^\\]", re.DOTALL)
# Escapes that mean the same in both, outside a class and in one.
_SAME_ESCAPE: Final = re.compile(r"\\(?:x[0-9a-fA-F]{2}|[tnrfv]|[\^$\\.*+?()\[\]{}|/])")


def portable_pattern(pattern: str) -> str | None:
    r"""Return the pattern for JavaScript, or None where it uses what has no equal there, such as `\w` or `\b`."""
    found, position = "", 0
    while position < len(pattern):
        token = _TOKEN.match(pattern, position)
        written = None if token is None else _written(token)
        if token is None or written is None:
            return None
        found += written
        position = token.end()
    return found


def _written(token: re.Match[str]) -> str | None:
    text = token[0]
    if token.lastgroup == "any":
        return "[^]"
    if token.lastgroup == "class":
        return _class(text)
    if text in _OUTSIDE:
        return _OUTSIDE[text]
    return text if token.lastgroup != "escape" or _SAME_ESCAPE.fullmatch(text) else None


def _class(text: str) -> str | None:
    start = "[^" if text.startswith("[^") else "["
    found = start
    for part in _CLASS_PART.findall(text[len(start) : -1]):
        written = _IN_CLASS.get(part, part)
        if part.startswith("\\") and written == part and part != r"\-" and not _SAME_ESCAPE.fullmatch(part):
            return None
        found += written
    return f"{found}]"
