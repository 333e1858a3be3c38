"""Decide when to poll; defines every interval and limit of polling.

For a given number of polls the mean delay is least when their spacing is proportional to one over the square root of
the hazard rate of the duration; that comes within a few percent of the best possible plan (`benchmarks/optimum.py`).
The expected durations may be wrong, so gaps are bounded, and a task that outlasts the expectation is polled at a fixed
interval. Pure: no clock, no I/O.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Final, Literal

from flux2_tool.tasks.duration_estimator import NORMAL, Expectation

# ---- the planned polls of a running task ----------------------------------------------------------------------------
FIXED_DELAY_S: Final = 2.0
MIN_DELAY_S: Final = 0.25
MAX_DELAY_S: Final = 8.0
FIRST_DELAY_S: Final = 0.75
# The longest gap between planned polls. The first image that contradicts a wrong estimate has all others of its kind
# polled at once; until then a wrong one delays an image by this gap at most. While the estimate is cold, COLD_GAP_S.
MAX_GAP_S: Final = 9.0
COLD_GAP_S: Final = 2.5
LONGEST_PLAN_S: Final = 900.0
PLANNED_SHARE: Final = 0.9975
# The polls of a plan, relative to the fixed interval; a cold plan makes fewer than it plans.
WARM_SHARE: Final = 0.985
COLD_SHARE: Final = 1.2
# How far chance moves a poll, so that tasks begun together are not polled together: in shares of the gap around it.
JITTER: Final = 0.05
_STEPS: Final = 240
_SCALES: Final = (0.05, 60.0)
_BISECTIONS: Final = 14

# ---- webhooks -------------------------------------------------------------------------------------------------------
# While webhooks are expected, polling only catches lost ones. Where they are known to arrive it begins when a task is
# overdue, at the latest after this time.
WEBHOOK_EXPECTED_DELAY_S: Final = 8.0
WEBHOOK_PROVEN_DELAY_S: Final = 30.0
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


# none      there is no webhook, or webhooks do not arrive
# expected  RunAPI was asked for one; whether webhooks arrive here is not known
# proven    the last one that was expected arrived
WebhookTrust = Literal["none", "expected", "proven"]


class PollSchedule:
    """The polls of a task, planned for an expected duration.

    Args:
        expectation: The expected duration; None for the fixed interval.
        webhook: Whether polling is only a fallback, because RunAPI sends a webhook at the end.
    """

    def __init__(self, expectation: Expectation | None, *, webhook: WebhookTrust = "none") -> None:
        self.expectation = expectation
        self._webhook = webhook
        self._times = () if expectation is None or webhook != "none" else _poll_times(expectation)

    def delay_s(self, elapsed_s: float, *, jitter: float = 0.0) -> float:
        """Return the pause from now until the next poll, in seconds.

        Args:
            elapsed_s: The time since the task was accepted, on this machine's clock.
            jitter: From -1 to 1: how far to move the poll, relative to the most that it is moved.
        """
        if self._webhook != "none":
            return self._fallback_delay_s(elapsed_s) * (1.0 + JITTER * jitter)
        # A slightly early poll counts as the planned one.
        index = bisect.bisect_right(self._times, elapsed_s + MIN_DELAY_S / 2)
        if index < len(self._times):
            # A long first gap must not move the dense polls after it.
            around_s = min(self._gap_s(index), self._gap_s(index + 1))
            return max(MIN_DELAY_S, self._times[index] - elapsed_s + JITTER * around_s * jitter)
        return _unplanned_delay_s(elapsed_s) * (1.0 + JITTER * jitter)

    def overdue_in_s(self, elapsed_s: float) -> float:
        """Return how long a webhook can be waited for without a poll, in seconds; 0 where none is known to arrive."""
        if self._webhook != "proven":
            return 0.0
        overdue_s = WEBHOOK_PROVEN_DELAY_S
        if self.expectation is not None:
            overdue_s = min(overdue_s, self.expectation.quantile_s(PLANNED_SHARE))
        return max(0.0, overdue_s - elapsed_s)

    def _fallback_delay_s(self, elapsed_s: float) -> float:
        return max(WEBHOOK_EXPECTED_DELAY_S, self.overdue_in_s(elapsed_s))

    def _gap_s(self, index: int) -> float:
        """Return the gap before a planned poll; after the last one, that of the fixed interval."""
        if index >= len(self._times):
            return FIXED_DELAY_S
        return self._times[index] - (self._times[index - 1] if index else 0.0)


def _unplanned_delay_s(elapsed_s: float) -> float:
    if elapsed_s < FIRST_DELAY_S:
        return FIRST_DELAY_S
    return FIXED_DELAY_S if elapsed_s < 120.0 else min(MAX_DELAY_S, elapsed_s / 60.0)


def _poll_times(expectation: Expectation) -> tuple[float, ...]:
    """Return the planned poll times, in seconds since acceptance, until PLANNED_SHARE of the tasks have ended.

    Their spacing is proportional to one over the square root of the hazard, with a longest gap; the factor is found by
    bisection, so that a task is polled about as often as with the fixed interval.
    """
    end_s = min(LONGEST_PLAN_S, expectation.quantile_s(PLANNED_SHARE))
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
