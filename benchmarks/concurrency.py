"""What a picture costs with 1, 10, 100 and 1,000 in flight: lateness, CPU time of the client's process, its memory.

Our worker has a warm history. Both clients make a few pictures before the clock starts, so that neither start-up nor
first connections count. At low levels they run at the same time; where both together would saturate the sandbox they
take turns. The sandbox's own CPU share is told too: close to one core, the lateness is the sandbox's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.bench import SETTLE_S, Bench, say
from benchmarks.client_process import Client, Made
from benchmarks.figures import merged, samples_of, summary_of
from benchmarks.kinds import FASTEST, TEN_SECONDS
from benchmarks.load import make_all
from benchmarks.our_client import OurClient
from benchmarks.sandbox_process import Booked, Ledger
from benchmarks.scale import Level
from benchmarks.vendor_client import VendorClient

WARM_UP_TASKS = 10
# The SDK fetches no picture, so neither does the worker, which in a gateway keeps a copy of each.
NO_COPIES = {"keep_days": 0}


async def measure_few(bench: Bench) -> list[dict[str, Any]]:
    """Return one entry for each client and level; all at the same time."""
    say(f"few in flight: {' and '.join(str(level.in_flight) for level in bench.scale.few)}, both clients")
    runs = await asyncio.gather(
        *(_run(bench, level, name) for level in bench.scale.few for name in (OurClient.name, VendorClient.name))
    )
    return await _entries(bench, runs)


async def measure_many(bench: Bench) -> list[dict[str, Any]]:
    """Return one entry for each client and level; the clients take turns."""
    runs = []
    for level in bench.scale.many:
        for _ in range(level.turns):
            for name in (OurClient.name, VendorClient.name):
                say(f"many in flight: {level.in_flight}, {name}")
                runs.append(await _run(bench, level, name))
    return await _entries(bench, runs)


async def _entries(bench: Bench, runs: Sequence[Run]) -> list[dict[str, Any]]:
    ledger = await bench.sandbox.ledger()
    of_level: dict[tuple[int, str], list[Run]] = {}
    for run in runs:
        of_level.setdefault((run.level.in_flight, run.client), []).append(run)
    return [_entry(turns, ledger) for turns in of_level.values()]


def _entry(turns: Sequence[Run], ledger: Ledger) -> dict[str, Any]:
    """Return the figures of one client at one level, with the sandbox's ledger for what the client cannot know."""
    made = [one for run in turns for one in run.made]
    wall_s = sum(run.wall_s for run in turns)
    most = max(most_at_once([ledger.tasks[one.task_id] for one in run.made if one.task_id]) for run in turns)
    return {
        "client": turns[0].client,
        "in_flight": turns[0].level.in_flight,
        "tasks": len(made),
        "cpu_ms": round(sum(run.cpu_s for run in turns) / len(made) * 1000, 3),
        "peak_bytes": max(run.peak_bytes for run in turns),
        "pictures_per_s": round(len(made) / wall_s, 2),
        "sandbox_cpu": round(sum(run.sandbox_cpu_s for run in turns) / wall_s, 3),
        "most_at_once": most,
        **asdict(summary_of(merged(samples_of(run.made, ledger) for run in turns))),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One client at one level: what its processes cost and answered."""

    client: str
    level: Level
    made: list[Made]
    cpu_s: float
    peak_bytes: int
    wall_s: float
    sandbox_cpu_s: float


async def _run(bench: Bench, level: Level, name: str) -> Run:
    async with AsyncExitStack() as stack:
        clients: list[Client] = []
        for _ in range(level.processes):
            if name == OurClient.name:
                clients.append(
                    await stack.enter_async_context(bench.ours(home=bench.new_home(history=1.0), config=NO_COPIES))
                )
            else:
                threads = max(level.in_flight, WARM_UP_TASKS)
                clients.append(await stack.enter_async_context(bench.vendors(threads=threads)))
        await asyncio.gather(*(_warm_up(client, level) for client in clients))
        cpu_before_s = sum(client.meter.cpu_s() for client in clients)
        sandbox_before_s, begun_s = bench.sandbox.meter.cpu_s(), time.monotonic()
        answers = await asyncio.gather(*(_make(client, level, place) for place, client in enumerate(clients)))
        wall_s = time.monotonic() - begun_s
        sandbox_cpu_s = bench.sandbox.meter.cpu_s() - sandbox_before_s
        await asyncio.sleep(SETTLE_S)
        return Run(
            client=name,
            level=level,
            made=[one for answer in answers for one in answer],
            cpu_s=sum(client.meter.cpu_s() for client in clients) - cpu_before_s,
            peak_bytes=max(client.meter.peak_bytes() for client in clients),
            wall_s=wall_s,
            sandbox_cpu_s=sandbox_cpu_s,
        )


async def _warm_up(client: Client, level: Level) -> None:
    tasks = min(WARM_UP_TASKS, level.in_flight)
    made = await make_all(client, [FASTEST] * tasks, in_flight=tasks, ramp_s=0.5)
    if failures := [one.failure for one in made if one.failure]:
        raise RuntimeError(f"{client.name} cannot make a picture: {failures[0]}")
    await asyncio.sleep(SETTLE_S)


async def _make(client: Client, level: Level, place: int) -> list[Made]:
    # Those that run side by side begin apart, and a thousand come over the time one picture takes.
    ramp_s = TEN_SECONDS.median_s
    if level.in_flight == 1:
        await asyncio.sleep(ramp_s * place / level.processes)
    return await make_all(client, [TEN_SECONDS] * level.tasks, in_flight=level.in_flight, ramp_s=ramp_s)


def most_at_once(tasks: Sequence[Booked]) -> int:
    """Return how many tasks were in the making or waiting to be fetched at the same time, by the sandbox's ledger.

    That so many were asked for would prove nothing.
    """
    changes = [(task.created_at, 1) for task in tasks]
    changes += [(task.created_at + task.duration_s + (task.lateness_s or 0.0), -1) for task in tasks]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most
