"""The pieces of the benchmark: each takes at most five minutes, and can be measured by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import concurrency, day, lateness, leaks, photos, pictures, push, simulation, start, virtual
from benchmarks.bench import Bench

LONGEST_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece.

    Attributes:
        measure: Returns its figures.
        about: What it measures.
        minutes: How long it takes on two idle cores.
    """

    measure: Callable[[Bench], Awaitable[Any]]
    about: str
    minutes: float


async def _simulate(bench: Bench) -> dict[str, Any]:
    return simulation.simulate(bench.seed)


PIECES: Final = {
    "simulation": Piece(_simulate, "the plan of polls by itself, against the best possible", 0.5),
    "virtual": Piece(virtual.measure, "the whole client on virtual time, 1,000 pictures a kind", 4.0),
    "warm": Piece(lateness.measure_warm, "lateness and polls with a history, 1,000 pictures a kind", 3.0),
    "cold": Piece(lateness.measure_cold, "the same without one, 400 a kind, begun together", 3.0),
    "lies": Piece(lateness.measure_lies, "the same with histories that lie", 4.0),
    "webhooks": Piece(push.measure, "lateness and polls with webhooks", 1.0),
    "start": Piece(start.measure, "a command of its own for a picture", 4.5),
    "few": Piece(concurrency.measure_few, "1 and 10 in flight: CPU time, memory", 2.5),
    "many": Piece(concurrency.measure_many, "100 and 1,000 in flight", 4.5),
    "day": Piece(day.measure, "the journal's CPU time with up to 100,000 records of a day", 1.0),
    "leaks": Piece(leaks.measure, "20,000 calls through one worker", 4.0),
    "photos": Piece(photos.measure, "eight photos of a phone at once", 0.5),
    "pictures": Piece(pictures.measure, "eight worst pictures at once", 5.0),
}
