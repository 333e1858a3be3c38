"""What type checkers and importers see of the package."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import flux2_tool

STRICT = ("--strict", "--warn-unused-ignores", "--no-error-summary", "--config-file", "")


def test_the_public_names_are_typed_strictly() -> None:
    """As a developer's own mypy sees them: right uses pass, and each wrong one is refused."""
    pytest.importorskip("mypy", reason="the types are checked where mypy is installed")
    usage = Path(__file__).with_name("typed_usage.py")

    done = subprocess.run(
        [sys.executable, "-m", "mypy", *STRICT, str(usage)], capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.returncode) == ("", 0)
    assert files("flux2_tool").joinpath("py.typed").is_file()


def test_importing_the_package_loads_nothing_heavy() -> None:
    """Every command imports it, `--help` too."""
    code = "import sys, flux2_tool; print([name for name in ('httpx', 'pydantic', 'yaml') if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", flux2_tool.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """They are imported when first asked for, so that an import error would show late."""
    assert getattr(flux2_tool, name).__module__.startswith("flux2_tool.")
    assert name in dir(flux2_tool)


def test_another_name_is_not() -> None:
    """A misspelt import must fail as everywhere."""
    with pytest.raises(AttributeError, match="Flux3Tool"):
        _ = flux2_tool.Flux3Tool  # type: ignore[attr-defined]
