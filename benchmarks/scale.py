"""How much is measured: enough to decide about the targets, or just enough to see that the benchmark itself works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One number of pictures in flight.

    Attributes:
        in_flight: How many one client process has at once.
        tasks: How many pictures one client process makes.
        processes: How many processes of each client run side by side, to gather samples sooner.
        in_turn: Whether the clients take turns instead of running at the same time: together they would saturate
            the sandbox.
        turns: How often.
    """

    in_flight: int
    tasks: int
    processes: int = 1
    in_turn: bool = False
    turns: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Sizes of every part.

    Attributes:
        rounds: How often cold and warm are measured, each time with an empty journal at first.
        burst: Tasks of each kind begun together, before the first of them can teach anything.
        warm_tasks: Tasks of each kind with a warm history.
        warm_in_flight: How many of each kind at once.
        lie_tasks: Tasks of each kind that meet a lying history a few at a time.
        lie_in_flight: How many of each kind that is.
        levels: The numbers in flight.
        leak_calls: Calls through one worker.
        leak_in_flight: How many at once.
        push_tasks: Tasks of each kind with a webhook, all in flight together.
        starts: Processes of each client that make one picture.
    """

    rounds: int
    burst: int
    warm_tasks: int
    warm_in_flight: int
    lie_tasks: int
    lie_in_flight: int
    levels: tuple[Level, ...]
    leak_calls: int
    leak_in_flight: int
    push_tasks: int
    starts: int


FULL = Scale(
    rounds=2,
    burst=40,
    warm_tasks=120,
    warm_in_flight=40,
    lie_tasks=30,
    lie_in_flight=5,
    levels=(
        Level(in_flight=1, tasks=10, processes=8),
        Level(in_flight=10, tasks=100),
        Level(in_flight=100, tasks=250, in_turn=True, turns=2),
        Level(in_flight=1000, tasks=2000, in_turn=True),
    ),
    leak_calls=10_000,
    leak_in_flight=200,
    push_tasks=40,
    starts=20,
)
QUICK = Scale(
    rounds=1,
    burst=10,
    warm_tasks=12,
    warm_in_flight=12,
    lie_tasks=10,
    lie_in_flight=5,
    levels=(
        Level(in_flight=1, tasks=1, processes=8),
        Level(in_flight=10, tasks=10),
        Level(in_flight=100, tasks=100, in_turn=True),
    ),
    leak_calls=1_000,
    leak_in_flight=100,
    push_tasks=10,
    starts=3,
)
