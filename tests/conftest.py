"""What most tests begin with: an empty data folder, and the sandbox in process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stage import SandboxTransport


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty data folder."""
    return tmp_path / "home"


@pytest.fixture
def runapi() -> SandboxTransport:
    """The sandbox in process: every picture takes exactly six virtual seconds."""
    return SandboxTransport()
