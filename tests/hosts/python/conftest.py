"""The sandbox inside the test's process, and time that runs two hundred times as fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool import Flux2Tool
from flux2_tool.sandbox import Sandbox, SandboxOptions, create_app
from tests.support.fast_clock import FastClock
from tests.support.keys import KEY
from tests.support.pictures import picture as picture_bytes

FASTER = 200


class Service:
    """The sandbox, and tools that are connected to it without a network."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = FastClock(time.time(), FASTER)
        self.app: Any = create_app(
            SandboxOptions(duration_s=6.0, drawn_images=False), clock=self.clock.now, sleep=self.clock.sleep
        )

    @property
    def sandbox(self) -> Sandbox:
        """Its ledger and faults."""
        sandbox: Sandbox = self.app.state.sandbox
        return sandbox

    @property
    def images_paid(self) -> int:
        """How many images have cost money."""
        return len(self.sandbox.ledger.billed_tasks)

    def tool(self, **options: Any) -> Flux2Tool:
        """Return a tool with nothing of this machine's settings."""
        variables = options.pop("variables", {})
        environ = {"HOME": str(self.home), "FLUX2_TOOL_HOME": str(self.home / "data"), **variables}
        return Flux2Tool(
            **{
                "api_key": KEY,
                "base_url": "https://runapi.test",
                "transport": httpx.ASGITransport(self.app),
                **options,
            },
            environ=environ,
            clock=self.clock,
        )


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """A service of the test's own."""
    return Service(tmp_path)


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[str], Path]:
    """Return what makes a picture file."""

    def make(name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(picture_bytes())
        return path

    return make
