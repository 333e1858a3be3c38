"""The same comparison without I/O: this client's plan of polls, the fixed interval, and what is possible at all.

`tasks/poll_schedule.py` decides as it does in the client; around it stand only draws from the sandbox's distribution
and the client's jitter. It tells whether a measured figure is what the plan promises, and gives the curve of the best
possible trade-offs for the plot. Deterministic for a seed.
"""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

from benchmarks.kinds import KINDS, LEARNING_TASKS, Kind
from benchmarks.lateness import LIES
from benchmarks.optimum import Cost, Durations, best_plans, fixed_interval, least_lateness_s, spaced_by_hazard
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.tasks.poll_schedule import PollSchedule
from flux2_tool.tasks.poll_scheduler import PollScheduler, TaskKind

TASKS = 4000
PRICES_S = (2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.13, 0.09, 0.065, 0.045, 0.03)
BUDGETS = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
FIXED_S = (5.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.25, 1.0)
_ADDRESS = "http://127.0.0.1"
_WIDEST_SIGMAS = 3.0


def simulate(seed: int) -> dict[str, Any]:
    """Return, for each kind, points of (polls a task, mean lateness in seconds), and the least lateness for the polls
    of the warm plan."""
    return {kind.name: _of_kind(kind, seed) for kind in KINDS}


def _of_kind(kind: Kind, seed: int) -> dict[str, Any]:
    durations = Durations(kind.median_s, kind.sigma)
    rng = random.Random(f"{seed} {kind.name}")  # noqa: S311 - durations are no secret
    histories: dict[str, list[float]] = {"cold": []} | {
        name: [_draw_s(kind, rng) * factor for _ in range(LEARNING_TASKS)] for name, factor in LIES.items()
    }
    ours = {name: _one_plan(kind, history, rng) for name, history in histories.items()}
    ours["warm"] = _learning(kind, rng)
    return {
        "ours": {name: _point(cost) for name, cost in ours.items()},
        "fixed": {f"{interval_s:g}": _point(fixed_interval(durations, interval_s)) for interval_s in FIXED_S},
        "by_hazard": [_point(spaced_by_hazard(durations, budget)) for budget in BUDGETS],
        "least_s": round(least_lateness_s(durations, ours["warm"].polls), 4),
        "optimum": [_point(cost) for cost in best_plans(durations, PRICES_S)],
    }


def _one_plan(kind: Kind, history: list[float], rng: random.Random) -> Cost:
    """Return the cost of the plan that a history leads to, before anything new is learned."""
    plan = _paces(kind, history).schedule(_kind_of(kind))
    seen = [_follow(plan, _draw_s(kind, rng), rng) for _ in range(TASKS)]
    return _mean(seen)


def _learning(kind: Kind, rng: random.Random) -> Cost:
    """Return the cost while learning goes on, task by task, after a true history."""
    poll_scheduler = _paces(kind, [_draw_s(kind, rng) for _ in range(LEARNING_TASKS)])
    seen = []
    for _ in range(TASKS):
        plan = poll_scheduler.schedule(_kind_of(kind))
        one = _follow(plan, _draw_s(kind, rng), rng)
        seen.append(one)
        poll_scheduler.learn(_kind_of(kind), one[2])
    return _mean(seen)


def _follow(plan: PollSchedule, duration_s: float, rng: random.Random) -> tuple[int, float, float]:
    """Return how often a task is polled, how late its end is seen, and how long the client thinks that it took."""
    polls, last_s, at_s = 1, 0.0, plan.delay_s(0.0, jitter=rng.uniform(-1, 1))
    while at_s < duration_s:
        last_s = at_s
        at_s += plan.delay_s(at_s, jitter=rng.uniform(-1, 1))
        polls += 1
    expected = plan.expectation
    thought_s = (last_s + at_s) / 2 if expected is None else expected.within_s(last_s, at_s)
    return polls, at_s - duration_s, thought_s


def _paces(kind: Kind, history: list[float]) -> PollScheduler:
    typical = load_manifest().models[kind.model].typical_s
    scheduler = PollScheduler(typical_s=lambda _model, resolution: typical[resolution])
    scheduler.learn_history(_kind_of(kind), history)
    return scheduler


def _kind_of(kind: Kind) -> TaskKind:
    return _ADDRESS, kind.model, kind.resolution


def _draw_s(kind: Kind, rng: random.Random) -> float:
    """Return a duration as the sandbox draws it."""
    sigmas = max(-_WIDEST_SIGMAS, min(_WIDEST_SIGMAS, rng.gauss(0.0, 1.0)))
    return kind.median_s * math.exp(kind.sigma * sigmas)


def _mean(seen: list[tuple[int, float, float]]) -> Cost:
    return Cost(statistics.fmean(one[0] for one in seen), statistics.fmean(one[1] for one in seen))


def _point(cost: Cost) -> list[float]:
    return [round(cost.polls, 3), round(cost.lateness_s, 4)]
