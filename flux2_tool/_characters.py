"""Which characters can be seen: those that leave a mark on a page by themselves. Pure.

Source: Unicode's general categories and its property Default_Ignorable_Code_Point (DerivedCoreProperties.txt), and the
characters whose glyph is empty although their category is a letter's or a symbol's.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from typing import Final

# Ranges of code points, both ends included.
_IGNORABLE: Final = (
    *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)),
    *((0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
# The blank of Braille, the null notehead, and the place of an object that is not in the text.
_BLANKS: Final = ((0x2800, 0x2800), (0x1D159, 0x1D159), (0xFFFC, 0xFFFC))
INVISIBLE_RANGES: Final = tuple(sorted((*_IGNORABLE, *_BLANKS)))
"""Code points that take no room, or only empty room, whatever their category says: first and last of each range."""
_ANY_IGNORABLE: Final = re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in INVISIBLE_RANGES)}]")


def is_ignorable(character: str) -> bool:
    """Return whether a character takes no room, or only empty room, whatever its category says."""
    return _ANY_IGNORABLE.match(character) is not None


def without_ignorable(text: str) -> str:
    """Return text without such characters; the same object if it has none."""
    # None of them is ASCII, which most of a service's long answers are.
    return text if text.isascii() or not _ANY_IGNORABLE.search(text) else _ANY_IGNORABLE.sub("", text)


def is_visible(character: str) -> bool:
    """Return whether a character can be seen by itself: a letter, number, punctuation mark or symbol.

    A combining mark needs another character. One that this Python's Unicode does not know yet may be a new emoji.
    """
    category = unicodedata.category(character)
    if category == "Cn":
        code = ord(character)
        return not (code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF or is_ignorable(character))
    return category[0] in "LNPS" and not is_ignorable(character)


def is_printable(character: str) -> bool:
    """Return whether a character may stand in a message as it is; one that this Python does not know yet may.

    So a message is the same with every version of Unicode, in Python and in the plugin's JavaScript.
    """
    return character.isprintable() or (unicodedata.category(character) == "Cn" and is_visible(character))


def shell_word(text: str) -> str:
    """Return a text as one word of a command line, of which every character survives being shown and typed.

    What cannot be seen, and a byte of a name that is no text, is written as bash, zsh and ksh read it between $' and '.
    """
    if all(character.isprintable() for character in text):
        return shlex.quote(text)
    return "$'" + "".join(map(_shell_escape, text)) + "'"


def _shell_escape(character: str) -> str:
    code = ord(character)
    if character in "'\\":
        return f"\\{character}"
    if character.isprintable():
        return character
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def has_visible(text: str) -> bool:
    """Return whether anything of a text can be seen."""
    return any(map(is_visible, text))
