"""What a run of the benchmark works with: a folder, a scale, one sandbox, and clients with a fresh key each."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.client_process import Client
from benchmarks.kinds import KINDS
from benchmarks.load import make_all
from benchmarks.our_client import OurClient
from benchmarks.sandbox_process import SandboxProcess
from benchmarks.scale import Scale
from benchmarks.vendor_client import VendorClient

# What a client still does after it has answered (it writes down that a picture was handed over) counts as its cost.
SETTLE_S = 2.0
LEARNING_TASKS = 40
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
    _learned: Path | None = None

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # noqa: S311 - which kind comes first is no secret

    def new_home(self, *, learned: bool = False) -> Path:
        """Return an empty folder for a client, or one with the journal that `learn` has filled."""
        home = self.folder / f"client-{next(self._numbers)}"
        if learned:
            if self._learned is None:
                raise RuntimeError("nothing was learned yet")
            shutil.copytree(self._learned, home)
        return home

    async def learn(self) -> None:
        """Fill a journal with durations by making pictures of every kind with our client; once."""
        if self._learned is not None:
            return
        home = self.new_home()
        say("learning durations from the sandbox")
        async with self.ours(home=home) as client:
            pictures = [kind for kind in KINDS for _ in range(LEARNING_TASKS)]
            made = await make_all(client, pictures, in_flight=len(pictures), ramp_s=BURST_RAMP_S)
            if failures := [one.failure for one in made if one.failure]:
                raise RuntimeError(f"learning failed: {failures[0]}")
            await asyncio.sleep(SETTLE_S)
        self._learned = home

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
