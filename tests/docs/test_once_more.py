"""`.ci/once-more`: a test that failed by chance passes alone, a defect fails again, and some are not tried again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.readme import ROOT

_PASSES_THE_SECOND_TIME: Final = """
from pathlib import Path
def test_one():
    seen = Path("seen")
    if not seen.exists():
        seen.touch()
        raise AssertionError
"""
_FAILS: Final = "def test_two():\n    assert False\n"


def run_twice(folder: Path, name: str, *tests: str) -> tuple[int, str]:
    """Run tests and what failed of them once more; return the exit code and what the second run printed."""
    path = folder / name
    path.parent.mkdir(parents=True)
    path.write_text("".join(tests))
    pytest_of_folder = [sys.executable, "-m", "pytest", "-q", name]
    assert subprocess.run(pytest_of_folder, cwd=folder, capture_output=True, check=False).returncode == 1
    again = subprocess.run(
        [sys.executable, ROOT / ".ci" / "once-more", sys.executable],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return again.returncode, again.stdout + again.stderr


@pytest.mark.parametrize(
    ("name", "tests", "exit_code", "said"),
    [
        ("tests/test_a.py", [_PASSES_THE_SECOND_TIME], 0, "passed alone:\n  tests/test_a.py::test_one\n"),
        ("tests/test_a.py", [_PASSES_THE_SECOND_TIME, _FAILS], 1, "1 failed, 1 passed"),
        ("tests/chaos/test_a.py", [_PASSES_THE_SECOND_TIME], 1, "not tried again: 1 failed"),
        ("tests/test_a.py", [f"def test_{n}():\n    assert False\n" for n in range(21)], 1, "21 failed of at most 20"),
    ],
    ids=["chance", "a defect beside it", "a crash schedule", "too many"],
)
def test_what_failed_is_run_once_more(tmp_path: Path, name: str, tests: list[str], exit_code: int, said: str) -> None:
    code, printed = run_twice(tmp_path, name, *tests)
    assert code == exit_code
    assert said in printed
