"""Decide when to poll, from how long such tasks have taken.

For a given number of polls the mean lateness is least when their spacing is proportional to one over the square root
of the hazard, the chance that a task still running finishes now. Durations are taken as log-normal, learned from the
journal with old samples fading, and from the manifest's typical times while there are none. History may be wrong, so
gaps are bounded, a task that outlives the expectation is polled at a fixed interval, and two surprises in a row turn
learning off until the durations agree again. Pure: no clock, no I/O.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

FIXED_DELAY_S: Final = 2.0
MIN_DELAY_S: Final = 0.25
# The longest gap bounds how late a wrong history can make a picture until two surprises have turned it off: half of it
# on average, against 1 s with the fixed interval. With hardly any history it is that of the fixed interval.
MAX_GAP_S: Final = 4.5
COLD_GAP_S: Final = 2.0
FIRST_DELAY_S: Final = 0.75
SAMPLES_TO_TRUST: Final = 5
MAX_DELAY_S: Final = 8.0
# While RunAPI tells when a task is over, polling only catches what is lost on the way.
WEBHOOK_EXPECTED_DELAY_S: Final = 8.0
PRIOR_SIGMA: Final = 0.45
PRIOR_WEIGHT: Final = 1.5
# How many samples the wide spread of the beginning counts for.
SPREAD_WEIGHT: Final = 0.3
MIN_SIGMA: Final = 0.08
# After this many newer samples an old one counts half.
HALF_LIFE_SAMPLES: Final = 25.0
SURPRISE_Z: Final = 2.4
SURPRISES_TO_FIXED: Final = 2
AGREEING_TO_LEARNED: Final = 5
LONGEST_PLAN_S: Final = 900.0
# How many polls a plan may make, against those of the fixed interval; a cold one makes fewer than it plans.
WARM_SHARE: Final = 1.05
COLD_SHARE: Final = 1.15
_STEPS: Final = 240
_SCALES: Final = (0.05, 60.0)
_BISECTIONS: Final = 14
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Expectation:
    """Durations as a log-normal: the median in seconds and the standard deviation of their logarithm.

    `is_cold` says that it rests on typical times rather than on tasks that were seen.
    """

    median_s: float
    sigma: float
    is_cold: bool = False

    def z(self, elapsed_s: float) -> float:
        """Return how many deviations a duration lies from the median, on the logarithm."""
        return math.log(max(elapsed_s, 1e-6) / self.median_s) / self.sigma

    def quantile_s(self, share: float) -> float:
        """Return the duration that this share of tasks does not outlast, in seconds."""
        return self.median_s * math.exp(self.sigma * _NORMAL.inv_cdf(share))

    @property
    def mean_s(self) -> float:
        """The mean duration, in seconds."""
        return self.median_s * math.exp(self.sigma**2 / 2.0)

    def left_s(self, elapsed_s: float) -> float | None:
        """Return how much longer a task still running will probably take, in seconds; None when nobody can say."""
        done = _NORMAL.cdf(self.z(elapsed_s))
        if done > 0.97:
            return None
        return self.quantile_s((1.0 + done) / 2.0) - elapsed_s


class PollSchedule:
    """When to poll one task.

    Args:
        expectation: How long it will probably take; None for the fixed interval.
        webhook_expected: Whether polling is only a safety net, because RunAPI tells of the end itself.
    """

    def __init__(self, expectation: Expectation | None, *, webhook_expected: bool = False) -> None:
        self.expectation = expectation
        self._webhook_expected = webhook_expected
        self._times = () if expectation is None or webhook_expected else _poll_times(expectation)

    def delay_s(self, elapsed_s: float) -> float:
        """Return the pause from now until the next poll, in seconds, before jitter.

        Args:
            elapsed_s: How long the task has been running, on this machine's clock.
        """
        if self._webhook_expected:
            return WEBHOOK_EXPECTED_DELAY_S
        # A poll that comes a little early counts as the planned one.
        index = bisect.bisect_right(self._times, elapsed_s + MIN_DELAY_S / 2)
        if index < len(self._times):
            return max(MIN_DELAY_S, self._times[index] - elapsed_s)
        if elapsed_s < FIRST_DELAY_S:
            return FIRST_DELAY_S
        if elapsed_s < 120.0:
            return FIXED_DELAY_S
        return min(MAX_DELAY_S, elapsed_s / 60.0)


def _poll_times(expectation: Expectation) -> tuple[float, ...]:
    """Return the planned instants up to where the expectation is exhausted, in seconds since acceptance.

    Their spacing is in proportion to one over the square root of the hazard, with a longest gap; the proportion is
    found by bisection, so that a task is polled about as often as a fixed interval would.
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
        survival = max(1e-9, 1.0 - _NORMAL.cdf(z))
        weights.append(math.sqrt(density / survival) * step_s)
        still_running.append(survival)
    gaps_s = (FIRST_DELAY_S, COLD_GAP_S) if expectation.is_cold else (MAX_GAP_S, MAX_GAP_S)
    # The vendor's client polls at once, then every 2 s, and half an interval late at the end.
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
    """Return the steps at which to poll: whenever the scaled weights add up to one, or the longest gap is over."""
    polled: list[int] = []
    last_s, due, (gap_s, later_gap_s) = 0.0, 0.0, gaps_s
    for number, weight in enumerate(weights):
        due += weight * scale
        at_s = (number + 1) * step_s
        if at_s - last_s >= gap_s or (due >= 1.0 and at_s - last_s >= MIN_DELAY_S):
            polled.append(number)
            last_s, due, gap_s = at_s, max(0.0, due - 1.0), later_gap_s
    return polled


