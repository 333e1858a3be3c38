"""How to install the package again: one wording, for each way in which it may have been installed, never from PyPI."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import flux2_tool
from flux2_tool.schema.install_text import install_extra_text, install_version_text, pip_of

PACKAGE = Path(flux2_tool.__file__).parent


@pytest.mark.parametrize(
    ("text", "source"),
    [
        pytest.param(install_extra_text("mcp", python="/venv/bin/python"), "'.[mcp]'", id="an extra"),
        pytest.param(install_version_text("1.2.3", pip=pip_of("/venv/bin/python")), ".", id="a version"),
    ],
)
def test_each_way_of_installing_has_its_command(text: str, source: str) -> None:
    """`python -m pip` fails in an environment of uv's, and `pip install flux2-tool` finds nothing."""
    assert f"uv tool install --reinstall {source}," in text
    assert f"pipx install --force {source}," in text
    assert text.endswith(f"/venv/bin/python -m pip install {source}")


def test_the_version_is_named() -> None:
    """An old checkout would install the old version again."""
    assert "in an updated checkout, install flux2-tool 1.2.3 again" in install_version_text("1.2.3", pip="pip")


def test_an_interpreter_with_a_space_can_be_copied() -> None:
    """Else the shell would start another program."""
    assert pip_of("/my tools/python") == "'/my tools/python' -m pip"


def test_nothing_else_words_how_to_install_the_package() -> None:
    """A second wording would be forgotten when the first one learns something."""
    sources = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".js", ".md")]
    worded = re.compile(r"uv tool install|pipx install|pip install|flux2-tool\[\w+\]")

    found = [path.name for path in sources if worded.search(path.read_text(encoding="utf-8"))]

    assert found == ["install_text.py"]
