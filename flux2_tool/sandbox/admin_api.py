"""The sandbox's admin API under `/_sandbox`: read the ledger, queue faults, change options. It needs no key."""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from flux2_tool.sandbox.access import json_object
from flux2_tool.sandbox.faults import Fault, FaultRate
from flux2_tool.sandbox.responses import json_response
from flux2_tool.sandbox.service import Sandbox


def routes(sandbox: Sandbox) -> list[BaseRoute]:
    """The admin routes of one sandbox."""
    return [
        Route("/_sandbox/ledger", partial(_ledger, sandbox), methods=["GET"]),
        Route("/_sandbox/faults", partial(_faults, sandbox), methods=["GET", "POST", "DELETE"]),
        Route("/_sandbox/options", partial(_options, sandbox), methods=["GET", "PATCH"]),
    ]


async def _ledger(sandbox: Sandbox, request: Request) -> Response:
    """Everything that happened; `?bodies=0` leaves the create bodies out."""
    return json_response(sandbox.ledger.as_json(sandbox.clock(), bodies=request.query_params.get("bodies") != "0"))


async def _faults(sandbox: Sandbox, request: Request) -> Response:
    """POST `{"queue": [fault...], "rates": [{"rate": 0.1, ...fault}], "seed": 7}`; DELETE clears both."""
    if request.method == "DELETE":
        sandbox.faults.clear()
    elif request.method == "POST":
        body = await json_object(request)
        if body is None:
            return json_response({"error": "the body must be a JSON object"}, 400)
        try:
            queue = [Fault.from_json(item) for item in body.pop("queue", [])]
            rates = [_rate(item) for item in body["rates"]] if "rates" in body else None
        except (ValueError, TypeError, KeyError) as exc:
            return json_response({"error": f"not a fault: {exc}"}, 422)
        sandbox.faults.queue(*queue)
        if rates is not None:
            sandbox.faults.set_rates(rates, seed=body.get("seed"))
    pending = [asdict(fault) for fault in sandbox.faults.pending()]
    return json_response({"queue": pending, "committed": sandbox.faults.committed})


async def _options(sandbox: Sandbox, request: Request) -> Response:
    """PATCH some options; the response has them all, without keys and secret."""
    if request.method == "PATCH":
        body = await json_object(request)
        if body is None:
            return json_response({"error": "the body must be a JSON object"}, 400)
        try:
            sandbox.change(body)
        except ValueError as exc:
            return json_response({"error": str(exc)}, 422)
    shown: dict[str, Any] = {}
    for item in fields(sandbox.options):
        value = getattr(sandbox.options, item.name)
        shown[item.name] = sorted(value) if isinstance(value, frozenset) else value
    shown["api_keys"] = len(shown["api_keys"])
    shown["callback_secret"] = bool(shown["callback_secret"])
    return json_response(shown)


def _rate(item: dict[str, Any]) -> FaultRate:
    fault = {name: value for name, value in item.items() if name != "rate"}
    return FaultRate(rate=float(item["rate"]), fault=Fault.from_json(fault))