@dataclass(slots=True)
class DurationEstimator:
    """What is known of one kind of task: tool, model and resolution at one base URL.

    Attributes:
        prior_s: The typical duration to begin with, in seconds.
        samples: How many durations it has seen.
    """

    prior_s: float
    samples: int = field(init=False, default=0)
    _weight: float = field(init=False, default=0.0)
    _sum: float = field(init=False, default=0.0)
    _squares: float = field(init=False, default=0.0)
    _prior_weight: float = field(init=False, default=PRIOR_WEIGHT)
    _surprises: int = field(init=False, default=0)
    _agreeing: int = field(init=False, default=AGREEING_TO_LEARNED)

    @property
    def is_fixed(self) -> bool:
        """Whether surprises have turned learning off for now."""
        return self._agreeing < AGREEING_TO_LEARNED

    def expectation(self) -> Expectation | None:
        """Return what to expect of the next task, or None while the history contradicts itself."""
        return None if self.is_fixed else self._fit()

    def learn(self, duration_s: float) -> None:
        """Take in how long a task took, in seconds; oldest first."""
        if not math.isfinite(duration_s) or not 0.05 <= duration_s <= 86400.0:
            return
        self.samples += 1
        surprising = abs(self._fit().z(duration_s)) > SURPRISE_Z
        self._surprises = self._surprises + 1 if surprising else 0
        if self._surprises >= SURPRISES_TO_FIXED:
            # What was believed is wrong: begin again from what was seen last, and poll plainly meanwhile.
            self._weight = self._sum = self._squares = self._prior_weight = 0.0
            self._agreeing = self._surprises = 0
        elif self.is_fixed:
            self._agreeing = 0 if surprising else self._agreeing + 1
        fade = 0.5 ** (1.0 / HALF_LIFE_SAMPLES)
        value = math.log(duration_s)
        self._weight = self._weight * fade + 1.0
        self._sum = self._sum * fade + value
        self._squares = self._squares * fade + value * value
        self._prior_weight *= fade * 0.8

    def _fit(self) -> Expectation:
        prior = math.log(self.prior_s)
        weight = self._weight + self._prior_weight
        mean = (self._sum + self._prior_weight * prior) / weight
        about_prior = self._prior_weight * (PRIOR_SIGMA**2 + prior * prior)
        variance = (self._squares + about_prior) / weight - mean * mean
        # Few samples say little about their own spread; lean towards a wide one, which costs little.
        spread = (max(0.0, variance) * self._weight + PRIOR_SIGMA**2 * SPREAD_WEIGHT) / (self._weight + SPREAD_WEIGHT)
        return Expectation(
            median_s=math.exp(mean),
            sigma=max(MIN_SIGMA, math.sqrt(spread)),
            is_cold=self.samples < SAMPLES_TO_TRUST,
        )


TaskKind = tuple[str, str, str]


class PollScheduler:
    """The learners of one process, one per base URL, model and resolution.

    Args:
        typical_s: The typical duration of a model at a resolution, in seconds.
        history: Durations seen earlier, oldest first, in seconds; asked for once per kind.
    """

    def __init__(
        self, *, typical_s: Callable[[str, str], float], history: Callable[[TaskKind], Sequence[float]]
    ) -> None:
        self._typical_s = typical_s
        self._history = history
        self._learners: dict[TaskKind, DurationEstimator] = {}
        self._plans: dict[TaskKind, tuple[int, PollSchedule]] = {}

    def plan(
        self, base_url: str, model: str | None, resolution: str | None, *, webhook_expected: bool = False
    ) -> PollSchedule:
        """Return when to poll a task of this kind; the fixed interval for one nobody knows.

        Args:
            webhook_expected: Whether RunAPI tells of the end itself, so that polling is only a safety net.
        """
        if webhook_expected:
            known = self.plan(base_url, model, resolution)
            return PollSchedule(known.expectation, webhook_expected=True)
        if model is None or resolution is None:
            return PollSchedule(None)
        kind = (base_url, model, resolution)
        learner = self._learner(kind)
        samples, plan = self._plans.get(kind, (-1, None))
        # Planning costs more than a poll; one more sample among many hardly changes a plan.
        if plan is None or learner.samples - samples > samples // 10 or learner.is_fixed != (plan.expectation is None):
            plan = PollSchedule(learner.expectation())
            self._plans[kind] = (learner.samples, plan)
        return plan

    def learn(self, base_url: str, model: str | None, resolution: str | None, duration_s: float) -> None:
        """Take in how long a task took, in seconds."""
        if model is not None and resolution is not None:
            self._learner((base_url, model, resolution)).learn(duration_s)

    def _learner(self, kind: TaskKind) -> DurationEstimator:
        learner = self._learners.get(kind)
        if learner is None:
            learner = self._learners[kind] = DurationEstimator(prior_s=self._typical_s(kind[1], kind[2]))
            for duration_s in self._history(kind):
                learner.learn(duration_s)
        return learner
