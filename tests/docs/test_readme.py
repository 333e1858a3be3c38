"""README and pages say what is true: their tables, commands, links and versions are held to their sources.

Runs in a checkout and beside an installed wheel, where only the tests and the files they read are at hand.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import get_args

import click
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from flux2_tool.cli import cli
from flux2_tool.journal import RecordState
from flux2_tool.openclaw.install import consent_text
from flux2_tool.openclaw.npm_package import MINIMUM_OPENCLAW
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.variables import TOKEN_VARIABLE
from flux2_tool.tasks.status import TRANSITIONS
from tests.support.readme import CHINESE, ENGLISH, NAMES, ROOT, blocks, is_local, links, read, resolved

IN_ENGLISH = "\n".join(read(name) for name in ENGLISH)
ALL = "\n".join(read(name) for name in NAMES)
PROGRAM = "flux2-tool"
IS_CHECKOUT = (ROOT / ".git").exists() and shutil.which("git") is not None

needs_checkout = pytest.mark.skipif(not IS_CHECKOUT, reason="not a git checkout, so not all files are here")


def _ci(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / ".ci" / script), *arguments], capture_output=True, text=True, check=False
    )


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    """It is the door: whoever wants more finds the page, and no page is found by nobody."""
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    translated = {f"docs/zh-CN/{path.name}" for path in (ROOT / "docs" / "zh-CN").glob("*.md")}

    assert len(read("README.md").splitlines()) <= 200
    assert pages == set(ENGLISH) - {"README.md"} <= set(links(read("README.md")))
    assert translated == set(CHINESE) - {"README.zh-CN.md"} <= set(links(read("README.zh-CN.md")))


def test_what_is_generated_has_not_drifted() -> None:
    """A price, a setting or a type that differs from what the program does is worse than none."""
    done = _ci("generate", "--check")

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_each_command_that_ci_runs_from_the_readme_is_one_line(name: str) -> None:
    """A newcomer copies one line, and CI runs exactly that line."""
    done = _ci("readme-command", name)

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert done.stdout.startswith("python3 -m venv .venv && ")


def _fenced_commands() -> list[list[str]]:
    """Return the words of every `flux2-tool …` in the pages' blocks of shell, each once."""
    lines = [
        line.removeprefix("$ ")
        for block in blocks(ALL)
        for line in block.code.splitlines()
        if block.language == "sh" or (block.language == "console" and line.startswith("$ "))
    ]
    return _once(words for line in lines if PROGRAM in line for words in _commands_of(line))


def _commands_of(line: str) -> Iterator[list[str]]:
    for part in re.split(r" && | > ", line):
        words = shlex.split(part, comments=True)
        if words[:3] == ["docker", "compose", "exec"]:
            words = words[4:]
        if words and Path(words[0]).name == PROGRAM:
            yield words[1:]


def _mentioned_commands() -> list[list[str]]:
    """Return the words of every `flux2-tool …` in the pages' running text, each once."""
    return _once(shlex.split(found) for found in re.findall(rf"`{PROGRAM} ([^`\n]+)`", ALL))


def _once(commands: Iterable[list[str]]) -> list[list[str]]:
    return [list(words) for words in dict.fromkeys(tuple(words) for words in commands)]


def _resolved(words: Sequence[str]) -> tuple[click.Command, list[str]]:
    """Return the command that these words name, and the arguments left for it."""
    command: click.Command = cli
    left = list(words)
    while isinstance(command, click.Group) and left and not left[0].startswith("-"):
        found = command.get_command(click.Context(command), left[0])
        assert found is not None, f"{PROGRAM} has no command {' '.join(words)}"
        command, left = found, left[1:]
    return command, left


def test_the_pages_show_the_commands_people_need() -> None:
    """Without this a change of the pages' form could leave nothing to check."""
    shown = {words[0] for words in _fenced_commands()}

    assert shown >= {"demo", "openclaw", "generate", "remix", "call", "task", "tasks", "resume", "doctor", "mcp"}


