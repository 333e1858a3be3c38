"""What was measured, as plain data: from the ledger to JSON and back, and the few statistics the tables need."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.client_process import Made
from benchmarks.sandbox_process import Ledger


@dataclass(slots=True, kw_only=True)
class Samples:
    """The finished tasks of one client under one condition, one entry a task.

    Attributes:
        lateness_s: From the moment the picture was ready to the poll that got it, by the sandbox's clock.
        polls: Polls of the task, by the sandbox's ledger.
        duration_s: How long the picture took.
        foretold_s: How long the client said at first that it would take, where it said so.
        failures: What went wrong, and how often.
    """

    lateness_s: list[float] = field(default_factory=list)
    polls: list[int] = field(default_factory=list)
    duration_s: list[float] = field(default_factory=list)
    foretold_s: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def finished(self) -> int:
        """How many pictures arrived."""
        return len(self.lateness_s)

    @property
    def mean_lateness_s(self) -> float:
        return statistics.fmean(self.lateness_s)

    @property
    def p95_lateness_s(self) -> float:
        return percentile(self.lateness_s, 0.95)

    @property
    def mean_polls(self) -> float:
        return statistics.fmean(self.polls)


def samples_of(made: Sequence[Made], ledger: Ledger) -> Samples:
    """Return the figures of answered pictures from the sandbox's ledger.

    A picture the client calls made and the ledger does not know, or knows as never seen finished, counts as a
    failure: it would mean that the client made it up, or that the lateness was measured on something else.
    """
    samples = Samples()
    failures: Counter[str] = Counter()
    for one in made:
        booked = None if one.task_id is None else ledger.tasks.get(one.task_id)
        if one.failure is not None:
            failures[one.failure[:200]] += 1
        elif booked is None or booked.lateness_s is None:
            failures["the ledger does not know that this picture was seen"] += 1
        else:
            samples.lateness_s.append(round(booked.lateness_s, 4))
            samples.polls.append(booked.polls)
            samples.duration_s.append(round(booked.duration_s, 3))
            if one.foretold_s is not None:
                samples.foretold_s.append(round(one.foretold_s, 1))
    samples.failures = dict(failures)
    return samples


def merged(parts: Iterable[Samples]) -> Samples:
    """Return several as one."""
    whole = Samples()
    failures: Counter[str] = Counter()
    for part in parts:
        whole.lateness_s += part.lateness_s
        whole.polls += part.polls
        whole.duration_s += part.duration_s
        whole.foretold_s += part.foretold_s
        failures.update(part.failures)
    whole.failures = dict(failures)
    return whole


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of them does not pass."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Ratio:
    """One mean over another, with the half width of its 95 % interval (delta method)."""

    value: float
    half_width: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.half_width:.2f}"


def ratio_of_means(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Return how the mean of ours compares to that of theirs."""
    value = statistics.fmean(ours) / statistics.fmean(theirs)
    return Ratio(value, 1.96 * value * math.hypot(_relative_error(ours), _relative_error(theirs)))


def _relative_error(values: Sequence[float]) -> float:
    if len(values) < 2:
        return math.inf
    return statistics.stdev(values) / math.sqrt(len(values)) / statistics.fmean(values)
