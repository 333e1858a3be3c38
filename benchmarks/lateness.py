"""How late a finished picture is seen, and for how many polls: cold, warm, and with a history that lies.

Both clients make the same kinds at the same time against the same sandbox, whose ledger gives the figures.

- cold: an empty journal; all tasks are begun before the first is over, so that none can learn from another.
- warm: a journal with forty durations of each kind.
- too short, too long: journals that say a sixth and six times of the truth. At once: all begun before the first is
  over, so that each is planned by the lie. In use: a few at a time, as the client meets a service that has changed.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Any

from benchmarks.bench import BURST_RAMP_S, SETTLE_S, Bench, say
from benchmarks.client_process import Client, Made
from benchmarks.figures import Samples, merged, samples_of, summary_of
from benchmarks.kinds import KINDS
from benchmarks.load import make_all

LIES = {"too short": 1 / 6, "too long": 6.0}
AT_ONCE, IN_USE = "at once", "in use"
ALL = "all four"


def lying(lie: str, how: str) -> str:
    """Return how results call a history that lies."""
    return f"{lie}, {how}"


HISTORIES = ("cold", "warm", *(lying(lie, how) for how in (AT_ONCE, IN_USE) for lie in LIES))


Found = dict[tuple[str, str, str], list[Samples]]


async def measure_warm(bench: Bench) -> list[dict[str, Any]]:
    """Return one entry for each client and kind, and one for all kinds, with a true history."""
    found: Found = {}
    scale, in_flight = bench.scale, bench.scale.warm_in_flight
    say(f"warm: {scale.warm_tasks} of each kind, {in_flight} at a time")
    async with (
        bench.ours(home=bench.new_home(history=1.0)) as warm,
        bench.vendors(threads=in_flight * len(KINDS)) as theirs,
    ):
        await _side_by_side(bench, {"warm": warm}, theirs, found, tasks=scale.warm_tasks, in_flight=in_flight)
    return _entries(found)


async def measure_cold(bench: Bench) -> list[dict[str, Any]]:
    """Return the same without a history, all begun together."""
    found: Found = {}
    scale = bench.scale
    for number in range(scale.cold_rounds):
        say(f"cold: {scale.cold_burst} of each kind begun together, round {number + 1} of {scale.cold_rounds}")
        async with bench.ours() as cold, bench.vendors(threads=scale.cold_burst * len(KINDS)) as theirs:
            await _side_by_side(bench, {"cold": cold}, theirs, found, tasks=scale.cold_burst, in_flight=None)
    return _entries(found)


async def measure_lies(bench: Bench) -> list[dict[str, Any]]:
    """Return the same with histories that lie, begun together and a few at a time."""
    found: Found = {}
    scale = bench.scale
    for number in range(scale.lie_rounds):
        say(f"lies: {scale.lie_burst} of each kind begun together, round {number + 1} of {scale.lie_rounds}")
        async with AsyncExitStack() as stack:
            liars = {lying(lie, AT_ONCE): await _with_lie(bench, stack, lie) for lie in LIES}
            theirs = await stack.enter_async_context(bench.vendors(threads=scale.lie_burst * len(KINDS)))
            await _side_by_side(bench, liars, theirs, found, tasks=scale.lie_burst, in_flight=None)
    say(f"lies: {scale.lie_tasks} of each kind, {scale.lie_in_flight} at a time")
    in_flight = scale.lie_in_flight
    async with AsyncExitStack() as stack:
        liars = {lying(lie, IN_USE): await _with_lie(bench, stack, lie) for lie in LIES}
        theirs = await stack.enter_async_context(bench.vendors(threads=in_flight * len(KINDS)))
        await _side_by_side(bench, liars, theirs, found, tasks=scale.lie_tasks, in_flight=in_flight)
    return _entries(found)


def _entries(found: Found) -> list[dict[str, Any]]:
    for client, history in {(client, history) for client, history, _kind in found}:
        found[client, history, ALL] = [one for kind in KINDS for one in found[client, history, kind.name]]
    return [
        {"client": client, "history": history, "kind": kind, **asdict(summary_of(merged(parts)))}
        for (client, history, kind), parts in sorted(found.items())
    ]


async def _with_lie(bench: Bench, stack: AsyncExitStack, lie: str) -> Client:
    return await stack.enter_async_context(bench.ours(home=bench.new_home(history=LIES[lie])))


async def _side_by_side(
    bench: Bench, ours: dict[str, Client], theirs: Client, found: Found, *, tasks: int, in_flight: int | None
) -> None:
    """Have all clients make the same kinds at the same time.

    Args:
        ours: Our clients, by what their history is.
        theirs: The client to compare with; its figures count for each of those histories.
        found: Where the samples go.
        tasks: How many of each kind.
        in_flight: How many of each kind at once; None begins all together.
    """
    not_found = (await bench.sandbox.ledger()).polls_not_found
    clients = [*ours.values(), theirs]
    answers = await asyncio.gather(*(_make(bench, client, tasks, in_flight) for client in clients))
    await asyncio.sleep(SETTLE_S)
    ledger = await bench.sandbox.ledger()
    for client, made in zip(clients, answers, strict=True):
        if (creates := ledger.creates_of(client.api_key)) != len(made):
            raise RuntimeError(f"{client.name} sent {creates} create POSTs for {len(made)} pictures")
    if ledger.polls_not_found != not_found:
        raise RuntimeError(f"{ledger.polls_not_found - not_found} polls asked where nothing is; they are in no figure")
    of_client = dict(zip(clients, answers, strict=True))
    for history, mine in ours.items():
        for client in (mine, theirs):
            for kind in KINDS:
                made = [one for one in of_client[client] if one.kind == kind]
                found.setdefault((client.name, history, kind.name), []).append(samples_of(made, ledger))


async def _make(bench: Bench, client: Client, tasks: int, in_flight: int | None) -> list[Made]:
    if in_flight is None:
        burst = [kind for kind in KINDS for _ in range(tasks)]
        bench.rng.shuffle(burst)
        return await make_all(client, burst, in_flight=len(burst), ramp_s=BURST_RAMP_S)
    batches = await asyncio.gather(
        *(make_all(client, [kind] * tasks, in_flight=in_flight, ramp_s=kind.median_s) for kind in KINDS)
    )
    return [one for batch in batches for one in batch]
