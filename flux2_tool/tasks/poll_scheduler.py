"""The poll schedules of one process: learned for each kind of task, and told at once when one task contradicts them.

A history may be wrong, because the service became faster or slower overnight. The first task that ends far from what
was expected, or outlives it, puts the estimate of its kind in doubt: all others in flight are planned anew at once, at
the fixed interval, until results agree again. So a wrong history costs only until its first contradiction.

Until it is contradicted a task keeps the plan that it was begun with. Of tasks begun together the shortest end first,
so what those teach is too short for the rest: a plan made anew from each would poll them up to twice as often.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from flux2_tool.tasks.duration_estimator import DurationEstimator
from flux2_tool.tasks.poll_schedule import PollSchedule

# Base URL, model and resolution.
TaskKind = tuple[str, str, str]
_FIXED_INTERVAL: Final = PollSchedule(None)


def kind_of(base_url: str, model: str | None, resolution: str | None) -> TaskKind | None:
    """Return a task's kind; None where model or resolution is unknown."""
    return None if model is None or resolution is None else (base_url, model, resolution)


@dataclass(slots=True)
class _Learned:
    """What is known of a kind, its current schedule, and who wants to know that it was put in doubt.

    Attributes:
        planned_at: The number of durations that the schedule is based on.
    """

    estimator: DurationEstimator
    schedule: PollSchedule | None = None
    planned_at: int = -1
    followers: dict[object, Callable[[], None]] = field(default_factory=dict)


class PollScheduler:
    """The schedules of one process, learned for each base URL, model and resolution.

    Args:
        typical_s: Returns the typical duration of a model at a resolution, in seconds.
    """

    def __init__(self, *, typical_s: Callable[[str, str], float]) -> None:
        self._typical_s = typical_s
        self._kinds: dict[TaskKind, _Learned] = {}

    def schedule(self, kind: TaskKind | None) -> PollSchedule:
        """Return the present schedule of a kind; the fixed interval for None."""
        if kind is None:
            return _FIXED_INTERVAL
        learned = self._learned(kind)
        estimator, schedule = learned.estimator, learned.schedule
        # Planning costs more than a poll; one more sample among many hardly changes a schedule.
        if (
            schedule is None
            or estimator.samples - learned.planned_at > learned.planned_at // 10
            or estimator.is_fixed != (schedule.expectation is None)
        ):
            schedule = PollSchedule(estimator.expectation())
            learned.schedule, learned.planned_at = schedule, estimator.samples
        return schedule

    def begun(self, kind: TaskKind | None) -> Callable[[], PollSchedule]:
        """Return what gives the schedule of a task that begins now: the present one, and the fixed interval while the
        estimate is in doubt, or for good once it was begun anew, because the plan is then from the wrong one."""
        plan = self.schedule(kind)
        if kind is None:
            return lambda: plan
        estimator = self._learned(kind).estimator
        restarts = estimator.restarts

        def present() -> PollSchedule:
            is_believed = not estimator.is_fixed and estimator.restarts == restarts
            return plan if is_believed else _FIXED_INTERVAL

        return present

    def learn(self, kind: TaskKind | None, duration_s: float) -> None:
        """Learn a task's duration, in seconds; tells those in flight when it contradicts the estimate."""
        if kind is not None:
            learned = self._learned(kind)
            was_fixed = learned.estimator.is_fixed
            learned.estimator.learn(duration_s)
            self._tell(learned, was_fixed=was_fixed)

    def outlived(self, kind: TaskKind | None, elapsed_s: float) -> bool:
        """Note that a task still runs at an age, in seconds; return whether that contradicts the estimate."""
        if kind is None:
            return False
        learned = self._learned(kind)
        was_fixed = learned.estimator.is_fixed
        contradicts = learned.estimator.outlived(elapsed_s)
        self._tell(learned, was_fixed=was_fixed)
        return contradicts

    @contextlib.contextmanager
    def told(self, kind: TaskKind | None, replan: Callable[[], None]) -> Iterator[None]:
        """Call `replan` whenever the estimate of a kind is put in doubt, within this context."""
        if kind is None:
            yield
            return
        followers, follower = self._learned(kind).followers, object()
        followers[follower] = replan
        try:
            yield
        finally:
            del followers[follower]

    def knows(self, kind: TaskKind) -> bool:
        """Whether anything was learned or asked about tasks of this kind."""
        return kind in self._kinds

    def learn_history(self, kind: TaskKind, durations_s: Sequence[float]) -> None:
        """Learn the durations of tasks before this process, oldest first, in seconds."""
        for duration_s in durations_s:
            self._learned(kind).estimator.learn(duration_s)

    def _learned(self, kind: TaskKind) -> _Learned:
        learned = self._kinds.get(kind)
        if learned is None:
            estimator = DurationEstimator(prior_s=self._typical_s(kind[1], kind[2]))
            learned = self._kinds[kind] = _Learned(estimator)
        return learned

    @staticmethod
    def _tell(learned: _Learned, *, was_fixed: bool) -> None:
        if learned.estimator.is_fixed and not was_fixed:
            for replan in list(learned.followers.values()):
                replan()
