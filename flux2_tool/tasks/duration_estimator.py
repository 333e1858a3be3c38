"""Estimate how long a task takes, from the durations of earlier tasks of its kind.

Durations are modelled as log-normal, with decaying weights of old samples and a typical duration as prior. What
contradicts the estimate puts it in doubt: one outlier until the next duration agrees again, two in a row until several
do. Pure: no clock, no I/O.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

SAMPLES_TO_TRUST: Final = 5
PRIOR_SIGMA: Final = 0.45
PRIOR_WEIGHT: Final = 1.5
# The weight of the wide initial spread, in samples.
SPREAD_WEIGHT: Final = 0.3
MIN_SIGMA: Final = 0.08
# After this many newer samples a sample's weight is halved.
HALF_LIFE_SAMPLES: Final = 40.0
# Beyond this many standard deviations a duration is an outlier, of which two in a row restart the estimate; a single
# one contradicts it only beyond the second number, because many in flight meet a rare straggler often.
OUTLIER_Z: Final = 2.5
CONTRADICTION_Z: Final = 3.5
OUTLIERS_TO_RESTART: Final = 2
AGREEING_TO_LEARNED: Final = 5
NORMAL: Final = NormalDist()
_LEAST_SHARE: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Expectation:
    """Durations as a log-normal: the median in seconds and the standard deviation of their logarithm.

    `is_cold` says that it is based on the typical duration more than on observed ones.
    """

    median_s: float
    sigma: float
    is_cold: bool = False

    def z(self, elapsed_s: float) -> float:
        """Return a duration's distance from the median in standard deviations of the logarithm."""
        return math.log(max(elapsed_s, 1e-6) / self.median_s) / self.sigma

    def quantile_s(self, share: float) -> float:
        """Return the duration within which this share of tasks ends, in seconds."""
        return self.median_s * math.exp(self.sigma * NORMAL.inv_cdf(share))

    @property
    def mean_s(self) -> float:
        """The mean duration, in seconds."""
        return self.median_s * math.exp(self.sigma**2 / 2.0)

    def within_s(self, earliest_s: float, latest_s: float) -> float:
        """Return the likely duration of a task that was seen running at one age, and ended at another, in seconds.

        Polls are far apart where an end is unlikely, so the middle would be biased. Where the expectation says nothing
        of such an interval it is the middle all the same.
        """
        low, high = self.z(earliest_s), self.z(latest_s)
        share = NORMAL.cdf(high) - NORMAL.cdf(low)
        if share < _LEAST_SHARE:
            return (earliest_s + latest_s) / 2.0
        return self.median_s * math.exp(self.sigma * (NORMAL.pdf(low) - NORMAL.pdf(high)) / share)

    def left_s(self, elapsed_s: float) -> float | None:
        """Return the median remaining time of a running task, in seconds; None when it is long overdue."""
        done = NORMAL.cdf(self.z(elapsed_s))
        if done > 0.97:
            return None
        return self.quantile_s((1.0 + done) / 2.0) - elapsed_s


@dataclass(slots=True)
class DurationEstimator:
    """Learns the durations of one kind of task: a model and resolution at one base URL.

    Attributes:
        prior_s: The typical duration, in seconds.
        samples: The number of durations learned.
        restarts: How often all that was learned before turned out to be wrong.
    """

    prior_s: float
    samples: int = field(init=False, default=0)
    restarts: int = field(init=False, default=0)
    _weight: float = field(init=False, default=0.0)
    _sum: float = field(init=False, default=0.0)
    _squares: float = field(init=False, default=0.0)
    _prior_weight: float = field(init=False, default=PRIOR_WEIGHT)
    _outliers: int = field(init=False, default=0)
    _agreeing: int = field(init=False, default=AGREEING_TO_LEARNED)
    _is_contradicted: bool = field(init=False, default=False)

    @property
    def is_fixed(self) -> bool:
        """Whether the estimate is in doubt, so that the fixed interval holds for now."""
        return self._agreeing < AGREEING_TO_LEARNED or self._is_contradicted

    def expectation(self) -> Expectation | None:
        """Return the estimate for the next task, or None while it is in doubt."""
        return None if self.is_fixed else self._fit()

    def outlived(self, elapsed_s: float) -> bool:
        """Return whether a task that still runs at this age, in seconds, contradicts the estimate, and note it."""
        contradicts = self._fit().z(elapsed_s) > CONTRADICTION_Z
        self._is_contradicted = self._is_contradicted or contradicts
        return contradicts

    def learn(self, duration_s: float) -> None:
        """Learn a task's duration, in seconds; oldest first. Implausible durations are ignored."""
        if not math.isfinite(duration_s) or not 0.05 <= duration_s <= 86400.0:
            return
        before = self._fit()
        z = before.z(duration_s)
        is_outlier = abs(z) > OUTLIER_Z
        self.samples += 1
        self._is_contradicted = abs(z) > CONTRADICTION_Z
        self._outliers = self._outliers + 1 if is_outlier else 0
        # A lone outlier counts as the least one, because it says little of the next task.
        value = math.log(before.median_s) + before.sigma * min(max(z, -OUTLIER_Z), OUTLIER_Z)
        if self._outliers >= OUTLIERS_TO_RESTART:
            # The estimate is wrong: restart from the last duration.
            self._weight = self._sum = self._squares = self._prior_weight = 0.0
            self._agreeing = self._outliers = 0
            self.restarts += 1
            value = math.log(duration_s)
        elif self._agreeing < AGREEING_TO_LEARNED:
            self._agreeing = 0 if is_outlier else self._agreeing + 1
        decay = 0.5 ** (1.0 / HALF_LIFE_SAMPLES)
        self._weight = self._weight * decay + 1.0
        self._sum = self._sum * decay + value
        self._squares = self._squares * decay + value * value
        self._prior_weight *= decay * 0.8

    def _fit(self) -> Expectation:
        prior = math.log(self.prior_s)
        weight = self._weight + self._prior_weight
        mean = (self._sum + self._prior_weight * prior) / weight
        about_prior = self._prior_weight * (PRIOR_SIGMA**2 + prior * prior)
        variance = (self._squares + about_prior) / weight - mean * mean
        # Few samples do not show their spread; start from a wide one, which costs little.
        spread = (max(0.0, variance) * self._weight + PRIOR_SIGMA**2 * SPREAD_WEIGHT) / (self._weight + SPREAD_WEIGHT)
        return Expectation(
            median_s=math.exp(mean),
            sigma=max(MIN_SIGMA, math.sqrt(spread)),
            is_cold=self.samples < SAMPLES_TO_TRUST,
        )
