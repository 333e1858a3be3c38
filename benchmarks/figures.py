"""What was measured, as plain data: from the ledger to JSON and back, and the few statistics the tables need."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.client_process import Made
from benchmarks.sandbox_process import Ledger

# The interval of the vendor's SDK.
FIXED_S = 2.0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is kept of samples.

    Attributes:
        finished: How many pictures arrived.
        failures: What went wrong, and how often.
        polls_of_fixed: Mean polls as a share of those that polling at once and then every 2 s needs for the same
            durations: two clients' figures can be compared although chance gave them other durations.
        lateness_error_s, polls_of_fixed_error: Standard errors.
    """

    finished: int
    failures: dict[str, int]
    mean_lateness_s: float = 0.0
    lateness_error_s: float = 0.0
    p95_lateness_s: float = 0.0
    slowest_s: float = 0.0
    mean_polls: float = 0.0
    polls_of_fixed: float = 0.0
    polls_of_fixed_error: float = 0.0


def summary_of(samples: Samples) -> Summary:
    """Return what is kept of samples."""
    late_s, finished = samples.lateness_s, len(samples.lateness_s)
    if not finished:
        return Summary(finished=0, failures=samples.failures)
    fixed = [math.ceil(duration_s / FIXED_S) + 1 for duration_s in samples.duration_s]
    share = statistics.fmean(samples.polls) / statistics.fmean(fixed)
    beside = [polls - share * needed for polls, needed in zip(samples.polls, fixed, strict=True)]
    return Summary(
        finished=finished,
        failures=samples.failures,
        mean_lateness_s=round(statistics.fmean(late_s), 5),
        lateness_error_s=round(_error(late_s), 5),
        p95_lateness_s=round(percentile(late_s, 0.95), 4),
        slowest_s=round(max(late_s), 4),
        mean_polls=round(statistics.fmean(samples.polls), 4),
        polls_of_fixed=round(share, 5),
        polls_of_fixed_error=round(_error(beside) / statistics.fmean(fixed), 5),
    )


@dataclass(frozen=True, slots=True)
class Ratio:
    """One mean over another, with the half width of its 95 % interval."""

    value: float
    half_width: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.half_width:.2f}"


def lateness_ratio(ours: Summary, theirs: Summary) -> Ratio:
    """Return how the mean lateness of ours compares to that of theirs."""
    return _ratio((ours.mean_lateness_s, ours.lateness_error_s), (theirs.mean_lateness_s, theirs.lateness_error_s))


def polls_ratio(ours: Summary, theirs: Summary) -> Ratio:
    """Return how the polls of ours compare to those of theirs, for equal durations."""
    return _ratio(
        (ours.polls_of_fixed, ours.polls_of_fixed_error), (theirs.polls_of_fixed, theirs.polls_of_fixed_error)
    )


def _ratio(ours: tuple[float, float], theirs: tuple[float, float]) -> Ratio:
    value = ours[0] / theirs[0]
    return Ratio(value, 1.96 * value * math.hypot(ours[1] / ours[0], theirs[1] / theirs[0]))


def _error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
