"""Spending caps: those that apply to a call.

The journal checks the caps, reserves the price and writes the intent in one atomic step, so that concurrent processes
cannot exceed a cap together. A day ends at local midnight. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Final
from urllib.parse import urlsplit

from flux2_tool._clock import local_time
from flux2_tool._net import is_loopback
from flux2_tool.context import CallContext
from flux2_tool.exceptions import BudgetExceededError
from flux2_tool.journal import Cap, Spending
from flux2_tool.settings import Settings

# By which clocks are set back at most.
_LONGEST_CHANGE_S: Final = 3 * 3600


class OverBudgetError(Exception):
    """A request would exceed a cap; nothing was sent. `budget_errors.py` words it for the caller.

    Attributes:
        spendings: The use of every cap on the request, narrowest first.
    """

    def __init__(self, spendings: Sequence[Spending]) -> None:
        super().__init__(", ".join(spending.cap.kind for spending in spendings))
        self.spendings = tuple(spendings)


def local_day(now: float) -> tuple[float, float]:
    """Return the start and end of the local day, in seconds since 1970; not 24 h apart when the clocks change."""
    day = _date_at(now)
    begins, ends = _first_instant(day), _first_instant(day + 1)
    while now >= ends:  # clocks that were set back across midnight; the day that had begun goes on
        day += 1
        begins, ends = ends, _first_instant(day + 1)
    return begins, ends


def _first_instant(day: int) -> float:
    """Return when a local day begins: not always at 0:00, which some zones skip, nor is every date a day."""
    midnight_utc = (day - date(1970, 1, 1).toordinal()) * 86400
    offset_s = _offset_s(midnight_utc)
    usual = midnight_utc - offset_s
    if all(_offset_s(at) == offset_s for at in (usual - _LONGEST_CHANGE_S, usual, usual + _LONGEST_CHANGE_S)):
        return usual  # at 0:00, with no change of the clocks near it
    # Places are at most 14 hours ahead of UTC and 12 behind it; TZ may say up to 24.
    around = range(midnight_utc - 25 * 3600, midnight_utc + 25 * 3600)
    found = around.start + bisect_left(around, day, key=_date_at)
    before = found - _LONGEST_CHANGE_S
    if _offset_s(before) != _offset_s(found):
        # Clocks that are set back just after midnight make the date begin twice.
        minutes = range(before - before % 60, found, 60)
        found = next((at for at in minutes if _date_at(at) >= day), found)
    return float(found)


def _offset_s(epoch_s: float) -> float:
    """Return how far the local time is ahead of UTC at an instant."""
    offset = local_time(epoch_s).utcoffset()
    return 0.0 if offset is None else offset.total_seconds()


def _date_at(epoch_s: float) -> int:
    """Return the number of the local date at an instant."""
    return local_time(epoch_s).toordinal()


def day_cap(settings: Settings, *, base_url: str, now: float) -> Cap:
    """Return the daily cap for requests to this address.

    The cost of images from a sandbox on this machine does not count against the cap for the real service.
    """
    start, end = local_day(now)
    is_real = not is_loopback(urlsplit(base_url).hostname or "")
    return Cap(kind="day", limit_usd=settings.daily_cap_usd, since=start, until=end, excludes_loopback=is_real)


def caps_of(settings: Settings, caller: CallContext, *, base_url: str, now: float) -> tuple[Cap, ...]:
    """Return the caps that apply to a call, narrowest first.

    Args:
        settings: The operator's settings.
        caller: The requester and the conversation.
        base_url: RunAPI's address.
        now: The wall clock, in seconds since 1970.

    Raises:
        BudgetExceededError: Only the owner may spend and the requester is another person, or a setting depends on the
            requester and the host does not identify it.
    """
    if caller.is_unattributed and (settings.spenders == "owner" or settings.sender_daily_cap_usd is not None):
        setting = "spenders" if settings.spenders == "owner" else "sender_daily_cap_usd"
        raise BudgetExceededError(
            f"image_generate does not identify the requester, and the setting {setting} needs one. Nothing was sent.",
            hint="Call text_to_image or remix_image instead; they identify the requester.",
        )
    is_owner = caller.is_owner or caller.spends_as_owner
    if settings.spenders == "owner" and not is_owner:
        if caller.unattended is None:
            raise BudgetExceededError(
                "Only the owner of this installation may make images; the requester is not the owner. Nothing was "
                "sent.",
                hint="Tell the user so. The owner can change it with the setting spenders.",
            )
        if settings.unattended == "refuse":
            raise _unattended(caller.unattended)
    day = day_cap(settings, base_url=base_url, now=now)
    caps = []
    if settings.max_image_usd is not None:
        caps.append(Cap(kind="image", limit_usd=settings.max_image_usd))
    if settings.session_cap_usd is not None and caller.session is not None and not caller.is_unattributed:
        limit_usd = settings.session_cap_usd
        caps.append(replace(day, kind="session", limit_usd=limit_usd, since=None, until=None, session=caller.session))
    if settings.sender_daily_cap_usd is not None and not is_owner:
        caps.append(replace(day, kind="sender", limit_usd=settings.sender_daily_cap_usd, sender=caller.sender))
    return (*caps, day)


def _unattended(kind: str) -> BudgetExceededError:
    """Return the error of a call that works for nobody in particular."""
    return BudgetExceededError(
        f"Nobody in a chat asked for this image: this is {kind}, and only the owner of this installation may make "
        "images (setting spenders). Nothing was sent.",
        hint="Say so in your answer, and do not try again. The operator can allow such runs with the setting "
        "unattended: plugins.entries.flux2.config.unattended in OpenClaw.",
    )
