"""What a run of the benchmark works with: a folder, a scale, one sandbox, and clients with a fresh key each."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.client_process import Client
from benchmarks.history import write_history
from benchmarks.kinds import LEARNING_TASKS as LEARNING_TASKS
from benchmarks.our_client import OurClient
from benchmarks.sandbox_process import SandboxProcess
from benchmarks.scale import Scale
from benchmarks.vendor_client import VendorClient

# What a client still does after it has answered (it writes down that a picture was handed over) counts as its cost.
SETTLE_S = 2.0
BURST_RAMP_S = 2.5


@dataclass(slots=True)
class Bench:
    """One run.

    Attributes:
        folder: Temporary; holds every client's home.
        scale: How much to measure.
        seed: Of every random choice.
        sandbox: Both clients talk to it.
        rng: The order of the kinds, and lies.
    """

    folder: Path
    scale: Scale
    seed: int
    sandbox: SandboxProcess
    rng: random.Random = field(init=False)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # noqa: S311 - which kind comes first is no secret

    def new_home(self, *, history: float | None = None) -> Path:
        """Return a folder for a client that was not started yet.

        Args:
            history: Its journal holds durations that are this many times the true ones; None for an empty one.
        """
        home = self.folder / f"client-{next(self._numbers)}"
        if history is not None:
            write_history(home, base_url=self.sandbox.base_url, factor=history, rng=self.rng)
        return home

    @asynccontextmanager
    async def ours(self, *, home: Path | None = None, config: dict[str, Any] | None = None) -> AsyncIterator[OurClient]:
        """Run this project's worker while the block runs."""
        client = OurClient(
            home=home or self.new_home(), api_key=self._new_key(), base_url=self.sandbox.base_url, config=config
        )
        async with _running(client):
            yield client

    @asynccontextmanager
    async def vendors(self, *, threads: int) -> AsyncIterator[VendorClient]:
        """Run the vendor's SDK while the block runs."""
        client = VendorClient(
            home=self.new_home(), api_key=self._new_key(), base_url=self.sandbox.base_url, threads=threads
        )
        async with _running(client):
            yield client

    def _new_key(self) -> str:
        return f"sk-benchmark-{next(self._numbers)}"


@asynccontextmanager
async def _running(client: OurClient | VendorClient) -> AsyncIterator[Client]:
    async with AsyncExitStack() as stack:
        await client.start()
        stack.push_async_callback(client.close)
        yield client


def say(text: str) -> None:
    """Tell what is going on, on stderr: stdout is for the tables."""
    print(text, file=sys.stderr, flush=True)
