"""The whole client on virtual time, against the sandbox in the same process: what the polls of its real loop cost.

Between this and the simulation of the plan alone stand the client's loop, learning while others are in flight, and what
one task tells the others; between this and the measured pieces stand requests' time and the machine. Neither a clock
nor an idle machine is needed, and a seed repeats its figures. The SDK's are those of its fixed interval for the same
durations.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.bench import BURST_RAMP_S, Bench, say
from benchmarks.figures import FIXED_S, Samples, merged, summary_of
from benchmarks.history import write_history
from benchmarks.kinds import KINDS, Kind
from benchmarks.lateness import ALL, AT_ONCE, IN_USE, LIES, lying
from benchmarks.our_client import CALLS_OF_A_SESSION, WAIT_S, OurClient
from benchmarks.sandbox_process import BALANCE_CENTS
from benchmarks.vendor_client import VendorClient
from flux2_tool.sandbox import SandboxOptions
from tests.support.harness import BASE_URL, SandboxTransport, opened_tool
from tests.support.hosted import HostedEngine
from tests.support.virtual_time import run_virtual

_NO_CAP_USD = 1_000_000.0
Found = dict[tuple[str, str, str], list[Samples]]


async def measure(bench: Bench) -> list[dict[str, Any]]:
    """Return one entry for each client, history and kind, as the measured pieces do."""
    return await asyncio.to_thread(_measure, bench)


def _measure(bench: Bench) -> list[dict[str, Any]]:
    scale = bench.scale
    cases: list[tuple[str, float | None, int, int | None, int]] = [
        ("warm", 1.0, scale.virtual_tasks, scale.warm_in_flight, 1),
        ("cold", None, scale.lie_burst, None, scale.virtual_rounds),
    ]
    cases += [(lying(lie, AT_ONCE), LIES[lie], scale.lie_burst, None, scale.virtual_rounds) for lie in LIES]
    cases += [
        (lying(lie, IN_USE), LIES[lie], scale.lie_tasks, scale.lie_in_flight, scale.virtual_rounds) for lie in LIES
    ]
    found: Found = {}
    for name, factor, tasks, in_flight, rounds in cases:
        say(f"virtual: {name}")
        for number in range(rounds):
            home = bench.folder / f"virtual-{name}-{number}"
            if factor is not None:
                write_history(home, base_url=BASE_URL, factor=factor, rng=bench.rng)
            _round(home / "data", name, tasks=tasks, in_flight=in_flight, seed=bench.seed + number, found=found)
    for client, history in {(client, history) for client, history, _kind in found}:
        found[client, history, ALL] = [one for kind in KINDS for one in found[client, history, kind.name]]
    return [
        {"client": client, "history": history, "kind": kind, **asdict(summary_of(merged(parts)))}
        for (client, history, kind), parts in sorted(found.items())
    ]


def _round(home: Path, name: str, *, tasks: int, in_flight: int | None, seed: int, found: Found) -> None:
    options = SandboxOptions(drawn_images=False, seed=seed, balance_cents=BALANCE_CENTS)
    runapi = SandboxTransport(options)
    kinds: dict[str, Kind] = {}
    numbers = itertools.count(1)

    async def fill(tool: HostedEngine, waiting: Iterator[Kind], after_s: float) -> None:
        await asyncio.sleep(after_s)
        for kind in waiting:
            number = next(numbers)
            result = await tool.call(
                "text_to_image",
                {"prompt": f"picture {number}", "model": kind.model, "output_resolution": kind.resolution},
                session=f"chat-{number // CALLS_OF_A_SESSION}",
                wait_s=WAIT_S,
            )
            if "error" in result:
                raise RuntimeError(result["error"]["message"])
            kinds[result["task"]["id"]] = kind

    async def load(tool: HostedEngine, pictures: Sequence[Kind], places: int, ramp_s: float) -> None:
        waiting = iter(pictures)
        await asyncio.gather(*(fill(tool, waiting, ramp_s * place / places) for place in range(places)))

    async def main() -> None:
        async with opened_tool(home, runapi, daily_cap_usd=_NO_CAP_USD) as tool:
            if in_flight is None:
                burst = [kind for kind in KINDS for _ in range(tasks)]
                random.Random(seed).shuffle(burst)  # noqa: S311 - which kind comes first is no secret
                await load(tool, burst, len(burst), BURST_RAMP_S)
            else:
                await asyncio.gather(*(load(tool, [kind] * tasks, in_flight, kind.median_s) for kind in KINDS))

    run_virtual(main())
    for kind in KINDS:
        ours, theirs = Samples(), Samples()
        for task_id, task in runapi.sandbox.ledger.tasks.items():
            if kinds[task_id] != kind:
                continue
            duration_s = task.finish_at - task.created_at
            rounds = math.ceil(duration_s / FIXED_S)
            late_s = (task.first_seen_finished_at or math.inf) - task.finish_at
            for samples, lateness_s, polls in (
                (ours, late_s, task.polls),
                (theirs, rounds * FIXED_S - duration_s, rounds + 1),
            ):
                samples.lateness_s.append(lateness_s)
                samples.polls.append(polls)
                samples.duration_s.append(duration_s)
        found.setdefault((OurClient.name, name, kind.name), []).append(ours)
        found.setdefault((VendorClient.name, name, kind.name), []).append(theirs)
