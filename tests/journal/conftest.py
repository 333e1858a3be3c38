"""Fixtures of the journal's tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Last, so that an installed flux2_tool is still the one under test.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.support.journal import Machine


@pytest.fixture
def machine(home: Path) -> Iterator[Machine]:
    """One machine with processes of any name on one journal."""
    machine = Machine(home)
    yield machine
    machine.close()
