"""SECURITY.md names the tests that show what it says; a test that is gone or renamed shows nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
DOCUMENT = TESTS.parent / "SECURITY.md"


@pytest.mark.skipif(not DOCUMENT.is_file(), reason="SECURITY.md is not part of an installed package")
def test_every_test_that_the_security_page_names_exists() -> None:
    """A claim without its proof is worse than none."""
    named = set(re.findall(r"`((?:[a-z0-9_]+/)*test_[a-z_0-9]+\.py)::(test_[a-z0-9_]+)`", DOCUMENT.read_text("utf-8")))
    missing = [f"{file}::{name}" for file, name in sorted(named) if not _defines(TESTS / file, name)]

    assert len(named) >= 15
    assert missing == []


def _defines(file: Path, name: str) -> bool:
    return file.is_file() and re.search(rf"^def {name}\(", file.read_text("utf-8"), re.MULTILINE) is not None
