"""The chaos suite in its short form; `python -m tests.chaos` runs it in any length."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.__main__ import run


@pytest.mark.timeout(600)
def test_no_image_is_paid_twice_or_lost(capsys: pytest.CaptureFixture[str]) -> None:
    """The reason this package exists: money is spent at the POST, and processes end whenever they like."""
    totals = asyncio.run(run(300, 40, seed=1))

    with capsys.disabled():
        print(f"\n{totals}")
    assert totals.broken == []
    assert (totals.billed_twice, totals.lost, totals.foreign) == (0, 0, 0)
    assert totals.schedules >= 300
    assert totals.killed_schedules >= 30
    assert totals.billed > 150
