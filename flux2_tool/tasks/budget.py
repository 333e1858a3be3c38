"""Spending caps: those that apply to a call, and the error when one is reached.

The journal checks the caps, reserves the price and writes the intent in one atomic step, so that concurrent processes
cannot exceed a cap together. A day ends at local midnight. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from datetime import date, datetime
from typing import Final
from urllib.parse import urlsplit

from flux2_tool._net import is_loopback
from flux2_tool.context import CallContext
from flux2_tool.exceptions import BudgetExceededError
from flux2_tool.journal import Cap, Spending
from flux2_tool.settings import Settings

_SETTING_OF: Final = {
    "image": "max_image_usd",
    "day": "daily_cap_usd",
    "session": "session_cap_usd",
    "sender": "sender_daily_cap_usd",
}
_NO_RETRY: Final = "Tell the user so and do not try again before that."
_ADVICE: Final = {
    "image": "Use a cheaper model or output_resolution 1k if the user agrees, else tell the user so.",
    "day": _NO_RETRY,
    "session": "Tell the user so; no image can be made in this conversation any more.",
    "sender": _NO_RETRY,
}
_NAME_OF: Final = {
    "image": "cap per image",
    "day": "daily cap",
    "session": "cap per conversation",
    "sender": "daily cap per person",
}


def local_day(now: float) -> tuple[float, float]:
    """Return the start and end of the local day, in seconds since 1970; not 24 h apart when the clocks change."""
    day = datetime.fromtimestamp(now).date().toordinal()  # noqa: DTZ006 - of this machine's zone
    begins, ends = _first_instant(day), _first_instant(day + 1)
    while now >= ends:  # clocks that were set back across midnight; the day that had begun goes on
        day += 1
        begins, ends = ends, _first_instant(day + 1)
    return begins, ends


def _first_instant(day: int) -> float:
    """Return when a local day begins: not always at 0:00, which some zones skip, nor is every date a day."""
    midnight_utc = (day - date(1970, 1, 1).toordinal()) * 86400
    # Zones are at most 14 hours ahead of UTC and 12 behind it.
    around = range(midnight_utc - 15 * 3600, midnight_utc + 13 * 3600)
    index = bisect_left(around, day, key=lambda at: datetime.fromtimestamp(at).date().toordinal())  # noqa: DTZ006
    return float(around.start + index)


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
    if settings.spenders == "owner" and not caller.is_owner:
        raise BudgetExceededError(
            "Only the owner of this installation may make images; the requester is not the owner. Nothing was sent.",
            hint="Tell the user so. The owner can change it with the setting spenders.",
        )
    day = day_cap(settings, base_url=base_url, now=now)
    caps = []
    if settings.max_image_usd is not None:
        caps.append(Cap(kind="image", limit_usd=settings.max_image_usd))
    if settings.session_cap_usd is not None and caller.session is not None and not caller.is_unattributed:
        limit_usd = settings.session_cap_usd
        caps.append(replace(day, kind="session", limit_usd=limit_usd, since=None, until=None, session=caller.session))
    if settings.sender_daily_cap_usd is not None and not caller.is_owner:
        caps.append(replace(day, kind="sender", limit_usd=settings.sender_daily_cap_usd, sender=caller.sender))
    return (*caps, day)


def budget_error(spending: Spending, *, price_usd: float, price_is_known: bool, now: float) -> BudgetExceededError:
    """Return the error for a request that would exceed a cap: spent, reserved, cap, and its reset time."""
    cap = spending.cap
    price = f"${price_usd:.2f}" if price_is_known else f"an unknown price, counted as ${price_usd:.2f}"
    setting, name = _SETTING_OF[cap.kind], _NAME_OF[cap.kind]
    if cap.kind == "image":
        status = f"This image would cost {price}, and the {name} is ${cap.limit_usd:.2f}."
    else:
        left = max(0.0, cap.limit_usd - spending.spent_usd - spending.reserved_usd)
        status = (
            f"This image would cost {price}, and of the {name} of ${cap.limit_usd:.2f} only ${left:.2f} is left: "
            f"${spending.spent_usd:.2f} is spent and ${spending.reserved_usd:.2f} reserved for images being made or of "
            "unknown outcome."
        )
    _, end = local_day(now)
    resets = ""
    if cap.since is not None:
        resets = f" It resets at {datetime.fromtimestamp(end).astimezone().isoformat(timespec='minutes')}."
    elif cap.kind == "session":
        resets = " It does not reset by itself."
    return BudgetExceededError(
        f"{status} Nothing was sent.{resets}",
        hint=f"{_ADVICE[cap.kind]} The operator can raise the setting {setting}: "
        f"plugins.entries.flux2.config.{setting} in OpenClaw, FLUX2_TOOL_{setting.upper()} elsewhere.",
    )
