"""How late a finished picture is seen, and for how many polls: cold, warm, and with a history that lies.

Both clients make the same kinds at the same time against the same sandbox, whose ledger gives the figures.

- cold: an empty journal; all tasks are begun before the first is over, so that none can learn from another.
- warm: the same journal, in a new process; it holds what the cold tasks taught.
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
from benchmarks.figures import samples_of
from benchmarks.history import write_lies
from benchmarks.kinds import KINDS
from benchmarks.load import make_all

LIES = {"too short": 1 / 6, "too long": 6.0}
AT_ONCE, IN_USE = "at once", "in use"


def lying(lie: str, how: str) -> str:
    """Return how results call a history that lies."""
    return f"{lie}, {how}"


HISTORIES = ("cold", "warm", *(lying(lie, how) for how in (AT_ONCE, IN_USE) for lie in LIES))


async def measure(bench: Bench) -> list[dict[str, Any]]:
    """Return one entry for each client, history, kind and round."""
    found: list[dict[str, Any]] = []
    scale = bench.scale
    for number in range(scale.rounds):
        home = bench.new_home()
        say(f"lateness: begun together, cold and with lies, round {number + 1} of {scale.rounds}")
        async with AsyncExitStack() as stack:
            liars = {lying(lie, AT_ONCE): await _with_lie(bench, stack, lie) for lie in LIES}
            cold = await stack.enter_async_context(bench.ours(home=home))
            theirs = await stack.enter_async_context(bench.vendors(threads=scale.burst * len(KINDS)))
            found += await _side_by_side(bench, {"cold": cold, **liars}, theirs, tasks=scale.burst, in_flight=None)
        say(f"lateness: warm, round {number + 1} of {scale.rounds}")
        in_flight = scale.warm_in_flight
        async with bench.ours(home=home) as warm, bench.vendors(threads=in_flight * len(KINDS)) as theirs:
            found += await _side_by_side(bench, {"warm": warm}, theirs, tasks=scale.warm_tasks, in_flight=in_flight)
    say("lateness: histories that lie, a few at a time")
    in_flight = scale.lie_in_flight
    async with AsyncExitStack() as stack:
        liars = {lying(lie, IN_USE): await _with_lie(bench, stack, lie) for lie in LIES}
        theirs = await stack.enter_async_context(bench.vendors(threads=in_flight * len(KINDS)))
        found += await _side_by_side(bench, liars, theirs, tasks=scale.lie_tasks, in_flight=in_flight)
    return found


async def _with_lie(bench: Bench, stack: AsyncExitStack, lie: str) -> Client:
    home = bench.new_home()
    write_lies(home, base_url=bench.sandbox.base_url, factor=LIES[lie], rng=bench.rng)
    return await stack.enter_async_context(bench.ours(home=home))


async def _side_by_side(
    bench: Bench, ours: dict[str, Client], theirs: Client, *, tasks: int, in_flight: int | None
) -> list[dict[str, Any]]:
    """Have all clients make the same kinds at the same time.

    Args:
        ours: Our clients, by what their history is.
        theirs: The client to compare with; its figures count for each of those histories.
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
    return [
        {
            "client": client.name,
            "history": history,
            "kind": kind.name,
            **asdict(samples_of([one for one in of_client[client] if one.kind == kind], ledger)),
        }
        for history, mine in ours.items()
        for client in (mine, theirs)
        for kind in KINDS
    ]


async def _make(bench: Bench, client: Client, tasks: int, in_flight: int | None) -> list[Made]:
    if in_flight is None:
        burst = [kind for kind in KINDS for _ in range(tasks)]
        bench.rng.shuffle(burst)
        return await make_all(client, burst, in_flight=len(burst), ramp_s=BURST_RAMP_S)
    batches = await asyncio.gather(
        *(make_all(client, [kind] * tasks, in_flight=in_flight, ramp_s=kind.median_s) for kind in KINDS)
    )
    return [one for batch in batches for one in batch]
