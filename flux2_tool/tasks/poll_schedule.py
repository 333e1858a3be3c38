"""Decide when to poll; defines every interval and limit of polling.

For a given number of polls the mean delay is least when their spacing is proportional to one over the square root of
the hazard rate of the duration. The expected durations may be wrong, so gaps are bounded, and a task that outlasts the
expectation is polled at a fixed interval. Pure: no clock, no I/O.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from typing import Final

from flux2_tool.tasks.duration_estimator import NORMAL, DurationEstimator, Expectation

# ---- the planned polls of a running task ----------------------------------------------------------------------------
FIXED_DELAY_S: Final = 2.0
MIN_DELAY_S: Final = 0.25
MAX_DELAY_S: Final = 8.0
FIRST_DELAY_S: Final = 0.75
# The longest gap between planned polls. Two outliers in a row disable the estimate; until then a wrong one delays an
# image by half this gap on average, against 1 s with the fixed interval. While the estimate is cold, COLD_GAP_S holds.
MAX_GAP_S: Final = 4.5
COLD_GAP_S: Final = 2.0
LONGEST_PLAN_S: Final = 900.0
# The polls of a plan, relative to the fixed interval; a cold plan makes fewer than it plans.
WARM_SHARE: Final = 1.05
COLD_SHARE: Final = 1.15
_STEPS: Final = 240
_SCALES: Final = (0.05, 60.0)
_BISECTIONS: Final = 14

# ---- webhooks -------------------------------------------------------------------------------------------------------
# While webhooks are expected, polling only catches lost ones.
WEBHOOK_EXPECTED_DELAY_S: Final = 8.0
# A webhook can arrive before the status changes: the first pause after it; each further pause is twice the last.
EARLY_WEBHOOK_DELAY_S: Final = 0.125

# ---- no call waits, or another process polls -----------------------------------------------------------------------
UNATTENDED_DELAY_S: Final = 8.0
UNATTENDED_LIFE_S: Final = 15 * 60.0
# How often the journal is read while another process polls.
WATCH_DELAY_S: Final = 0.4

# ---- failed polls ---------------------------------------------------------------------------------------------------
# A new task may not be visible yet: for this long a 404 does not mean that the path is wrong.
VISIBILITY_GRACE_S: Final = 3.0
GRACE_DELAY_S: Final = 0.75
NEXT_PATH_DELAY_S: Final = 0.1
FAILURES_BEFORE_NEXT_PATH: Final = 2
FAILURES_BEFORE_LEAVING_PROVEN_PATH: Final = 5
# Polls since the last status that refuse the key, or deny the task, before polling ends.
REFUSALS_BEFORE_END: Final = 5
DENIALS_BEFORE_END: Final = 3
# The least pause after a Retry-After, which may be 0.
MIN_RETRY_AFTER_S: Final = 0.5
# How long a "completed" task without an image is still polled for one.
EMPTY_PATIENCE_S: Final = 15.0


class PollSchedule:
    """The poll schedule of one task.

    Args:
        expectation: The expected duration; None for the fixed interval.
        webhook_expected: Whether polling is only a fallback, because RunAPI sends a webhook at the end.
    """

    def __init__(self, expectation: Expectation | None, *, webhook_expected: bool = False) -> None:
        self.expectation = expectation
        self._webhook_expected = webhook_expected
        self._times = () if expectation is None or webhook_expected else _poll_times(expectation)

    def delay_s(self, elapsed_s: float) -> float:
        """Return the pause from now until the next poll, in seconds, before jitter.

        Args:
            elapsed_s: The time since the task was accepted, on this machine's clock.
        """
        if self._webhook_expected:
            return WEBHOOK_EXPECTED_DELAY_S
        # A slightly early poll counts as the planned one.
        index = bisect.bisect_right(self._times, elapsed_s + MIN_DELAY_S / 2)
        if index < len(self._times):
            return max(MIN_DELAY_S, self._times[index] - elapsed_s)
        if elapsed_s < FIRST_DELAY_S:
            return FIRST_DELAY_S
        if elapsed_s < 120.0:
            return FIXED_DELAY_S
        return min(MAX_DELAY_S, elapsed_s / 60.0)


def _poll_times(expectation: Expectation) -> tuple[float, ...]:
    """Return the planned poll times, in seconds since acceptance, up to the 99.75 % quantile of the duration.

    Their spacing is proportional to one over the square root of the hazard, with a longest gap; the factor is found by
    bisection, so that a task is polled about as often as with the fixed interval.
    """
    end_s = min(LONGEST_PLAN_S, expectation.quantile_s(0.9975))
    steps = max(_STEPS, math.ceil(end_s / MIN_DELAY_S))
    step_s = end_s / steps
    weights: list[float] = []
    still_running: list[float] = []
    for number in range(steps):
        at_s = (number + 0.5) * step_s
        z = expectation.z(at_s)
        density = math.exp(-z * z / 2.0) / (at_s * expectation.sigma * math.sqrt(2.0 * math.pi))
        survival = max(1e-9, 1.0 - NORMAL.cdf(z))
        weights.append(math.sqrt(density / survival) * step_s)
        still_running.append(survival)
    gaps_s = (FIRST_DELAY_S, COLD_GAP_S) if expectation.is_cold else (MAX_GAP_S, MAX_GAP_S)
    # The vendor's client polls at once, then every 2 s, and ends half an interval late on average.
    wanted = (COLD_SHARE if expectation.is_cold else WARM_SHARE) * (expectation.mean_s / FIXED_DELAY_S + 1.5)
    low, high = _SCALES
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        planned = _spaced(weights, middle, step_s=step_s, gaps_s=gaps_s)
        if 1.0 + sum(still_running[index] for index in planned) > wanted:
            high = middle
        else:
            low = middle
    return tuple((index + 1) * step_s for index in _spaced(weights, low, step_s=step_s, gaps_s=gaps_s))


def _spaced(weights: Sequence[float], scale: float, *, step_s: float, gaps_s: tuple[float, float]) -> Sequence[int]:
    """Return the steps at which to poll: whenever the scaled weights add up to one, or after the longest gap."""
    polled: list[int] = []
    last_s, due, (gap_s, later_gap_s) = 0.0, 0.0, gaps_s
    for number, weight in enumerate(weights):
        due += weight * scale
        at_s = (number + 1) * step_s
        if at_s - last_s >= gap_s or (due >= 1.0 and at_s - last_s >= MIN_DELAY_S):
            polled.append(number)
            last_s, due, gap_s = at_s, max(0.0, due - 1.0), later_gap_s
    return polled


# Base URL, model and resolution.
TaskKind = tuple[str, str, str]


class PollScheduler:
    """The schedules of one process, learned for each base URL, model and resolution.

    Args:
        typical_s: Returns the typical duration of a model at a resolution, in seconds.
    """

    def __init__(self, *, typical_s: Callable[[str, str], float]) -> None:
        self._typical_s = typical_s
        self._estimators: dict[TaskKind, DurationEstimator] = {}
        self._schedules: dict[TaskKind, tuple[int, PollSchedule]] = {}

    def schedule(
        self, base_url: str, model: str | None, resolution: str | None, *, webhook_expected: bool = False
    ) -> PollSchedule:
        """Return the schedule of a task of this kind; the fixed interval where model or resolution is unknown.

        Args:
            webhook_expected: Whether polling is only a fallback, because RunAPI sends a webhook at the end.
        """
        if webhook_expected:
            learned = self.schedule(base_url, model, resolution)
            return PollSchedule(learned.expectation, webhook_expected=True)
        if model is None or resolution is None:
            return PollSchedule(None)
        kind = (base_url, model, resolution)
        estimator = self._estimator(kind)
        samples, schedule = self._schedules.get(kind, (-1, None))
        # Planning costs more than a poll; one more sample among many hardly changes a schedule.
        if (
            schedule is None
            or estimator.samples - samples > samples // 10
            or estimator.is_fixed != (schedule.expectation is None)
        ):
            schedule = PollSchedule(estimator.expectation())
            self._schedules[kind] = (estimator.samples, schedule)
        return schedule

    def learn(self, base_url: str, model: str | None, resolution: str | None, duration_s: float) -> None:
        """Learn a task's duration, in seconds."""
        if model is not None and resolution is not None:
            self._estimator((base_url, model, resolution)).learn(duration_s)

    def knows(self, kind: TaskKind) -> bool:
        """Whether anything was learned or asked about tasks of this kind."""
        return kind in self._estimators

    def learn_history(self, kind: TaskKind, durations_s: Sequence[float]) -> None:
        """Learn the durations of tasks before this process, oldest first, in seconds."""
        for duration_s in durations_s:
            self._estimator(kind).learn(duration_s)

    def _estimator(self, kind: TaskKind) -> DurationEstimator:
        estimator = self._estimators.get(kind)
        if estimator is None:
            estimator = self._estimators[kind] = DurationEstimator(prior_s=self._typical_s(kind[1], kind[2]))
        return estimator
