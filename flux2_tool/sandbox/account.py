"""Account, balance and prices over HTTP."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from flux2_tool.sandbox import prices
from flux2_tool.sandbox.access import api_key, json_object
from flux2_tool.sandbox.catalog import MODELS
from flux2_tool.sandbox.faults import Fault
from flux2_tool.sandbox.ledger import fingerprint
from flux2_tool.sandbox.responses import error_response, json_response
from flux2_tool.sandbox.service import Sandbox, day_of
from flux2_tool.sandbox.tasks import iso


async def info(sandbox: Sandbox, request: Request, fault: Fault | None) -> Response:
    """Who the key belongs to."""
    if sandbox.authorized_key(api_key(request)) is None:
        return error_response(sandbox.options, 401, "Invalid or missing API key")
    return json_response(
        {
            "id": 1,
            "name": "Sandbox User",
            "email": "user@sandbox.invalid",
            "account": {"id": 1, "name": "Sandbox Account"},
        }
    )


async def models(sandbox: Sandbox, request: Request, fault: Fault | None) -> Response:
    """The models, in the form of OpenAI's list, without a key."""
    slugs = dict.fromkeys(slug for of_action in MODELS.values() for slug in of_action)
    data = [{"id": slug, "object": "model", "created": 0, "owned_by": "black-forest-labs"} for slug in slugs]
    return json_response({"object": "list", "data": data})


async def balance(sandbox: Sandbox, request: Request, fault: Fault | None) -> Response:
    """What the key can spend. Money reserved for tasks in flight is not counted as spent."""
    key = sandbox.authorized_key(api_key(request))
    if key is None:
        return error_response(sandbox.options, 401, "Invalid or missing API key")
    account = sandbox.account(fingerprint(key))
    return json_response(
        {
            "balance_cents": account.balance_cents,
            "paid_balance_cents": account.balance_cents,
            "bonus_balance_cents": 0,
            "spent_cents_today": account.spent_by_day.get(day_of(sandbox.clock()), 0),
            "spent_cents_total": account.spent_cents,
        }
    )


async def price_schedules(sandbox: Sandbox, request: Request, fault: Fault | None) -> Response:
    """The price list, without a key; 304 when the caller has it already."""
    found = prices.schedules(request.query_params)
    tag = prices.etag(found)
    headers = {"etag": tag, "cache-control": "public, max-age=300"}
    known = {item.strip() for item in request.headers.get("if-none-match", "").split(",")}
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return json_response({"as_of": iso(sandbox.clock()), "price_schedules": found}, headers=headers)


async def price_quotes(sandbox: Sandbox, request: Request, fault: Fault | None) -> Response:
    """What one request would cost, without a key."""
    asked = await json_object(request)
    if asked is None:
        return error_response(sandbox.options, 400, "The request body is not a JSON object")
    quote, errors = prices.quote(asked)
    if quote is None:
        return error_response(sandbox.options, 422, "Validation failed", errors=errors)
    return json_response({"price_quote": {**quote, "as_of": iso(sandbox.clock())}})
