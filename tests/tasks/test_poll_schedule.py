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
from flux2_tool.tasks.poll_schedule import (
    FIXED_DELAY_S,
    JITTER,
    MAX_GAP_S,
    MIN_DELAY_S,
    WEBHOOK_EXPECTED_DELAY_S,
    WEBHOOK_PROVEN_DELAY_S,
    PollSchedule,
)


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
            at_s += plan.delay_s(at_s, jitter=chance.uniform(-1, 1))
            count += 1
        late.append(at_s - duration_s)
        polls.append(count)
        fixed = math.ceil(duration_s / FIXED_DELAY_S)
        fixed_late.append(fixed * FIXED_DELAY_S - duration_s)
        fixed_polls.append(fixed + 1)
        expected = plan.expectation
        learner.learn((before_s + at_s) / 2 if expected is None else expected.within_s(before_s, at_s))
    return Figures(
        lateness=fmean(late[skip:]) / fmean(fixed_late[skip:]), polls=fmean(polls[skip:]) / fmean(fixed_polls[skip:])
    )


@pytest.mark.parametrize(("median_s", "sigma"), [(6.0, 0.2), (9.0, 0.2), (10.0, 0.25)])
def test_with_history_lateness_drops_for_as_many_polls(median_s: float, sigma: float) -> None:
    """The time between the end of a task and its delivery is the part that this client decides."""
    figures = simulate(median_s, sigma, [], tasks=1200, skip=60)

    assert figures.lateness <= 0.37
    assert figures.polls <= 1.02


@pytest.mark.parametrize("lie_s", [0.5, 2.0, 4.0, 20.0, 60.0, 600.0, 80_000.0])
@pytest.mark.parametrize(("median_s", "sigma"), [(6.0, 0.2), (10.0, 0.25), (40.0, 0.4)])
def test_a_wrong_history_costs_little(median_s: float, sigma: float, lie_s: float) -> None:
    """The service may change from one day to the next."""
    chance = random.Random(5)  # noqa: S311 - a simulation
    history = [lie_s * math.exp(chance.gauss(0, 0.1)) for _ in range(40)]

    figures = simulate(median_s, sigma, history, tasks=40)

    assert figures.lateness <= 1.5
    assert figures.polls <= 1.25


@pytest.mark.parametrize("seen", ["ended far from it", "outlived it"])
def test_one_contradiction_is_doubted_until_the_next_duration_agrees(seen: str) -> None:
    """A straggler costs the tasks beside it, and not what was learned."""
    learner = DurationEstimator(prior_s=8.0)
    for _ in range(30):
        learner.learn(6.0)
    before = learner.expectation()

    if seen == "ended far from it":
        learner.learn(30.0)
    else:
        assert not learner.outlived(6.2)
        assert learner.outlived(29.0)
    assert learner.expectation() is None
    learner.learn(6.0)

    after = learner.expectation()
    assert before is not None
    assert after is not None
    assert after.median_s == pytest.approx(before.median_s, rel=0.06)


@pytest.mark.parametrize(("duration_s", "is_believed"), [(8.5, True), (11.0, False)])
def test_a_rare_straggler_contradicts_nothing(duration_s: float, is_believed: bool) -> None:
    """Of a thousand in flight a few are three deviations away; each such alarm polls all others once more."""
    learner = DurationEstimator(prior_s=6.0)
    for number in range(60):
        learner.learn(6.0 * math.exp(0.12 * (1 - 2 * (number % 2))))
    expectation = learner.expectation()
    assert expectation is not None
    assert expectation.z(8.5) == pytest.approx(2.75, abs=0.25)

    learner.learn(duration_s)

    assert (learner.expectation() is not None) is is_believed


def test_the_end_of_a_task_that_outlived_the_estimate_lifts_no_doubt() -> None:
    """Whatever it was first known by: its own end is not the agreement that lifts the doubt."""
    learner = DurationEstimator(prior_s=8.0)
    for _ in range(30):
        learner.learn(6.0)

    learner.outlived(29.0)
    learner.learn(30.0)

    assert learner.expectation() is None


