"""What a process learns of the durations of each kind of task, and whom it tells."""

from __future__ import annotations

import pytest

from flux2_tool.tasks.poll_schedule import FIXED_DELAY_S
from flux2_tool.tasks.poll_scheduler import PollScheduler

KIND = ("https://runapi.test", "flux-2-pro-text-to-image", "1k")
OTHERS = [("https://other.test", *KIND[1:]), (KIND[0], "flux-2-flex-text-to-image", "1k"), (*KIND[:2], "2k")]


def scheduler_of_eight_seconds() -> PollScheduler:
    """Return a scheduler that knows the typical duration alone."""
    return PollScheduler(typical_s=lambda _model, _resolution: 8.0)


@pytest.mark.parametrize("is_history", [False, True])
def test_a_process_plans_by_what_it_has_learned_of_a_kind(is_history: bool) -> None:
    """From its own tasks as from those before it, from the first ones on, and of no other kind."""
    scheduler = scheduler_of_eight_seconds()
    medians = []
    for _ in range(4):
        expectation = scheduler.schedule(KIND).expectation
        assert expectation is not None
        medians.append(expectation.median_s)
        if is_history:
            scheduler.learn_history(KIND, [11.0] * 3)
        else:
            for _ in range(3):
                scheduler.learn(KIND, 11.0)
    others = [scheduler.schedule(kind).expectation for kind in OTHERS]

    assert medians == sorted(set(medians))
    assert (medians[0], medians[-1]) == (pytest.approx(8.0), pytest.approx(11.0, rel=0.1))
    assert [one and one.median_s for one in others] == [pytest.approx(8.0)] * 3


def test_a_plan_follows_the_estimate_when_it_is_disabled_and_enabled() -> None:
    """However much was learned before: a service that became slow overnight is polled at the fixed interval."""
    scheduler = scheduler_of_eight_seconds()
    scheduler.learn_history(KIND, [6.0] * 100)
    plans = [scheduler.schedule(KIND)]
    for durations_s in ([60.0, 60.0], [60.0] * 5):
        for duration_s in durations_s:
            scheduler.learn(KIND, duration_s)
        plans.append(scheduler.schedule(KIND))

    assert [plan.expectation is not None for plan in plans] == [True, False, True]
    assert scheduler.schedule(KIND) is plans[-1]


@pytest.mark.parametrize("contradiction", ["ended early", "ended late", "outlived"])
def test_a_contradiction_is_told_to_those_of_the_kind_that_are_in_flight(contradiction: str) -> None:
    """Once, and to no other kind; whoever has ended is not told."""
    scheduler, told = scheduler_of_eight_seconds(), list[str]()
    for kind in (KIND, OTHERS[0]):
        scheduler.learn_history(kind, [20.0] * 40)

    with (
        scheduler.told(KIND, lambda: told.append("first")),
        scheduler.told(KIND, lambda: told.append("second")),
        scheduler.told(OTHERS[0], lambda: told.append("another kind")),
    ):
        with scheduler.told(KIND, lambda: told.append("ended")):
            scheduler.learn(KIND, 20.5)
        for _ in range(2):
            if contradiction == "outlived":
                scheduler.outlived(KIND, 60.0)
            else:
                scheduler.learn(KIND, 3.0 if contradiction == "ended early" else 70.0)

    assert told == ["first", "second"]
    assert scheduler.schedule(KIND).delay_s(5.0) == FIXED_DELAY_S
    assert scheduler.schedule(OTHERS[0]).expectation is not None


def test_a_task_keeps_the_plan_that_it_was_begun_with() -> None:
    """Of tasks begun together the shortest end first; a plan made anew from each would poll the rest far too often."""
    scheduler = scheduler_of_eight_seconds()
    begun_first = scheduler.begun(KIND)
    at_first = begun_first()

    for _ in range(20):
        scheduler.learn(KIND, 6.0)

    assert begun_first() is at_first
    assert scheduler.begun(KIND)() is scheduler.schedule(KIND) is not at_first


def test_a_task_is_polled_at_the_fixed_interval_while_its_plan_is_in_doubt() -> None:
    """And keeps its plan when the contradiction was a single straggler."""
    scheduler = scheduler_of_eight_seconds()
    scheduler.learn_history(KIND, [20.0] * 40)
    planned = scheduler.begun(KIND)
    at_first = planned()

    scheduler.learn(KIND, 90.0)
    in_doubt = planned()
    scheduler.learn(KIND, 20.0)

    assert in_doubt.expectation is None
    assert planned() is at_first


def test_a_plan_from_an_estimate_that_was_begun_anew_is_never_used_again() -> None:
    """Those in flight stay at the fixed interval; the next ones are planned by what is known then."""
    scheduler = scheduler_of_eight_seconds()
    scheduler.learn_history(KIND, [20.0] * 40)
    planned = scheduler.begun(KIND)

    for duration_s in [90.0] * 12:
        scheduler.learn(KIND, duration_s)

    assert planned().expectation is None
    assert scheduler.schedule(KIND).expectation is not None


def test_a_task_of_no_known_kind_is_polled_at_the_fixed_interval() -> None:
    """It was created elsewhere; nothing says what it is."""
    assert scheduler_of_eight_seconds().begun(None)().delay_s(5.0) == FIXED_DELAY_S