def test_each_block_of_commands_says_who_runs_it() -> None:
    """A block that nobody runs is one that nobody notices when it breaks."""
    kinds = {"command", "runs", "runs in OpenClaw", "shown"}

    unmarked = [block.code for block in blocks(ALL) if block.language in ("sh", "console") and block.kind not in kinds]
    unshown = [block.code for block in blocks(ALL) if block.language == "console" and block.kind != "shown"]

    assert unmarked == []
    assert unshown == []


def test_blocks_of_one_name_are_the_same_everywhere() -> None:
    """A command that stands on two pages must not be right on one of them alone."""
    named = {(block.kind, block.name, block.code) for block in blocks(ALL) if block.name}

    assert len(named) == len({(kind, name) for kind, name, _ in named})


def test_the_openclaw_page_shows_what_install_prints() -> None:
    """It tells of the prices and of what is read and run; somebody agrees to it."""
    page = read("docs/openclaw.md")
    [shown] = [block.code for block in blocks(page) if block.kind == "shown" and block.name == "install"]

    told = consent_text(
        load_manifest(),
        python="~/.flux2-tool/bin/python3",
        openclaw=f"OpenClaw {MINIMUM_OPENCLAW} (state folder ~/.openclaw)",
    )

    assert told in shown
    assert f"OpenClaw must be {MINIMUM_OPENCLAW} or newer" in page
    assert f"OpenClaw must be {MINIMUM_OPENCLAW} or newer" in read("README.md")


@needs_checkout
def test_the_dockerfile_matches_the_docker_page() -> None:
    """The journal is in OpenClaw's state folder, which its own volume keeps; the image names no other."""
    page = read("docs/docker.md")
    dockerfile = (ROOT / "docs" / "Dockerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE) for name in line.split()[:-1]]

    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert {"pyproject.toml", "openclaw_plugin.yaml", "README.md", "flux2_tool"} <= set(copied)
    assert f"/bin/pip install --no-cache-dir /usr/local/src/{PROGRAM}" in dockerfile
    assert "FLUX2_TOOL_HOME" not in dockerfile
    assert "volumes:" not in page


@needs_checkout
@pytest.mark.parametrize(("language", "name"), [("en", "chat.jpg"), ("zh-CN", "chat-zh-CN.jpg")])
def test_the_chat_screenshot_is_of_the_recorded_turn(language: str, name: str) -> None:
    """It says that it is rendered from it; docs/render-chat notes in the picture from what."""
    command = [sys.executable, str(ROOT / "docs" / "render-chat"), "--comment", language]
    expected = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with Image.open(ROOT / "docs" / name) as picture:
        assert picture.info["comment"].decode() == expected, "run: .venv/bin/python docs/render-chat"
    assert (ROOT / "docs" / name).stat().st_size < 150_000


@pytest.mark.parametrize("words", _fenced_commands(), ids=" ".join)
def test_each_command_shown_would_run(words: list[str]) -> None:
    """Every argument that is needed is there, and every option exists and takes this value."""
    command, left = _resolved(words)

    with command.make_context(PROGRAM, left) as context:
        assert context.params is not None


@pytest.mark.parametrize("words", _mentioned_commands(), ids=" ".join)
def test_each_command_mentioned_exists(words: list[str]) -> None:
    """A mention may leave arguments out or name them by a word, but its command and options are real."""
    if "|" in words:
        words = words[: words.index("|") - 1]
    command, left = _resolved(words)

    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in left if word.startswith("--")} <= options | {"--help"}


def test_the_result_shown_is_one_the_tools_return() -> None:
    """Somebody writes a program from it."""
    tool = load_manifest().tools["text_to_image"]
    shown = [json.loads(block.code) for block in blocks(ALL) if block.language == "json"]

    arguments = [block for block in shown if "prompt" in block]
    results = [block for block in shown if "prompt" not in block]

    assert results
    for given in arguments:
        Draft202012Validator(tool.input_schema).validate(given)
    for result in results:
        Draft202012Validator(tool.output_schema).validate(result)
        forms = ({"task", "tasks", "images", "cost", "timing"}, {"recent", "budget"})
        assert any(set(result) == {*form, "warnings", "next"} for form in forms)


