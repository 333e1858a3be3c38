"""Find a font that draws Chinese, and break text into lines with it.

First the font of the package `noto-cjk-sans-otc` (extra `sandbox`), then a system font, then Pillow's own, which
has no Chinese: there such characters are shown as escapes.
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont

AnyFont = ImageFont.FreeTypeFont | ImageFont.ImageFont

_FACE_OF_FILE = {"NotoSansCJK-Regular.ttc": 2}
_SYSTEM_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "C:/Windows/Fonts")
_SYSTEM_FILES = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "DroidSansFallback.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "simhei.ttf",
)

_WIDE = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff"
_NEVER_FIRST = "，。！？、：；）》〉」』】”’…—"
_TOKENS = re.compile(rf"[{_WIDE}“‘][{_NEVER_FIRST}]*|[^\s{_WIDE}]+[{_NEVER_FIRST}]*\s*|\s+")


def find_chinese_font(bundled: str, folders: Sequence[str]) -> tuple[Path, int] | None:
    """A font file that draws Chinese and the face in it, or None when there is none.

    Args:
        bundled: A package with a `FONT_PATH`; it goes first.
        folders: Where else to look, in order.
    """
    try:
        file = Path(str(importlib.import_module(bundled).FONT_PATH))
        if file.is_file():
            return file, _FACE_OF_FILE.get(file.name, 0)
    except (ImportError, AttributeError):
        pass
    for folder in map(Path, folders):
        found = {path.name: path for path in folder.rglob("*.[to]t[cf]")} if folder.is_dir() else {}
        for name in _SYSTEM_FILES:
            if name in found:
                return found[name], _FACE_OF_FILE.get(name, 0)
    return None


@cache
def chinese_font_file() -> tuple[Path, int] | None:
    """The font this machine has, looked for once."""
    return find_chinese_font("noto_cjk_sans_otc", _SYSTEM_FOLDERS)


@lru_cache(maxsize=32)
def font_of(size_px: int) -> AnyFont:
    """The font at a size."""
    file = chinese_font_file()
    if file is None:
        return ImageFont.load_default(size_px)
    return ImageFont.truetype(str(file[0]), size_px, index=file[1], layout_engine=ImageFont.Layout.BASIC)


def printable(text: str) -> str:
    """Text as the font can draw it: control characters as spaces, what it lacks as escapes."""
    plain = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    plain = " ".join(plain.split())
    if chinese_font_file() is None:
        return escaped(plain)
    return "".join(char if _drawable(char) else _replacement_text(char) for char in plain)


def escaped(text: str) -> str:
    """Text in ASCII, the rest of it as escapes."""
    return text.encode("ascii", "backslashreplace").decode()


def lines_of(text: str, font: AnyFont, width_px: float) -> list[str]:
    """Break text to a width: between words, between Chinese characters, inside words that are too long."""
    lines, line = [], ""
    for token in _tokens(text, font, width_px):
        if line and font.getlength((line + token).rstrip()) > width_px:
            lines.append(line.rstrip())
            line = token.lstrip()
        else:
            line += token
    return [*lines, line.rstrip()] if line.strip() else lines


def _tokens(text: str, font: AnyFont, width_px: float) -> Iterator[str]:
    for token in _TOKENS.findall(text):
        if font.getlength(token.rstrip()) <= width_px:
            yield token
        else:
            yield from token


def _replacement_text(char: str) -> str:
    """Return a replacement for a missing character: a box for a symbol such as an emoji, else its code point."""
    category = unicodedata.category(char)
    return "□" if category == "So" else "" if category.startswith("M") else f"U+{ord(char):04X}"


@lru_cache(maxsize=4096)
def _drawable(char: str) -> bool:
    font = font_of(24)
    return char.isascii() or bytes(font.getmask(char)) != bytes(font.getmask("\U0010ffff"))
