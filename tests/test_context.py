"""Who calls, and from where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flux2_tool.context import working_folder, workspace_of

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
