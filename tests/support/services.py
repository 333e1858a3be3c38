"""Fixtures: a sandbox over real sockets whose time the test moves. A conftest imports those it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flux2_tool.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.support.command import SandboxClock


@pytest.fixture
def clock() -> SandboxClock:
    """The sandbox's time, for tests that do not want to wait for it."""
    return SandboxClock()


@pytest.fixture
def service(clock: SandboxClock) -> Iterator[tuple[str, Sandbox]]:
    """A sandbox whose images take a tenth of a second; [slow] ones two minutes of its time."""
    with running_sandbox(SandboxOptions(duration_s=0.1, drawn_images=False), clock=clock) as running:
        yield running


@pytest.fixture
def sandbox(service: tuple[str, Sandbox]) -> Sandbox:
    """Its ledger, faults and options."""
    return service[1]
