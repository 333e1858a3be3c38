"""The README and the pages of docs/, in both languages, as the tests read them: sections, code, tables and links.

A block of commands stands below a comment that says who runs it: <!-- command: NAME --> `.ci/run`, <!-- runs: NAME -->
the tests against a sandbox, <!-- runs in OpenClaw: NAME --> the end-to-end tests; <!-- shown: NAME --> nobody. Python
below <!-- example: NAME --> is run by tests/hosts/python.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# In the order in which a newcomer reads them, so that commands run in that order too.
_TOPICS = (
    "installing",
    "openclaw",
    "docker",
    "postgresql",
    "webhooks",
    "tools",
    "costs",
    "gallery",
    "configuration",
    "errors",
    "troubleshooting",
    "mcp",
    "python",
    "how-it-works",
    "guarantees",
)
# Each page in English, and its Chinese twin.
TWINS = {"README.md": "README.zh-CN.md", **{f"docs/{topic}.md": f"docs/zh-CN/{topic}.md" for topic in _TOPICS}}
ENGLISH, CHINESE = tuple(TWINS), tuple(TWINS.values())
NAMES = (*ENGLISH, *CHINESE)
# In the pages' commands, stands for the id of a real task.
EXAMPLE_TASK = "tsk_abc123"

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"<!-- ([^:>]+): ([^>]+) -->\n\Z")
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_TABLE = re.compile(r"<!-- table: (\w+) -->\n(.*?)<!-- end of table -->", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of code.

    Attributes:
        kind: What the comment above it says is done with it; empty without one.
        name: Its name in that comment.
        language: What it is marked as.
        code: The code, without the indentation of a list around it.
    """

    kind: str
    name: str
    language: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What stands below one heading, up to the next of any level."""

    level: int
    title: str
    body: str

    @property
    def anchor(self) -> str:
        """How a link names it: GitHub keeps letters of any script, digits, hyphens and underscores."""
        return re.sub(r"[^\w\- ]", "", self.title.lower()).replace(" ", "-")


def read(name: str) -> str:
    """Return a page's text."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str) -> Iterator[Block]:
    """Yield every block of code."""
    for found in _FENCE.finditer(text):
        indent, language, code = found.groups()
        mark = _MARK.search(text[: found.start()])
        kind, name = mark.groups() if mark else ("", "")
        plain = re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)
        yield Block(kind=kind, name=name, language=language, code=plain)


def to_run(kind: str) -> list[Block]:
    """Return the blocks of one kind on all pages, each text once, in their order."""
    return list(dict.fromkeys(block for name in NAMES for block in blocks(read(name)) if block.kind == kind))


def sections(text: str) -> list[Section]:
    """Return the sections in order; what looks like a heading inside a block of code is none."""
    prose = _FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    found = list(_HEADING.finditer(prose))
    ends = [heading.start() for heading in found[1:]] + [len(prose)]
    return [
        Section(level=len(heading[1]), title=heading[2], body=prose[heading.end() : end])
        for heading, end in zip(found, ends, strict=True)
    ]


def links(text: str) -> list[str]:
    """Return the targets of all links and pictures, in order; what looks like one inside a block of code is none."""
    return _LINK.findall(_FENCE.sub("", text))


def is_local(link: str) -> bool:
    """Return whether a link leads to a file of this project, or to a section of its own page."""
    return not re.match(r"[a-z]+:", link)


def resolved(link: str, page: str) -> tuple[str, str]:
    """Return the file that a local link on a page leads to, relative to the project, and the anchor in it."""
    path, _, anchor = link.partition("#")
    return (posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page), anchor


def tables(text: str) -> dict[str, list[list[str]]]:
    """Return the cells of the generated tables, without their heads."""
    return {
        name: [line.strip("|").split(" | ") for line in rows.strip().splitlines()[2:]]
        for name, rows in _TABLE.findall(text)
    }
