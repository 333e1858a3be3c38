"""The chaos suite in its short form; `python -m tests.chaos` runs it in any length."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.chaos.__main__ import run
from tests.support import postgres
from tests.support.stores import choose, is_postgres


@pytest.fixture
def in_postgres() -> Iterator[None]:
    """Have the journals in PostgreSQL."""
    before = is_postgres()
    choose("postgres")
    yield
    choose("postgres" if before else "sqlite")


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


@pytest.mark.timeout(600)
@pytest.mark.skipif(postgres.why_not() is not None, reason=f"{postgres.why_not()}")
def test_nor_is_it_on_a_server_that_is_killed_too(in_postgres: None, capsys: pytest.CaptureFixture[str]) -> None:
    """A database that several gateways share fails over, and is restarted under them."""
    totals = asyncio.run(run(40, 10, seed=2))

    with capsys.disabled():
        print(f"\n{totals}")
    assert totals.broken == []
    assert (totals.billed_twice, totals.lost, totals.foreign) == (0, 0, 0)
    assert totals.server_kills > 0
    assert totals.billed > 20