def test_each_variable_named_is_a_setting() -> None:
    """A misspelt variable is read by nobody."""
    manifest = load_manifest()
    known = {hint.env for hint in manifest.settings.values()} | set(manifest.environment) | {TOKEN_VARIABLE}

    named = set(re.findall(r"\b(?:FLUX2_TOOL|RUNAPI)_[A-Z_]+\b", ALL))

    assert named <= known
    assert "RUNAPI_API_KEY" in named


@needs_checkout
@pytest.mark.parametrize("page", [*NAMES, "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_each_file_a_page_names_exists(page: str) -> None:
    """A dead link at the first step sends people away."""
    text = read(page)
    files = [resolved(link, page)[0] for link in links(text) if is_local(link)]
    scripts = re.findall(r"(\.ci/[\w-]+)", text)

    assert [name for name in [*files, *scripts] if not (ROOT / name).exists()] == []
    assert files or page not in NAMES


def test_the_drawing_has_the_layers_that_are_checked() -> None:
    """A drawing that import-linter would contradict sends an import the wrong way."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = [one for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    drawings = [block.code for block in blocks(read("docs/how-it-works.md")) if "diagnostics" in block.code]

    assert [re.findall(r'\["(.+?)"\]', drawing) for drawing in drawings] == [
        [layer.replace(" | ", " · ") for layer in contract["layers"]]
    ]


def test_the_states_shown_are_those_of_the_journal() -> None:
    """Whoever reads `flux2-tool tasks` looks its words up there."""
    page = read("docs/how-it-works.md")
    [drawing] = [block.code for block in blocks(page) if block.code.startswith("stateDiagram")]
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)", drawing, flags=re.MULTILINE))
    followed = {(state, after) for state, states in TRANSITIONS.items() for after in states}

    assert {name for pair in drawn for name in pair} == set(get_args(RecordState))
    assert {pair for pair in drawn - followed if len(set(pair)) == 2} == {
        ("unknown", "sending"),  # resumed anew
        ("unknown", "completed"),  # looked up anew
        ("unknown", "failed"),
    }
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == list(get_args(RecordState))


def test_the_newest_version_of_the_changelog_is_this_one() -> None:
    """Whoever upgrades reads what is new in what they get."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    versions = re.findall(r"^## (\S+)", changelog, flags=re.MULTILINE)

    assert versions[0] == load_manifest().version
    assert len(set(versions)) == len(versions)


# The counts, each of one, keep this file from finding itself. "ada" lives in examples, "node" in OpenClaw's image.
FOREIGN = {
    "a path of somebody's machine": re.compile(
        r"(?<![\w.$~/-])/(?:wor{1}k|roo{1}t|hom{1}e(?!/(?:ada|node)\b)|User{1}s|op{1}t|mn{1}t)/"
    ),
    "a package registry's host": re.compile(r"\b(?:pypi|npmjs|pythonhosted|yarnpkg|npmmirror)\.[a-z]{2,}\b"),
}


@needs_checkout
@pytest.mark.parametrize("what", FOREIGN)
def test_no_tracked_file_names_what_belongs_to_one_machine(what: str) -> None:
    """The project must build the same everywhere, and tell nothing about where it was written."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    found = []
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        text = path.read_bytes() if path.is_file() else b""
        if b"\0" not in text and (match := FOREIGN[what].search(text.decode("utf-8", "replace"))):
            found.append(f"{name}: {match[0]}")

    assert found == []


@pytest.mark.parametrize(
    ("what", "text", "is_found"),
    [
        ("a path of somebody's machine", "cd " + "/hom" + "e/joe/project", True),
        ("a path of somebody's machine", "cd " + "/hom" + "e/ada/project", False),
        ("a path of somebody's machine", "https://example.com" + "/hom" + "e/me", False),
        ("a package registry's host", "https://" + "pypi" + ".org/simple", True),
        ("a package registry's host", "installed from PyPI.", False),
    ],
)
def test_the_search_finds_what_it_is_for(what: str, text: str, is_found: bool) -> None:
    """A pattern that matches nothing would always pass."""
    assert (FOREIGN[what].search(text) is not None) is is_found
