"""The command in real processes, against a sandbox on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from flux2_tool.sandbox import Sandbox
from tests.support.command import Command, scratch_environ
from tests.support.keys import KEY
from tests.support.services import clock, sandbox, service

__all__ = ["bare", "clock", "command", "sandbox", "service"]


@pytest.fixture
def bare(tmp_path: Path) -> Command:
    """The command without key or service."""
    return Command(folder=tmp_path, environ=scratch_environ(tmp_path))


@pytest.fixture
def command(tmp_path: Path, service: tuple[str, Sandbox]) -> Command:
    """The command with a key, pointed at the sandbox."""
    environ = {**scratch_environ(tmp_path), "RUNAPI_API_KEY": KEY, "RUNAPI_BASE_URL": f"{service[0]}/v1"}
    return Command(folder=tmp_path, environ=environ)
