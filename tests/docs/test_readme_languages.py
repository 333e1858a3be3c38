"""The Chinese README keeps step with the English one: same sections, code, tables and links in the same order."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

from tests.support.readme import NAMES, ROOT, blocks, links, read, sections, tables

ENGLISH, CHINESE = (read(name) for name in NAMES)
Change = Callable[[str], str]


def differences(english: str, chinese: str) -> list[str]:
    """Return in what two READMEs are not the same, one sentence each."""
    ours, theirs = sections(english), sections(chinese)
    levels = [[section.level for section in found] for found in (ours, theirs)]
    if levels[0] != levels[1]:
        at = next((n for n, (a, b) in enumerate(zip(*levels, strict=False)) if a != b), min(len(ours), len(theirs)))
        titles = [found[at].title if at < len(found) else "nothing" for found in (ours, theirs)]
        return [f"the sections differ from number {at + 1} on: {titles[0]} and {titles[1]}"]
    found = []
    places = [{section.anchor: number for number, section in enumerate(of)} for of in (ours, theirs)]
    for one, other in zip(ours, theirs, strict=True):
        # By their place: a section's name is translated, and so is its anchor.
        targets = [
            sorted(_target(link, anchors) for link in links(section.body))
            for section, anchors in zip((one, other), places, strict=True)
        ]
        if targets[0] != targets[1]:
            found.append(f"{one.title} and {other.title} link to {targets[0]} and {targets[1]}")
    code = [list(blocks(text)) for text in (english, chinese)]
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


def _target(link: str, anchors: dict[str, int]) -> str:
    if link in NAMES:
        return "the other language"
    if link.startswith("#"):
        return f"section {anchors.get(link[1:], link)}"
    return link


def test_both_say_the_same_things_in_the_same_order() -> None:
    """Whoever reads only one of them must not miss anything."""
    assert differences(ENGLISH, CHINESE) == []


@pytest.mark.parametrize("name", NAMES)
def test_each_links_to_the_other_at_its_top(name: str) -> None:
    """A reader who came to the wrong one is one click away from the right one."""
    [other] = set(NAMES) - {name}

    assert f"]({other})" in read(name).split("\n## ")[0]


@pytest.mark.parametrize("name", NAMES)
def test_each_link_inside_a_page_leads_to_a_section(name: str) -> None:
    """An anchor is made from a heading's words and breaks with them."""
    text = read(name)
    anchors = [section.anchor for section in sections(text)]

    assert [link for link in links(text) if link.startswith("#") and link[1:] not in anchors] == []
    assert len(set(anchors)) == len(anchors)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda text: text.replace("\n## ", "\n## News\n\n## ", 1), "the sections differ", id="a section"),
        pytest.param(lambda text: f"{text}\n### One more\n", "the sections differ", id="a section at the end"),
        pytest.param(lambda text: text.replace("\n### ", "\n#### ", 1), "the sections differ", id="a level"),
        pytest.param(lambda text: text.replace("flux2-tool balance\n", ""), "the code differs: money", id="a command"),
        pytest.param(lambda text: f"{text}\n```sh\nls\n```\n", "blocks of code", id="a block"),
        pytest.param(lambda text: text.replace("](SECURITY.md)", "](CHANGELOG.md)"), "link to", id="a link"),
        pytest.param(lambda text: text.replace("](#webhooks)", "](#prices)"), "link to", id="an anchor"),
        pytest.param(lambda text: text.replace("| `home` |", "| `house` |"), "generated tables", id="a table"),
    ],
)
def test_a_change_in_one_language_alone_is_found(change: Change, said: str) -> None:
    """A comparison that finds nothing would always pass."""
    changed = change(ENGLISH)

    assert changed != ENGLISH
    assert said in " ".join(differences(changed, CHINESE))


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
    for name in (*NAMES, "openclaw_plugin.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    translations = tmp_path / "docs" / "zh-CN.yaml"
    translations.write_text(change(translations.read_text(encoding="utf-8")), encoding="utf-8")

    command = [sys.executable, str(tmp_path / ".ci" / "generate")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert said in done.stderr
    assert (tmp_path / "README.zh-CN.md").read_bytes() == (ROOT / "README.zh-CN.md").read_bytes()
