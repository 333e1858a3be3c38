"""What people and models mean by the text of a source picture: spellings of a path, and advice where there is no file.

Pure text, no I/O: `safe_open.py` says what exists. Sources: RFC 8089 (file: URLs), RFC 3986.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

from flux2_tool._characters import is_ignorable
from flux2_tool.images.data_url import BASE64_BEGINNINGS

_QUOTES: Final = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "<": ">"}
_LINKS: Final = ("http:", "https:")
_REFERENCES: Final = ("file:", "data:", "task:", "media:")
_TASK_ID: Final = re.compile(
    r"(?:ts?k|task)[_-][A-Za-z0-9_-]{3,}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,200}"
)
_SHOWN_CHARS: Final = 200
_LONGEST_PATH_CHARS: Final = 4096
# A name with a host's ending, and a path below it; "//" alone before it is a link without its scheme.
_LINK_WITHOUT_SCHEME: Final = re.compile(
    r"(?://[\w-]+(?:\.[\w-]+)+|www\.[\w-]+(?:\.[\w-]+)+)(?:[:/?#].*)?", re.IGNORECASE
)

_WINDOWS_PATH: Final = re.compile(r"(?:file:/{0,3})?(?:[A-Za-z]:[\\/]|\\\\[^\\])")

# The advice for a text that looks like a path.
CHECK_PATH: Final = "Check the path."


def meant(source: str) -> str:
    """Return a link without the white space around it, a reference also without quotes; any other source as it is."""
    stripped = source.strip()
    if stripped.lower().startswith(_LINKS):
        return stripped
    inner = _unquoted(source)
    return inner if inner.lower().startswith(_REFERENCES) else source


def spellings(source: str) -> list[str]:
    """Return the paths that a text may mean, the most literal first: as it is, without quotes, without escapes."""
    found: list[str] = []
    trimmed, unquoted = _trimmed(source), _unquoted(source)
    unescaped = re.sub(r"\\(.)", r"\1", unquoted)
    for text in (source, source.strip(), trimmed, unquoted, unescaped, *_of_shell(trimmed)):
        found += _of_file_url(text) if text.lower().startswith("file:") else [text]
    return [text for text in dict.fromkeys(found) if text]


def is_file_url_elsewhere(source: str) -> bool:
    """Return whether a text is a `file:` URL that names another machine."""
    text = _unquoted(source)
    if not text.lower().startswith("file://"):
        return False
    host = text[7:].split("/", 1)[0]
    return host.lower() not in ("", "localhost")


def shown(text: str, *, every: bool = False) -> str:
    """Return a text in quotes for a message, with what cannot be seen written as in Python's strings.

    Args:
        text: Any; a long one is cut.
        every: Whether all characters but ASCII are written so, because texts that look the same are told apart.
    """
    cut = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
    written = (
        one if (one.isascii() and one.isprintable()) or (one.isprintable() and not every) else ascii(one)[1:-1]
        for one in cut
    )
    return '"' + "".join(written) + '"'


def advice_for(source: str) -> str:
    """Return what to write instead of a text that names no file."""
    text = _unquoted(source)
    if _TASK_ID.fullmatch(text):
        return f'If this is the id of a task, write "task:{text}".'
    if text.startswith(BASE64_BEGINNINGS) and len(text) > _SHOWN_CHARS:
        return "If this is a picture in base64, write data:image/png;base64, before it."
    if text.lower().startswith(_LINKS):
        return "Write the link alone, without quotes and without characters that cannot be seen."
    if _LINK_WITHOUT_SCHEME.fullmatch(text):
        return f'If this is a link, write "https://{text.removeprefix("//")}".'
    if _WINDOWS_PATH.match(text):
        return "A path of Windows cannot be opened here. In WSL, the command wslpath translates it."
    return CHECK_PATH


def _trimmed(text: str) -> str:
    """Return a text without the white space and what cannot be seen around it, as programs add it to what is copied.

    Windows puts U+202A before a path, editors U+FEFF, and chats wrap it in U+2068 and U+2069.
    """
    start, end = 0, len(text)
    while start < end and _is_padding(text[start]):
        start += 1
    while end > start and _is_padding(text[end - 1]):
        end -= 1
    return text[start:end]


def _is_padding(character: str) -> bool:
    return character.isspace() or is_ignorable(character)


def _unquoted(text: str) -> str:
    """Return a text without what cannot be seen and quotes around it."""
    text = _trimmed(text)
    if len(text) > 2 and _QUOTES.get(text[0]) == text[-1]:
        return _trimmed(text[1:-1])
    return text


def _of_shell(text: str) -> Iterator[str]:
    """Yield the one word that a shell would read, as a terminal or `shlex.quote` writes a name with quotes in it."""
    if len(text) > _LONGEST_PATH_CHARS or not any(quote in text for quote in "'\""):
        return
    try:
        words = shlex.split(text)
    except ValueError:  # a quote without its other half belongs to the name
        return
    if len(words) == 1:
        yield words[0]


def _of_file_url(text: str) -> Iterator[str]:
    """Yield the paths that a `file:` URL may mean: programs leave "#", "?" and "%" in names as they are."""
    path = text[5:]
    if path.startswith("//"):
        path = "/" + path[2:].partition("/")[2]
    yield unquote(path)
    yield path
    yield unquote(path.partition("#")[0])
    yield unquote(re.split(r"[?#]", path, maxsplit=1)[0])
