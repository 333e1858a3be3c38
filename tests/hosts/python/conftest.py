"""The sandbox inside the test's process, and time that runs two hundred times as fast."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool import Flux2Tool
from flux2_tool._clock import SystemClock
from flux2_tool.sandbox import Sandbox, SandboxOptions, create_app

KEY = "sk-test-0123456789"
FASTER = 200


class FastClock(SystemClock):
    """This machine's clock, sped up; what takes a minute takes a third of a second."""

    def __init__(self) -> None:
        self._start_s = time.time()

    def now(self) -> float:
        """Return seconds since 1970, counted fast from the start."""
        return self._start_s + (time.time() - self._start_s) * FASTER

    def monotonic(self) -> float:
        """Return seconds, counted fast."""
        return asyncio.get_running_loop().time() * FASTER

    async def sleep(self, seconds: float) -> None:
        """Wait a fraction of the time."""
        await asyncio.sleep(seconds / FASTER)

    async def wait(self, event: asyncio.Event, timeout_s: float) -> bool:
        """Wait a fraction of the time."""
        return await super().wait(event, timeout_s / FASTER)


class Service:
    """The sandbox, and tools that are connected to it without a network."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = FastClock()
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
            **{"api_key": KEY, "base_url": "https://runapi.test", **options},
            environ=environ,
            transport=httpx.ASGITransport(self.app),
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
        from PIL import Image

        path = tmp_path / name
        Image.new("RGB", (64, 48), "orange").save(path)
        return path

    return make
