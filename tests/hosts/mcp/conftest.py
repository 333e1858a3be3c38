"""A sandbox over real sockets, whose time tests move, and a scratch environment for the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flux2_tool.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.support.command import SandboxClock
from tests.support.keys import KEY


@pytest.fixture
def clock() -> SandboxClock:
    """The sandbox's time."""
    return SandboxClock()


@pytest.fixture
def service(clock: SandboxClock) -> Iterator[tuple[str, Sandbox]]:
    """A sandbox whose images take a tenth of a second; [slow] ones two minutes of its time."""
    with running_sandbox(SandboxOptions(duration_s=0.1, drawn_images=False), clock=clock) as running:
        yield running


@pytest.fixture
def sandbox(service: tuple[str, Sandbox]) -> Sandbox:
    """Its ledger and faults."""
    return service[1]


@pytest.fixture
def environ(tmp_path: Path, service: tuple[str, Sandbox]) -> dict[str, str]:
    """What a host gives the server: a key, the sandbox's address, and nothing of this machine's settings."""
    return {
        "HOME": str(tmp_path),
        "FLUX2_TOOL_HOME": str(tmp_path / "data"),
        "RUNAPI_API_KEY": KEY,
        "RUNAPI_BASE_URL": f"{service[0]}/v1",
    }
