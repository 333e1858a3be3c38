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
        cold_rounds: How often cold is measured, each time with an empty journal.
        cold_burst: Tasks of each kind begun together then.
        warm_tasks: Tasks of each kind with a warm history.
        warm_in_flight: How many of each kind at once.
        lie_rounds: How often lies are measured with all begun together.
        lie_burst: Tasks of each kind begun together then.
        lie_tasks: Tasks of each kind that meet a lying history a few at a time.
        lie_in_flight: How many of each kind that is.
        few: The numbers in flight that are measured side by side.
        many: Those at which the clients take turns.
        leak_calls: Calls through one worker.
        leak_in_flight: How many at once.
        push_tasks: Tasks of each kind with a webhook, all in flight together.
        starts: Processes of each client that make one picture.
        day_records: Records of one day in the journal, while pictures are added.
        day_turns: How often that is measured.
        virtual_tasks: Tasks of each kind with a history, on virtual time.
        virtual_rounds: How often the other histories are made there.
    """

    cold_rounds: int
    cold_burst: int
    warm_tasks: int
    warm_in_flight: int
    lie_rounds: int
    lie_burst: int
    lie_tasks: int
    lie_in_flight: int
    few: tuple[Level, ...]
    many: tuple[Level, ...]
    leak_calls: int
    leak_in_flight: int
    push_tasks: int
    starts: int
    day_records: tuple[int, ...]
    day_turns: int
    virtual_tasks: int
    virtual_rounds: int


FULL = Scale(
    cold_rounds=4,
    cold_burst=100,
    warm_tasks=1000,
    warm_in_flight=100,
    lie_rounds=2,
    lie_burst=40,
    lie_tasks=30,
    lie_in_flight=5,
    few=(
        Level(in_flight=1, tasks=10, processes=8),
        Level(in_flight=10, tasks=100),
    ),
    many=(
        Level(in_flight=100, tasks=150, in_turn=True, turns=2),
        Level(in_flight=1000, tasks=2000, in_turn=True),
    ),
    leak_calls=20_000,
    leak_in_flight=200,
    push_tasks=40,
    starts=18,
    day_records=(1, 1_000, 10_000, 100_000),
    day_turns=7,
    virtual_tasks=1000,
    virtual_rounds=6,
)
QUICK = Scale(
    cold_rounds=1,
    cold_burst=10,
    warm_tasks=12,
    warm_in_flight=12,
    lie_rounds=1,
    lie_burst=10,
    lie_tasks=10,
    lie_in_flight=5,
    few=(
        Level(in_flight=1, tasks=1, processes=8),
        Level(in_flight=10, tasks=10),
    ),
    many=(Level(in_flight=100, tasks=100, in_turn=True),),
    leak_calls=1_000,
    leak_in_flight=100,
    push_tasks=10,
    starts=3,
    day_records=(1, 1_000),
    day_turns=3,
    virtual_tasks=12,
    virtual_rounds=1,
)