def test_two_outliers_restart_the_estimate_until_durations_agree() -> None:
    """Two in a row are not outliers."""
    learner = DurationEstimator(prior_s=8.0)
    for _ in range(30):
        learner.learn(6.0)

    learner.learn(30.0)
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

    assert MIN_DELAY_S <= delay_s <= MAX_GAP_S


@given(elapsed_s=st.floats(min_value=0, max_value=60), jitter=st.floats(min_value=-1, max_value=1))
def test_jitter_moves_a_poll_by_little_of_the_gaps_around_it(elapsed_s: float, jitter: float) -> None:
    """A long first gap must not blur the dense polls after it."""
    plan = PollSchedule(Expectation(median_s=10.0, sigma=0.2))

    planned_s, moved_s = plan.delay_s(elapsed_s), plan.delay_s(elapsed_s, jitter=jitter)

    assert abs(moved_s - planned_s) <= JITTER * FIXED_DELAY_S + 1e-9


def test_what_was_seen_late_is_learned_without_bias() -> None:
    """A tenth of the tasks ends before the first poll, far before which the middle of that gap lies."""
    chance = random.Random(3)  # noqa: S311 - a simulation
    plan, learner = PollSchedule(Expectation(6.0, 0.2)), DurationEstimator(prior_s=6.0)
    assert plan.expectation is not None
    for _ in range(400):
        duration_s, before_s, at_s = chance.lognormvariate(math.log(6.0), 0.2), 0.0, plan.delay_s(0.0)
        while at_s < duration_s:
            before_s, at_s = at_s, at_s + plan.delay_s(at_s)
        learner.learn(plan.expectation.within_s(before_s, at_s))

    found = learner.expectation()
    assert found is not None
    assert found.median_s == pytest.approx(6.0, rel=0.05)
    assert found.sigma == pytest.approx(0.2, rel=0.25)


@pytest.mark.parametrize(("earliest_s", "latest_s"), [(0.0, 0.2), (300.0, 320.0)])
def test_an_end_that_nothing_is_known_of_is_in_the_middle(earliest_s: float, latest_s: float) -> None:
    """So far out the expectation is wrong, and its guess would be at the edge."""
    assert Expectation(10.0, 0.2).within_s(earliest_s, latest_s) == (earliest_s + latest_s) / 2


def test_where_webhooks_arrive_polling_begins_when_a_task_is_overdue() -> None:
    """Where they are not, sooner; and never later than a bound."""
    expectation = Expectation(10.0, 0.2)

    expected = PollSchedule(expectation, webhook="expected").delay_s(0.0)
    proven = PollSchedule(expectation, webhook="proven")
    slow = PollSchedule(Expectation(60.0, 0.2), webhook="proven").delay_s(0.0)

    assert expected == WEBHOOK_EXPECTED_DELAY_S
    assert proven.delay_s(0.0) == pytest.approx(expectation.quantile_s(0.9975))
    assert proven.delay_s(17.5) == WEBHOOK_EXPECTED_DELAY_S
    assert slow == WEBHOOK_PROVEN_DELAY_S
    assert PollSchedule(None, webhook="proven").delay_s(0.0) == WEBHOOK_PROVEN_DELAY_S, "a webhook needs no estimate"


def test_the_time_left_shrinks_and_is_unknown_once_overdue() -> None:
    """ "About 8 s left" must not be said of a task that is long overdue."""
    expectation = Expectation(median_s=10.0, sigma=0.2)
    begun, later, half, overdue = (expectation.left_s(elapsed_s) for elapsed_s in (0.1, 6.0, 10.0, 60.0))

    assert begun == pytest.approx(9.9, abs=0.2)
    assert later is not None
    assert 3.0 < later < 5.0
    assert half == pytest.approx(1.4, abs=0.1)
    assert overdue is None
