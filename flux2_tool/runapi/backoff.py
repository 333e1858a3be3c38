"""Decide how long to wait before a request is repeated.

Pure functions: no I/O, no clock; `client.py` and `tasks/poll.py` do the waiting. Source: RFC 9110 section 10.2.3.
"""

from __future__ import annotations

import math
import random as random_module
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

BACKOFF_BASE_S: Final = 0.5
BACKOFF_CEILING_S: Final = 8.0
RETRY_AFTER_CEILING_S: Final = 60.0
MAX_RETRY_AFTER_CHARS: Final = 100


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Return how long the server asks us to wait, in seconds, or None if it did not say.

    Args:
        value: A Retry-After header: seconds ("120"; some servers send fractions) or an HTTP date.
        now: The current time, with a time zone. Passed in so that tests need no clock.

    Returns:
        Zero or more, not capped: the caller applies its own ceiling. None for an invalid
        header, because it must not stop a retry we would make anyway.

    Source: RFC 9110 section 10.2.3.
    """
    text = "" if value is None else value.strip()
    if not 0 < len(text) <= MAX_RETRY_AFTER_CHARS:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (TypeError, ValueError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - now).total_seconds())
    if not math.isfinite(seconds) or seconds < 0:
        return None
    return seconds


def backoff_s(attempt: int, *, random: random_module.Random) -> float:
    """Return the pause before the next attempt, in seconds: doubling, capped, with up to half of it random.

    Args:
        attempt: The number of failed attempts, from 1.
        random: The source of jitter, so that many clients do not retry together.
    """
    whole = min(BACKOFF_CEILING_S, BACKOFF_BASE_S * 2.0 ** min(attempt - 1, 16))
    return whole * (0.5 + 0.5 * random.random())
