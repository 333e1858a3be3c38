"""Whether a worker grows: its memory, open files and threads over twenty thousand calls, and what a call costs then.

Short tasks in a sandbox of its own. The worker keeps some two thousand image tasks at hand, so memory rises at first;
from 5,000 calls on it must not. Open files are its pool of connections.
"""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.bench import SETTLE_S, Bench, say
from benchmarks.kinds import FASTEST
from benchmarks.load import make_all
from benchmarks.sandbox_process import SandboxProcess

# Half a second in the median instead of six.
SPEED = 12.0
STEPS = 20


async def measure(bench: Bench) -> dict[str, Any]:
    """Return what the worker holds after each twentieth of the calls."""
    sandbox = SandboxProcess(seed=bench.seed, speed=SPEED, folder=bench.folder)
    await sandbox.start()
    try:
        here = Bench(folder=bench.folder / "leaks", scale=bench.scale, seed=bench.seed, sandbox=sandbox)
        return await _measure(here)
    finally:
        await sandbox.stop()


async def _measure(bench: Bench) -> dict[str, Any]:
    scale = bench.scale
    steps: list[dict[str, Any]] = []
    failures = 0
    async with bench.ours() as client:
        for number in range(1, STEPS + 1):
            before_s = client.meter.cpu_s()
            pictures = [FASTEST] * (scale.leak_calls // STEPS)
            made = await make_all(client, pictures, in_flight=scale.leak_in_flight, ramp_s=0.0)
            await asyncio.sleep(SETTLE_S)
            failures += sum(one.failure is not None for one in made)
            meter = client.meter
            steps.append(
                {
                    "calls": number * len(pictures),
                    "rss_bytes": meter.rss_bytes(),
                    "open_files": meter.open_files(),
                    "threads": meter.threads(),
                    "cpu_ms_per_call": (meter.cpu_s() - before_s) / len(pictures) * 1000,
                }
            )
            say(f"leaks: {steps[-1]['calls']} calls, {steps[-1]['rss_bytes'] / 1e6:.1f} MB")
    return {"steps": steps, "failures": failures}
