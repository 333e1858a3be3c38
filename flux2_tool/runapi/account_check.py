"""One free request that tells whether RunAPI can be reached, whether it takes the key, and what the account has left.

The facts are plain data: the worker of a gateway sends them to `doctor`, which words them. They hold no key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from flux2_tool.exceptions import AuthenticationError, Flux2Error
from flux2_tool.runapi import contract
from flux2_tool.runapi.balance import balance_of
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.send_errors import CrossOriginRedirectError, MaybeSentError, NotSentError, UnusableNetworkError

NoResponse = Literal["unusable", "unreachable", "redirected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFacts:
    """What one request found.

    Attributes:
        status: The HTTP status; None without a response, and then `no_response` says why, `reason` in words.
        hint: What helps against `reason` or `error`.
        skew_s: By how many seconds this machine's clock is ahead of RunAPI's; None where that is not known.
        balance_usd: What the account has left; None where it was not asked for, or `error` says why it is not known.
        is_refused: Whether RunAPI refused the key.
    """

    base_url: str
    status: int | None = None
    no_response: NoResponse | None = None
    reason: str = ""
    hint: str = ""
    skew_s: float | None = None
    balance_usd: float | None = None
    spent_today_usd: float | None = None
    error: str = ""
    is_refused: bool = False


async def ask_service(client: RunapiClient, *, with_key: bool, now: float) -> ServiceFacts:
    """Ask RunAPI for the balance, or without a key for its prices.

    Args:
        client: With the key when there is one.
        with_key: Whether the client has a key.
        now: This machine's clock, in seconds since 1970.
    """
    base_url = client.base_url
    try:
        response = await client.send("GET", contract.BALANCE_PATH if with_key else contract.PRICE_SCHEDULES_PATH)
    except UnusableNetworkError as exc:
        return ServiceFacts(base_url=base_url, no_response="unusable", reason=str(exc), hint=exc.hint)
    except (NotSentError, MaybeSentError) as exc:
        return ServiceFacts(base_url=base_url, no_response="unreachable", reason=str(exc))
    except CrossOriginRedirectError as exc:
        return ServiceFacts(base_url=base_url, no_response="redirected", reason=str(exc))
    status, skew_s = response.status_code, skew_of(response.headers.get("date", ""), now)
    if not with_key:
        return ServiceFacts(base_url=base_url, status=status, skew_s=skew_s)
    try:
        balance = balance_of(response)
    except Flux2Error as exc:
        refused = isinstance(exc, AuthenticationError)
        return ServiceFacts(
            base_url=base_url, status=status, skew_s=skew_s, error=exc.message, hint=exc.hint, is_refused=refused
        )
    return ServiceFacts(
        base_url=base_url,
        status=status,
        skew_s=skew_s,
        balance_usd=balance.balance_usd,
        spent_today_usd=balance.spent_today_usd,
    )


def skew_of(date: str, now: float) -> float | None:
    """Return by how many seconds a clock is ahead of a response's Date header; None when that cannot be read."""
    try:
        moment = parsedate_to_datetime(date)
    except (TypeError, ValueError, OverflowError):
        return None
    return now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def utc_text(now: float) -> str:
    """Return a time for a message."""
    return datetime.fromtimestamp(now, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
