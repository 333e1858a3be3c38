"""Who calls, and from where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flux2_tool.context import CallContext, kept_name, working_folder, workspace_of

DELETED = """
import os, sys
os.rmdir(os.getcwd())
from flux2_tool.context import working_folder, workspace_of
print(working_folder(), workspace_of(working_folder(), os.environ))
"""


@pytest.mark.parametrize(
    ("folder", "workspace"),
    [
        pytest.param("/home/ada/project", "/home/ada/project", id="a project"),
        pytest.param("/srv/project", "/srv/project", id="a project elsewhere"),
        pytest.param("/home/ada", None, id="the home folder"),
        pytest.param("/home", None, id="everybody's home folders"),
        pytest.param("/", None, id="the root, as desktops start servers"),
    ],
)
def test_only_a_project_is_a_place_for_source_files(folder: str, workspace: str | None) -> None:
    """Otherwise any agent could have any picture of the machine uploaded."""
    found = workspace_of(Path(folder), {"HOME": "/home/ada"})

    assert found == (None if workspace is None else Path(workspace))


def test_the_working_folder_is_that_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths of people and of agents in a terminal begin there."""
    monkeypatch.chdir(tmp_path)

    assert working_folder() == tmp_path


def test_a_folder_that_was_deleted_is_no_workspace(tmp_path: Path) -> None:
    """An editor's project may be gone while its server still starts; the tools that need no folder work on."""
    folder = tmp_path / "gone"
    folder.mkdir()

    done = subprocess.run([sys.executable, "-P", "-c", DELETED], cwd=folder, capture_output=True, text=True, check=True)

    assert done.stdout == "None None\n"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        pytest.param("agent:main:main", "agent:main:main", id="as hosts name them"),
        pytest.param("a" * 1000, "a" * 1000, id="long"),
        pytest.param("a\0b", "a\N{REPLACEMENT CHARACTER}b", id="NUL"),
        pytest.param("a\ud800b", "a?b", id="a lone surrogate"),
    ],
)
def test_a_name_is_one_that_every_journal_can_keep(name: str, kept: str) -> None:
    """What is read back from a journal must be equal to who calls: else nobody may see their own picture."""
    caller = CallContext(
        session=name, sender=name, shared_session=name, ancestors=(name,), descendants=frozenset([name])
    )

    assert {caller.session, caller.sender, caller.shared_session, *caller.ancestors, *caller.descendants} == {kept}


def test_a_whole_text_as_a_name_keeps_its_beginning_and_stays_itself() -> None:
    """A database has no index entry of several kilobytes; the beginning says which conversations may be inherited."""
    fox, cat = (kept_name("connection:" + "🦊" * 900 + end) for end in ("fox", "cat"))

    assert fox.startswith("connection:🦊")
    assert len(fox.encode()) <= 1000
    assert fox != cat
    assert kept_name(fox) == fox
