"""What was spent on each of the last days, from the journal's own sums, for the page's chart. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from flux2_tool._clock import local_time
from flux2_tool.journal.spending_sums import SpentAt

DAYS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class DaySpending:
    """What one day of this machine's zone cost, in US dollars, and what is reserved for requests of open outcome."""

    day: date
    spent_usd: float = 0.0
    reserved_usd: float = 0.0


def spending_by_day(spent: Iterable[SpentAt], *, now: float) -> list[DaySpending]:
    """Return the last `DAYS` days, oldest first, those without spending too; a sandbox's is no spending.

    Args:
        spent: The journal's sums.
        now: The wall clock, in seconds since 1970; its day is the last.
    """
    today = _day_of(now)
    sums = {today - timedelta(days=back): (0.0, 0.0) for back in range(DAYS - 1, -1, -1)}
    for one in spent:
        # The same quarter of an hour belongs to one day in every zone.
        day = _day_of(one.at)
        if one.is_real and day in sums:
            sums[day] = (sums[day][0] + one.spent_usd, sums[day][1] + one.reserved_usd)
    return [
        DaySpending(day=day, spent_usd=round(usd, 6), reserved_usd=round(reserved, 6))
        for day, (usd, reserved) in sums.items()
    ]


def first_instant(*, now: float) -> float:
    """Return a time no later than the first of these days begins."""
    return now - (DAYS + 1) * 86400.0


def _day_of(at: float) -> date:
    return local_time(at).date()
