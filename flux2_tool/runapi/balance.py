"""The RunAPI account's balance: `GET /api/v1/me/balance`, which is free.

Source of path and fields: the vendor's published contract. A missing or invalid field is unknown, not zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flux2_tool.exceptions import ServiceUnavailableError, UnexpectedAnswerError
from flux2_tool.runapi import contract
from flux2_tool.runapi.client import HttpResponse, RunapiClient
from flux2_tool.runapi.error_mapping import error_from_response
from flux2_tool.runapi.responses import UnreadableResponseError, decode_json
from flux2_tool.runapi.send_errors import CrossOriginRedirectError, MaybeSentError, NotSentError, UnusableNetworkError

MAX_CENTS: Final = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """An account's balance and spending, in US dollars; None where RunAPI names none."""

    balance_usd: float | None
    paid_usd: float | None = None
    bonus_usd: float | None = None
    spent_today_usd: float | None = None
    spent_total_usd: float | None = None


async def read_balance(client: RunapiClient) -> Balance:
    """Return the account's balance.

    Raises:
        AuthenticationError: RunAPI refused the key.
        ConfigurationError: The network's settings or certificates lead nowhere.
        RateLimitedError, ServiceUnavailableError: RunAPI cannot respond now.
        UnexpectedAnswerError: The response has no balance.
    """
    try:
        return balance_of(await client.send("GET", contract.BALANCE_PATH))
    except UnusableNetworkError as exc:
        raise exc.as_set_up_error() from exc
    except (NotSentError, MaybeSentError) as exc:
        raise ServiceUnavailableError(
            f"RunAPI could not be reached at {client.base_url}: {exc}.", hint="Check the network and the base URL."
        ) from exc
    except CrossOriginRedirectError as exc:
        raise UnexpectedAnswerError(
            f"RunAPI redirects GET {contract.BALANCE_PATH} {exc.as_end_of_sentence()}",
            hint="Check the base URL.",
        ) from exc


def balance_of(response: HttpResponse) -> Balance:
    """Return the balance in a response.

    Raises:
        Flux2Error: As `read_balance`.
    """
    if not 200 <= response.status_code < 300:
        raise error_from_response(
            response,
            request=f"GET {contract.BALANCE_PATH}",
            check="Check the base URL; the account's page at https://runapi.ai shows the balance.",
        )
    try:
        body = decode_json(response.body, response.content_type)
    except UnreadableResponseError as exc:
        raise _without_balance(response, f" and {exc}, so") from exc
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
        raise _without_balance(response, " but")
    return balance


def _without_balance(response: HttpResponse, what: str) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(
        f"RunAPI answered GET {contract.BALANCE_PATH} with HTTP {response.status_code}{what} no balance.",
        hint="The account's page at https://runapi.ai shows it.",
        request_id=response.request_id,
    )


def _usd(cents: Any) -> float | None:
    if isinstance(cents, bool) or not isinstance(cents, int | float) or not -MAX_CENTS <= cents <= MAX_CENTS:
        return None
    return round(cents / 100, 6)
