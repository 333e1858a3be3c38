"""The learned poll schedule: its lateness and polls in simulation, and its bounds for any history."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux2_tool.tasks.duration_estimator import DurationEstimator, Expectation
from flux2_tool.tasks.poll_schedule import FIXED_DELAY_S, MAX_DELAY_S, MIN_DELAY_S, PollSchedule, PollScheduler


@dataclass(frozen=True)
class Figures:
    """Mean lateness and polls of learned polling, as shares of polling every 2 s from the start."""

    lateness: float
    polls: float


def simulate(median_s: float, sigma: float, history: Sequence[float], *, tasks: int, skip: int = 0) -> Figures:
    """Run tasks of a log-normal duration one after the other, learning from each as the journal does."""
    chance = random.Random(11)  # noqa: S311 - a simulation
    learner = DurationEstimator(prior_s=8.0)
    for duration_s in history:
        learner.learn(duration_s)
    late, polls, fixed_late, fixed_polls = [], [], [], []
    for _ in range(tasks):
        duration_s = chance.lognormvariate(math.log(median_s), sigma)
        plan, at_s, before_s, count = PollSchedule(learner.expectation()), 0.0, 0.0, 0
        while at_s < duration_s:
            before_s = at_s
            at_s += plan.delay_s(at_s) * (0.95 + 0.1 * chance.random())
            count += 1
        late.append(at_s - duration_s)
        polls.append(count)
        fixed = math.ceil(duration_s / FIXED_DELAY_S)
        fixed_late.append(fixed * FIXED_DELAY_S - duration_s)
        fixed_polls.append(fixed + 1)
        learner.learn((before_s + at_s) / 2)
    return Figures(
        lateness=fmean(late[skip:]) / fmean(fixed_late[skip:]), polls=fmean(polls[skip:]) / fmean(fixed_polls[skip:])
    )


@pytest.mark.parametrize(("median_s", "sigma"), [(6.0, 0.2), (9.0, 0.2), (10.0, 0.25)])
def test_with_history_lateness_drops_for_as_many_polls(median_s: float, sigma: float) -> None:
    """The time between the end of a task and its delivery is the part that this client decides."""
    figures = simulate(median_s, sigma, [], tasks=600, skip=60)

    assert figures.lateness <= 0.40
    assert figures.polls <= 1.10


@pytest.mark.parametrize("lie_s", [0.5, 2.0, 4.0, 20.0, 60.0, 600.0, 80_000.0])
@pytest.mark.parametrize(("median_s", "sigma"), [(6.0, 0.2), (10.0, 0.25), (40.0, 0.4)])
def test_a_wrong_history_costs_little(median_s: float, sigma: float, lie_s: float) -> None:
    """The service may change from one day to the next."""
    chance = random.Random(5)  # noqa: S311 - a simulation
    history = [lie_s * math.exp(chance.gauss(0, 0.1)) for _ in range(40)]

    figures = simulate(median_s, sigma, history, tasks=40)

    assert figures.lateness <= 1.5
    assert figures.polls <= 1.25


def test_two_outliers_disable_the_estimate_until_durations_agree() -> None:
    """Two in a row are not outliers."""
    learner = DurationEstimator(prior_s=8.0)
    for _ in range(30):
        learner.learn(6.0)

    learner.learn(30.0)
    assert learner.expectation() is not None
    learner.learn(31.0)
    assert learner.expectation() is None
    assert PollSchedule(learner.expectation()).delay_s(5.0) == FIXED_DELAY_S

    for duration_s in (30.0, 32.0, 29.0, 31.0, 30.0, 33.0, 30.0):
        learner.learn(duration_s)
    expectation = learner.expectation()
    assert expectation is not None
    assert expectation.median_s == pytest.approx(30.5, rel=0.1)


def test_polls_are_dense_where_completion_is_likely() -> None:
    """Few early, many in the middle, the plain interval when the expectation is exhausted."""
    plan = PollSchedule(Expectation(median_s=20.0, sigma=0.2))

    early, middle, late = plan.delay_s(0.0), plan.delay_s(20.0), plan.delay_s(200.0)

    assert early > 2 * middle
    assert middle < FIXED_DELAY_S
    assert late >= FIXED_DELAY_S


@given(
    durations=st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60),
    elapsed_s=st.floats(min_value=0, max_value=1e6),
)
def test_any_history_keeps_the_delay_within_its_bounds(durations: list[float], elapsed_s: float) -> None:
    """A journal is a file; anything may stand in it."""
    learner = DurationEstimator(prior_s=8.0)
    for duration_s in durations:
        learner.learn(duration_s)

    delay_s = PollSchedule(learner.expectation()).delay_s(elapsed_s)

    assert MIN_DELAY_S <= delay_s <= MAX_DELAY_S


def test_the_time_left_shrinks_and_is_unknown_once_overdue() -> None:
    """ "About 8 s left" must not be said of a task that is long overdue."""
    expectation = Expectation(median_s=10.0, sigma=0.2)
    begun, later, half, overdue = (expectation.left_s(elapsed_s) for elapsed_s in (0.1, 6.0, 10.0, 60.0))

    assert begun == pytest.approx(9.9, abs=0.2)
    assert later is not None
    assert 3.0 < later < 5.0
    assert half == pytest.approx(1.4, abs=0.1)
    assert overdue is None


KIND = ("https://runapi.test", "flux-2-pro-text-to-image", "1k")
OTHERS = [("https://other.test", *KIND[1:]), (KIND[0], "flux-2-flex-text-to-image", "1k"), (*KIND[:2], "2k")]


@pytest.mark.parametrize("is_history", [False, True])
def test_a_process_plans_by_what_it_has_learned_of_a_kind(is_history: bool) -> None:
    """From its own tasks as from those before it, from the first ones on, and of no other kind."""
    scheduler = PollScheduler(typical_s=lambda _model, _resolution: 8.0)
    medians = []
    for _ in range(4):
        expectation = scheduler.schedule(*KIND).expectation
        assert expectation is not None
        medians.append(expectation.median_s)
        if is_history:
            scheduler.learn_history(KIND, [11.0] * 3)
        else:
            for _ in range(3):
                scheduler.learn(*KIND, 11.0)
    others = [scheduler.schedule(*kind).expectation for kind in OTHERS]

    assert medians == sorted(set(medians))
    assert (medians[0], medians[-1]) == (pytest.approx(8.0), pytest.approx(11.0, rel=0.1))
    assert [one and one.median_s for one in others] == [pytest.approx(8.0)] * 3


def test_a_plan_follows_the_estimate_when_it_is_disabled_and_enabled() -> None:
    """However much was learned before: a service that became slow overnight is polled at the fixed interval."""
    scheduler = PollScheduler(typical_s=lambda _model, _resolution: 8.0)
    scheduler.learn_history(KIND, [6.0] * 100)
    plans = [scheduler.schedule(*KIND)]
    for durations_s in ([60.0, 60.0], [60.0] * 5):
        for duration_s in durations_s:
            scheduler.learn(*KIND, duration_s)
        plans.append(scheduler.schedule(*KIND))

    assert [plan.expectation is not None for plan in plans] == [True, False, True]
    assert scheduler.schedule(*KIND) is plans[-1]
