"""The sandbox in a process of its own, and its ledger: who finished what, when it was ready and when it was seen."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.line_process import CHECKOUT
from benchmarks.meter import Meter

BALANCE_CENTS = 10**10
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """One task in the ledger.

    Attributes:
        duration_s: From its creation to the moment its picture is ready.
        lateness_s: From then until a poll first got the picture; None while none has.
        polls: How often it was polled.
        created_at: Seconds since 1970.
    """

    duration_s: float
    lateness_s: float | None
    polls: int
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What the sandbox has seen so far.

    Attributes:
        tasks: By id.
        creates: How many create POSTs came under each key's fingerprint.
        polls_not_found: How many polls asked for what was not there.
    """

    tasks: dict[str, Booked]
    creates: Counter[str]
    polls_not_found: int

    def creates_of(self, api_key: str) -> int:
        """Return how many create POSTs came under a key."""
        return self.creates[hashlib.sha256(api_key.encode()).hexdigest()[:12]]


class SandboxProcess:
    """Runs `python -m flux2_tool sandbox` on loopback, without drawing pictures.

    Args:
        seed: Of the durations.
        speed: Divides them.
        folder: Where its stderr is kept.

    Attributes:
        base_url: Its address, once it was started.
        webhook_secret: Signs its webhooks.
    """

    def __init__(self, *, seed: int, folder: Path, speed: float = 1.0) -> None:
        self._seed = seed
        self._speed = speed
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.base_url = ""
        self.webhook_secret = base64.b64encode(secrets.token_bytes(32)).decode()

    async def start(self) -> None:
        """Start it and wait until it serves."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "sandbox.txt").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "flux2_tool", "sandbox"),
                *("--seed", str(self._seed), "--speed", str(self._speed)),
                *("--set", "drawn_images=false", "--set", f"balance_cents={BALANCE_CENTS}"),
                *("--set", f"callback_secret={self.webhook_secret}"),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=CHECKOUT,
            )
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        self.base_url = (await self._process.stdout.readline()).decode().strip()
        if not self.base_url:
            raise RuntimeError("the sandbox did not start: " + (self._folder / "sandbox.txt").read_text()[-500:])

    @property
    def meter(self) -> Meter:
        """Reads what it costs."""
        if self._process is None:
            raise RuntimeError("the sandbox was not started")
        return Meter(self._process.pid)

    async def ledger(self) -> Ledger:
        """Read its ledger; only between measurements, because it serves nobody meanwhile."""
        ledger = await asyncio.to_thread(self._read_ledger)
        tasks = {task["id"]: _booked(task) for task in ledger["tasks"]}
        return Ledger(
            tasks=tasks,
            creates=Counter(create["key_fingerprint"] for create in ledger["creates"]),
            polls_not_found=ledger["summary"]["polls_not_found"],
        )

    async def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    def _read_ledger(self) -> dict[str, Any]:
        with httpx.Client(trust_env=False, timeout=_PATIENCE_S) as http:
            ledger: dict[str, Any] = http.get(f"{self.base_url}/_sandbox/ledger?bodies=0").json()
            return ledger


def _booked(task: dict[str, Any]) -> Booked:
    seen_at = task["first_seen_finished_at"]
    return Booked(
        duration_s=task["finish_at"] - task["created_at"],
        lateness_s=None if seen_at is None else seen_at - task["finish_at"],
        polls=task["polls"],
        created_at=task["created_at"],
    )
