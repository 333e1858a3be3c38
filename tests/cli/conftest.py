"""The command in real processes, against a sandbox on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flux2_tool.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.support.command import Command, SandboxClock, scratch_environ
from tests.support.keys import KEY


@pytest.fixture
def bare(tmp_path: Path) -> Command:
    """The command without key or service."""
    return Command(folder=tmp_path, environ=scratch_environ(tmp_path))


@pytest.fixture
def clock() -> SandboxClock:
    """The sandbox's time, for tests that do not want to wait for it."""
    return SandboxClock()


@pytest.fixture
def service(clock: SandboxClock) -> Iterator[tuple[str, Sandbox]]:
    """A sandbox whose images take a tenth of a second."""
    with running_sandbox(SandboxOptions(duration_s=0.1, drawn_images=False), clock=clock) as running:
        yield running


@pytest.fixture
def sandbox(service: tuple[str, Sandbox]) -> Sandbox:
    """Its ledger, faults and options."""
    return service[1]


@pytest.fixture
def command(tmp_path: Path, service: tuple[str, Sandbox]) -> Command:
    """The command with a key, pointed at the sandbox."""
    environ = {**scratch_environ(tmp_path), "RUNAPI_API_KEY": KEY, "RUNAPI_BASE_URL": f"{service[0]}/v1"}
    return Command(folder=tmp_path, environ=environ)
