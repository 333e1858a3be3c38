"""The least mean lateness that any plan of polls can reach, and what simpler plans reach, for log-normal durations.

A plan is a list of instants; whoever follows it polls at each until the task is found finished. A plan's cost is how
often it polls, and how long a finished task waits for the next poll. For each price of a poll the best plan is found
exactly, by dynamic programming on a grid of instants (Barlow, Hunter and Proschan's inspection problem); going through
prices gives the curve of the best trade-offs. Polls spaced in proportion to one over the square root of the hazard come
close to it. Pure: no clock, no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

# The sandbox draws no duration further out than this.
_WIDEST_SIGMAS = 3.0
_STEPS = 420
_BISECTIONS = 12
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Cost:
    """What a plan costs on average: polls a task, and seconds that a finished task is not seen."""

    polls: float
    lateness_s: float


class Durations:
    """Log-normal durations, cut where the sandbox cuts them.

    Args:
        median_s: In seconds.
        sigma: Standard deviation of the logarithm.
    """

    def __init__(self, median_s: float, sigma: float) -> None:
        self.median_s = median_s
        self.sigma = sigma
        self.first_s = median_s * math.exp(-_WIDEST_SIGMAS * sigma)
        self.last_s = median_s * math.exp(_WIDEST_SIGMAS * sigma)

    def done(self, at_s: float) -> float:
        """Return the share of tasks that is finished at an age."""
        if at_s < self.first_s:
            return 0.0
        return 1.0 if at_s >= self.last_s else _NORMAL.cdf(math.log(at_s / self.median_s) / self.sigma)

    def hazard(self, at_s: float) -> float:
        """Return the chance per second that a task still running at an age finishes then."""
        z = math.log(at_s / self.median_s) / self.sigma
        return _NORMAL.pdf(z) / (at_s * self.sigma * max(1e-12, 1.0 - _NORMAL.cdf(z)))

    def waited(self, at_s: float) -> float:
        """Return the mean time since their end of all tasks at an age, counting none for those still running.

        It is the integral of `done` up to that age, in closed form for a log-normal.
        """
        if at_s <= self.first_s:
            return 0.0
        beyond_s = max(0.0, at_s - self.last_s)
        at_s = min(at_s, self.last_s)
        z = math.log(at_s / self.median_s) / self.sigma
        ended = self.median_s * math.exp(self.sigma**2 / 2) * _NORMAL.cdf(z - self.sigma)
        return at_s * _NORMAL.cdf(z) - ended + beyond_s

    def cost(self, times_s: Sequence[float]) -> Cost:
        """Return what a plan costs; its last instant must come after the last task."""
        polls = lateness_s = last_s = 0.0
        for time_s in times_s:
            polls += 1.0 - self.done(last_s)
            lateness_s += self._late(last_s, time_s)
            last_s = time_s
        return Cost(polls, lateness_s)

    def _late(self, last_s: float, next_s: float) -> float:
        """Return what those that finish between two polls add to the mean lateness."""
        return self.waited(next_s) - self.waited(last_s) - (next_s - last_s) * self.done(last_s)


def best_plans(durations: Durations, prices_s: Sequence[float]) -> list[Cost]:
    """Return the cost of the best plan for each price of a poll, in seconds of lateness."""
    step_s = durations.last_s / _STEPS
    times_s = [number * step_s for number in range(_STEPS + 1)]
    done = [durations.done(time_s) for time_s in times_s]
    waited = [durations.waited(time_s) for time_s in times_s]
    done[-1] = 1.0
    found = []
    for price_s in prices_s:
        value = [0.0] * (_STEPS + 1)
        following = [_STEPS] * (_STEPS + 1)
        for here in range(_STEPS - 1, -1, -1):
            # From a poll that saw it running to the next: its price, those that finish meanwhile, and what comes then.
            fixed = price_s * (1.0 - done[here]) - waited[here] + times_s[here] * done[here]
            best, value[here] = min(
                (
                    (there, fixed + waited[there] - times_s[there] * done[here] + value[there])
                    for there in range(here + 1, _STEPS + 1)
                ),
                key=lambda option: option[1],
            )
            following[here] = best
        plan, here = [], 0
        while here < _STEPS:
            here = following[here]
            plan.append(times_s[here])
        found.append(durations.cost(plan))
    return found


def least_lateness_s(durations: Durations, polls: float) -> float:
    """Return the least mean lateness that a plan of so many polls a task can reach, in seconds.

    Between the two best plans around that number it is on the straight line, as for whoever follows one of them by
    chance.
    """
    low_s, high_s = 0.005, 4.0
    few, many = best_plans(durations, (high_s, low_s))
    for _ in range(_BISECTIONS):
        price_s = math.sqrt(low_s * high_s)
        [cost] = best_plans(durations, (price_s,))
        if cost.polls > polls:
            low_s, many = price_s, cost
        else:
            high_s, few = price_s, cost
    if many.polls == few.polls:
        return few.lateness_s
    share = (polls - few.polls) / (many.polls - few.polls)
    return few.lateness_s + share * (many.lateness_s - few.lateness_s)


def spaced_by_hazard(durations: Durations, budget: float) -> Cost:
    """Return the cost of polls spaced in proportion to one over the square root of the hazard.

    Args:
        budget: The scale is chosen for this many polls a task, as the rule counts them.
    """
    step_s = durations.last_s / _STEPS / 10
    weights = [0.0]
    total = 0.0
    for number in range(1, _STEPS * 10):
        at_s = number * step_s
        weight = math.sqrt(durations.hazard(at_s)) if at_s > durations.first_s else 0.0
        total += weight * (1.0 - durations.done(at_s)) * step_s
        weights.append(weight)
    times_s, due = [], 0.0
    for number, weight in enumerate(weights):
        due += weight * step_s * budget / total
        if due >= 1.0:
            times_s.append(number * step_s)
            due -= 1.0
    return durations.cost([*times_s, durations.last_s])


def fixed_interval(durations: Durations, interval_s: float) -> Cost:
    """Return the cost of polling at once and then at a fixed interval, as the vendor's SDK does."""
    return durations.cost([number * interval_s for number in range(math.ceil(durations.last_s / interval_s) + 2)])
