"""The code's own measures: short modules and functions, few parameters, and test names that can be read at a glance."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.readme import ROOT

PACKAGE = ROOT / "flux2_tool"
MAX_MODULE_LINES = 350
MAX_FUNCTION_LINES = 60
MAX_CONSTRUCTOR_PARAMETERS = 8
MAX_TEST_NAME_CHARS = 70
LONG_TEST_NAMES_ALLOWED = 10

Function = ast.FunctionDef | ast.AsyncFunctionDef

needs_sources = pytest.mark.skipif(not PACKAGE.is_dir(), reason="not a checkout")


def _functions(folder: Path) -> Iterator[tuple[str, Function]]:
    """Yield every function below a folder, with the file and line where it stands."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, Function):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def _parameters(function: Function) -> int:
    """Return how many parameters a method has beside `self`."""
    arguments = function.args
    return len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - 1


@needs_sources
def test_a_module_is_short_enough_to_read_in_one_sitting() -> None:
    """A longer one has a second subject, which nobody looks for there."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}

    assert len(lines) > 100
    assert [str(path.relative_to(ROOT)) for path, count in lines.items() if count > MAX_MODULE_LINES] == []


@needs_sources
def test_a_function_fits_on_a_screen() -> None:
    """Signature and docstring included."""
    found = dict(_functions(PACKAGE))
    long = [name for name, node in found.items() if (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES]

    assert len(found) > 1000
    assert long == []


@needs_sources
def test_a_constructor_has_few_parameters() -> None:
    """Whoever needs more has collaborators that belong together, and give them a name."""
    constructors = [(name, node) for name, node in _functions(PACKAGE) if node.name == "__init__"]

    assert [name for name, node in constructors if _parameters(node) > MAX_CONSTRUCTOR_PARAMETERS] == []


def test_test_names_are_short() -> None:
    """A name is a sentence about behaviour; what does not fit stands in the docstring."""
    names = [name for name, node in _functions(ROOT / "tests") if node.name.startswith("test_")]
    long = [name for name in names if len(name.rpartition(" ")[2]) > MAX_TEST_NAME_CHARS]

    assert len(names) > 1000
    assert len(long) <= LONG_TEST_NAMES_ALLOWED, "\n".join(long)
