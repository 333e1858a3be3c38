"""CONTRIBUTING.md says where what lives; a module that it leaves out is found by nobody."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest

from tests.readme import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

needs_sources = pytest.mark.skipif(not (ROOT / "flux2_tool").is_dir(), reason="not a checkout")


def _layers() -> list[list[str]]:
    """Return the modules of each row of the table of layers, the highest first."""
    rows = re.findall(r"^\| [\w ]+ \| ((?:`\w+(?:\.py|/)`(?:, )?)+) \|", TEXT, flags=re.MULTILINE)
    return [re.findall(r"`(\w+)(?:\.py|/)`", row) for row in rows]


@needs_sources
def test_every_module_stands_in_one_layer() -> None:
    """The table is the map of the code."""
    package = ROOT / "flux2_tool"
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    named = [name for row in _layers() for name in row]

    assert sorted(named) == sorted(modules - {"__init__", "__main__", "sandbox"})


def test_the_layers_are_in_the_order_that_is_checked() -> None:
    """A table in another order would send an import the wrong way."""
    [contract] = [
        contract
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
            "contracts"
        ]
        if contract["type"] == "layers"
    ]
    height = {name: number for number, layer in enumerate(contract["layers"]) for name in layer.split(" | ")}

    rows = [[height[name] for name in row] for row in _layers()]

    assert [row for row, below in itertools.pairwise(rows) if min(row) > min(below) or max(row) > max(below)] == []


@needs_sources
def test_every_folder_of_tests_is_told_of() -> None:
    """Whoever adds a test looks for its like."""
    folders = {f"tests/{path.parent.name}" for path in Path(ROOT, "tests").glob("*/test_*.py")}

    assert folders <= set(re.findall(r"`(tests/\w+)`", TEXT))
