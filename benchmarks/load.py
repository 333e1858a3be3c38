"""Keep a client busy: so many pictures in flight until all are made."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

from benchmarks.client_process import Client, Made
from benchmarks.kinds import Kind

_prompts = itertools.count(1)


async def make_all(client: Client, pictures: Sequence[Kind], *, in_flight: int, ramp_s: float) -> list[Made]:
    """Have a client make pictures, and return its answers.

    Args:
        client: Who makes them.
        pictures: What to make, in this order.
        in_flight: How many at once; when one is there, the next is asked for.
        ramp_s: Over how many seconds the first ones are spread.
    """
    waiting = iter(pictures)
    made: list[Made] = []
    places = min(in_flight, len(pictures))

    async def fill(place: int) -> None:
        await asyncio.sleep(ramp_s * place / places)
        for kind in waiting:
            made.append(await client.make(kind, f"picture number {next(_prompts)} of a benchmark"))

    await asyncio.gather(*(fill(place) for place in range(places)))
    return made
