"""Whole calls against a service that answers anything. More of it: python -m tests.fuzz --seeds 20000"""

from __future__ import annotations

from tests.fuzz.__main__ import play_all

SEEDS = range(200)


def test_no_response_crashes_a_call_or_leaks_a_key() -> None:
    """An answer is data: whatever it is, a call ends in a result that says what happened, and the key stays in."""
    played = play_all("answers", SEEDS)

    assert (played.crashes, played.leaks, played.faults) == ([], [], [])
    # It is no fuzzing if nothing comes through, or if every call ends in the same way.
    assert played.answers >= 3 * len(SEEDS)
    assert played.images >= 50
    assert len(played.errors) >= 6


def test_no_response_leaks_a_secret_into_a_transcript() -> None:
    """It is written to be attached to a report that everybody reads."""
    played = play_all("probe", range(100))

    assert (played.crashes, played.leaks, played.faults) == ([], [], [])
    assert played.answers >= 500
