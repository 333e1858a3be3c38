"""The RunAPI account's money: `GET /api/v1/me/balance`, which costs nothing.

Source of path and fields: the vendor's published contract. A field that is missing or odd is unknown, not zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flux2_tool.exceptions import (
    AuthenticationError,
    Flux2Error,
    RateLimitedError,
    ServiceUnavailableError,
    UnexpectedAnswerError,
)
from flux2_tool.runapi import contract
from flux2_tool.runapi.client import CrossOriginRedirectError, HttpResponse, MaybeSentError, NotSentError, RunapiClient
from flux2_tool.runapi.responses import UnreadableResponseError, decode_json, read_error

MAX_CENTS: Final = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What an account can spend and has spent, in US dollars; None where RunAPI does not say."""

    balance_usd: float | None
    paid_usd: float | None = None
    bonus_usd: float | None = None
    spent_today_usd: float | None = None
    spent_total_usd: float | None = None


async def read_balance(client: RunapiClient) -> Balance:
    """Return the account's balance.

    Raises:
        AuthenticationError: RunAPI refused the key.
        RateLimitedError, ServiceUnavailableError: It cannot tell now.
        UnexpectedAnswerError: It answered something else.
    """
    try:
        return balance_of(await client.send("GET", contract.BALANCE_PATH))
    except (NotSentError, MaybeSentError) as exc:
        raise ServiceUnavailableError(
            f"RunAPI could not be reached at {client.base_url}: {exc}.", hint="Check the network and the base URL."
        ) from exc
    except CrossOriginRedirectError as exc:
        raise UnexpectedAnswerError(
            f"RunAPI redirects GET {contract.BALANCE_PATH} elsewhere: {exc}. The key was not sent there.",
            hint="Check the base URL.",
        ) from exc


def balance_of(answer: HttpResponse) -> Balance:
    """Return the balance an answer names.

    Raises:
        Flux2Error: As `read_balance`.
    """
    try:
        body = decode_json(answer.body, answer.content_type)
        said = read_error(body).message
    except UnreadableResponseError as exc:
        body, said = None, str(exc)
    if not 200 <= answer.status_code < 300:
        raise _refusal(answer, said)
    fields = body.get("data", body) if isinstance(body, Mapping) else None
    fields = fields if isinstance(fields, Mapping) else {}
    balance = Balance(
        balance_usd=_usd(fields.get("balance_cents")),
        paid_usd=_usd(fields.get("paid_balance_cents")),
        bonus_usd=_usd(fields.get("bonus_balance_cents")),
        spent_today_usd=_usd(fields.get("spent_cents_today")),
        spent_total_usd=_usd(fields.get("spent_cents_total")),
    )
    if balance.balance_usd is None:
        raise UnexpectedAnswerError(
            f"RunAPI answered GET {contract.BALANCE_PATH} with HTTP {answer.status_code} but no balance.",
            hint="The account's page at https://runapi.ai shows it.",
            request_id=answer.request_id,
        )
    return balance


def _refusal(answer: HttpResponse, said: str) -> Flux2Error:
    code = answer.status_code
    quoted = f', it says: "{said}"' if said else ""
    if code in (401, 403):
        return AuthenticationError(
            f"RunAPI refused the key (HTTP {code}{quoted}).",
            hint="Replace RUNAPI_API_KEY with a valid key from https://runapi.ai.",
            request_id=answer.request_id,
        )
    if code == 429:
        return RateLimitedError(
            f"RunAPI limits the rate (HTTP 429{quoted}).", hint="Try again later.", request_id=answer.request_id
        )
    if code in contract.RETRYABLE_CODES or code >= 500:
        return ServiceUnavailableError(
            f"RunAPI is unavailable (HTTP {code}{quoted}).", hint="Try again later.", request_id=answer.request_id
        )
    return UnexpectedAnswerError(
        f"RunAPI answered GET {contract.BALANCE_PATH} with HTTP {code}{quoted}.",
        hint="Check the base URL; the account's page at https://runapi.ai shows the balance.",
        request_id=answer.request_id,
    )


def _usd(cents: Any) -> float | None:
    if isinstance(cents, bool) or not isinstance(cents, int | float) or not -MAX_CENTS <= cents <= MAX_CENTS:
        return None
    return round(cents / 100, 6)
