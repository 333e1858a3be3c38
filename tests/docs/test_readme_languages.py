"""Each Chinese page keeps step with its English twin: same sections, code, tables and links in the same order."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

from tests.support.readme import (
    CHINESE,
    NAMES,
    ROOT,
    TWINS,
    Block,
    blocks,
    is_local,
    links,
    read,
    resolved,
    sections,
    tables,
)

Change = Callable[[str], str]
PAIRS = list(TWINS.items())
_ENGLISH_OF = {chinese: english for english, chinese in PAIRS}
# What is said in the recorded turn is of its language; that both are as recorded is checked end to end.
_RECORD = re.compile(r"(<!-- a recorded turn: begin -->\n).*?(<!-- a recorded turn: end -->)", re.DOTALL)


def differences(page: str, english: str, chinese: str) -> list[str]:
    """Return in what a page's two texts are not the same, one sentence each."""
    english, chinese = (_RECORD.sub(r"\1\2", text) for text in (english, chinese))
    ours, theirs = sections(english), sections(chinese)
    levels = [[section.level for section in found] for found in (ours, theirs)]
    if levels[0] != levels[1]:
        at = next((n for n, (a, b) in enumerate(zip(*levels, strict=False)) if a != b), min(len(ours), len(theirs)))
        titles = [found[at].title if at < len(found) else "nothing" for found in (ours, theirs)]
        return [f"the sections differ from number {at + 1} on: {titles[0]} and {titles[1]}"]
    found = []
    for one, other in zip(ours, theirs, strict=True):
        targets = [
            sorted(_target(link, name) for link in links(section.body))
            for section, name in ((one, page), (other, TWINS[page]))
        ]
        if targets[0] != targets[1]:
            found.append(f"{one.title} and {other.title} link to {targets[0]} and {targets[1]}")
        if _rows(one.body) != _rows(other.body):
            found.append(f"{one.title} and {other.title} have tables of other shapes")
    code = [[_compared(block) for block in blocks(text)] for text in (english, chinese)]
    found += [
        f"the code differs: {one.name or one.code} and {other.name or other.code}"
        for one, other in zip(*code, strict=False)
        if one != other
    ]
    if len(code[0]) != len(code[1]):
        found.append(f"there are {len(code[0])} and {len(code[1])} blocks of code")
    first = [{name: [row[0] for row in rows] for name, rows in tables(text).items()} for text in (english, chinese)]
    if first[0] != first[1]:
        found.append("the generated tables are not of the same things")
    return found


def _rows(text: str) -> list[int]:
    """Return how many cells each row of a section's tables has."""
    return [line.count("|") for line in text.splitlines() if line.lstrip().startswith("|")]


def _compared(block: Block) -> Block:
    """Return a block as it must stand in both languages; a drawing's labels are translated."""
    if block.language != "mermaid":
        return block
    code = re.sub(r'"[^"\n]*"| : .+$', "…", block.code, flags=re.MULTILINE)
    return Block(kind=block.kind, name=block.name, language=block.language, code=code)


def _target(link: str, page: str) -> str:
    """Return what a link leads to, named alike for both languages: a section by its place in its page."""
    if not is_local(link):
        return link
    path, anchor = resolved(link, page)
    place = ""
    if anchor and path in NAMES:
        anchors = [section.anchor for section in sections(read(path))]
        place = f" section {anchors.index(anchor)}" if anchor in anchors else f" {anchor}"
    return _ENGLISH_OF.get(path, path.replace("-zh-CN.", ".")) + place


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_say_the_same_in_the_same_order(english: str, chinese: str) -> None:
    """Whoever reads only one of them must not miss anything."""
    assert differences(english, read(english), read(chinese)) == []


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_each_page_links_to_its_twin_at_its_top(english: str, chinese: str) -> None:
    """A reader who came to the wrong one is one click away from the right one."""
    for page, other in ((english, chinese), (chinese, english)):
        head = read(page).split("\n## ")[0]

        assert other in [resolved(link, page)[0] for link in links(head) if is_local(link)]


@pytest.mark.parametrize("page", NAMES)
def test_links_stay_in_the_language_of_their_page(page: str) -> None:
    """The one link to the other language is the one at the top."""
    others = set(TWINS) if page in CHINESE else set(CHINESE)
    crossing = [link for link in links(read(page)) if is_local(link) and resolved(link, page)[0] in others]

    assert len(crossing) == 1


@pytest.mark.parametrize("page", NAMES)
def test_each_anchor_leads_to_a_section(page: str) -> None:
    """An anchor is made from a heading's words and breaks with them."""
    targets = [resolved(link, page) for link in links(read(page)) if is_local(link) and "#" in link]
    own = [section.anchor for section in sections(read(page))]

    assert [t for t in targets if t[1] not in [section.anchor for section in sections(read(t[0]))]] == []
    assert len(set(own)) == len(own)


@pytest.mark.parametrize(
    ("page", "change", "said"),
    [
        pytest.param("README.md", lambda text: text.replace("\n## ", "\n## News\n\n## ", 1), "the sections differ"),
        pytest.param("docs/mcp.md", lambda text: f"{text}\n### One more\n", "the sections differ"),
        pytest.param("README.md", lambda text: text.replace("\n## ", "\n### ", 1), "the sections differ"),
        pytest.param("docs/costs.md", lambda text: text.replace("flux2-tool balance\n", ""), "the code differs: money"),
        pytest.param("docs/tools.md", lambda text: f"{text}\n```sh\nls\n```\n", "blocks of code"),
        pytest.param("README.md", lambda text: text.replace("](SECURITY.md)", "](CHANGELOG.md)"), "link to"),
        pytest.param("docs/mcp.md", lambda text: text.replace("](costs.md#caps)", "](costs.md#prices)"), "link to"),
        pytest.param(
            "docs/configuration.md", lambda text: text.replace("| `home` |", "| `house` |"), "generated tables"
        ),
        pytest.param("docs/costs.md", lambda text: text.replace("| per image | ", "| "), "tables of other shapes"),
        pytest.param("docs/how-it-works.md", lambda text: text.replace("chat -->|", "plugin -->|"), "the code differs"),
    ],
    ids=["section", "last section", "level", "command", "block", "link", "anchor", "table", "row", "drawing"],
)
def test_a_change_in_one_language_alone_is_found(page: str, change: Change, said: str) -> None:
    """A comparison that finds nothing would always pass."""
    changed = change(read(page))

    assert changed != read(page)
    assert said in " ".join(differences(page, changed, read(TWINS[page])))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            lambda text: text.replace("RunAPI refused", "RunAPI denied"), "errors.authentication", id="changed"
        ),
        pytest.param(lambda text: text.replace("  home:\n", "  house:\n"), "settings.home has no", id="missing"),
        pytest.param(lambda text: f"{text}  gone: {{ en: a, zh: b }}\n", "errors.gone translates nothing", id="gone"),
    ],
)
def test_a_text_without_its_translation_stops_the_tables(change: Change, said: str, tmp_path: Path) -> None:
    """A setting whose meaning has changed must not go on with its old meaning in Chinese."""
    for name in (".ci", "docs"):
        copytree(ROOT / name, tmp_path / name)
    for name in ("README.md", "README.zh-CN.md", "openclaw_plugin.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    translations = tmp_path / "docs" / "zh-CN.yaml"
    translations.write_text(change(translations.read_text(encoding="utf-8")), encoding="utf-8")

    command = [sys.executable, str(tmp_path / ".ci" / "generate")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert said in done.stderr
    assert [name for name in NAMES if (tmp_path / name).read_bytes() != (ROOT / name).read_bytes()] == []
