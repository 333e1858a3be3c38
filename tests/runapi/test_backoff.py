"""How long the client waits before it tries again. Source: RFC 9110 section 10.2.3."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux2_tool.runapi.backoff import BACKOFF_CEILING_S, backoff_s, parse_retry_after

TEN_OCLOCK = datetime(2026, 11, 4, 10, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        pytest.param("120", 120.0, id="whole seconds"),
        pytest.param(" 120 ", 120.0, id="blanks around"),
        pytest.param("0", 0.0, id="at once"),
        pytest.param("0.5", 0.5, id="a fraction, as some gateways send"),
        pytest.param("Wed, 04 Nov 2026 10:00:30 GMT", 30.0, id="HTTP date"),
        pytest.param("Wednesday, 04-Nov-26 10:00:30 GMT", 30.0, id="RFC 850 date"),
        pytest.param("Wed Nov  4 10:00:30 2026", 30.0, id="asctime date"),
        pytest.param("Wed, 04 Nov 2026 11:00:30 +0100", 30.0, id="a date in another zone"),
        pytest.param("Wed, 04 Nov 2026 10:00:30 -0000", 30.0, id="a date that names no zone is UTC"),
        pytest.param("Wed, 04 Nov 2026 09:00:00 GMT", 0.0, id="a past date means now"),
        pytest.param("soon", None, id="nonsense is ignored"),
        pytest.param("-5", None, id="a negative length is nonsense"),
        pytest.param("nan", None, id="not a number"),
        pytest.param("inf", None, id="for ever is nonsense"),
        pytest.param("1e400", None, id="more than a float holds"),
        pytest.param("", None, id="empty"),
        pytest.param("   ", None, id="blank"),
        pytest.param("Wed, 99 Nov 2026 10:00:30 GMT", None, id="a day that does not exist"),
        pytest.param(None, None, id="absent"),
    ],
)
def test_retry_after_becomes_seconds_from_now(header: str | None, wait_s: float | None) -> None:
    """A client that misreads the header either hammers the service or never comes back."""
    assert parse_retry_after(header, now=TEN_OCLOCK) == wait_s


@given(st.text(max_size=60))
def test_no_header_text_breaks_the_reading(header: str) -> None:
    """A bad hint must not stop a retry that would be made anyway."""
    found = parse_retry_after(header, now=TEN_OCLOCK)

    assert found is None or 0.0 <= found < float("inf")


@given(st.integers(1, 10_000), st.integers())
def test_backoff_grows_to_its_ceiling_and_is_never_nothing(attempt: int, seed: int) -> None:
    """Without a floor clients hammer; without a ceiling they sleep through the recovery."""
    pause_s = backoff_s(attempt, random=random.Random(seed))  # noqa: S311 - jitter

    assert 0.25 <= pause_s <= BACKOFF_CEILING_S


class Dice(random.Random):
    """Always throws the same."""

    def __init__(self, thrown: float) -> None:
        super().__init__()
        self._thrown = thrown

    def random(self) -> float:
        return self._thrown


@pytest.mark.parametrize(("thrown", "share"), [(0.0, 0.5), (1.0, 1.0)])
def test_each_pause_is_twice_as_long_as_the_one_before(thrown: float, share: float) -> None:
    """Slower, a service in trouble is asked more often than it said it would be; up to half of a pause is chance."""
    pauses_s = [backoff_s(attempt, random=Dice(thrown)) for attempt in range(1, 8)]

    assert pauses_s == [share * whole_s for whole_s in (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)]


def test_two_clients_that_failed_together_do_not_come_back_together() -> None:
    """Jitter spreads a herd; without it every client of an outage returns in the same instant."""
    pauses = {backoff_s(3, random=random.Random(seed)) for seed in range(20)}  # noqa: S311 - jitter

    assert len(pauses) == 20
    assert max(pauses) <= 2.0 * min(pauses)
