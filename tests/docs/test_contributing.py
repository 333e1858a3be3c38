"""CONTRIBUTING.md is the map of the code; a module that it omits is not found."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.support.readme import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

needs_sources = pytest.mark.skipif(not (ROOT / "flux2_tool").is_dir(), reason="not a checkout")


def _rows() -> list[list[str]]:
    """Return the packages and modules of each layer of the table, the highest first."""
    rows = re.findall(r"^\| \w+ \| ((?:`\w+(?:\.py|/)`(?:, )?)+) \|", TEXT, flags=re.MULTILINE)
    return [re.findall(r"`(\w+)(?:\.py|/)`", row) for row in rows]


@needs_sources
def test_every_package_is_in_the_table() -> None:
    """The table is the map of the code."""
    package = ROOT / "flux2_tool"
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    named = [name for row in _rows() for name in row]

    assert sorted(named) == sorted(modules - {"__init__", "__main__", "sandbox"})


def test_the_table_has_the_layers_that_are_checked() -> None:
    """A table in another order would send an import the wrong way."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = [one for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]

    assert [set(row) for row in _rows()] == [set(layer.split(" | ")) for layer in contract["layers"]]


@needs_sources
def test_every_test_folder_is_in_the_table() -> None:
    """Whoever adds a test looks for its like."""
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(ROOT).as_posix() for path in tests.glob("*/**/test_*.py")}

    assert folders <= set(re.findall(r"`(tests/[\w/]+)`", TEXT))
