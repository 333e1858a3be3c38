"""From validated arguments to the exact request: the body's bytes, its keys, and what makes it equal to another."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flux2_tool.context import CallContext
from flux2_tool.engine.result_builder import slug_of
from flux2_tool.engine.sources import ResolvedSources
from flux2_tool.journal import Intent
from flux2_tool.runapi import contract
from flux2_tool.schema.manifest import Manifest
from flux2_tool.tasks.deduplication import dedup_key
from flux2_tool.tasks.registry import Account
from flux2_tool.tasks.submit import CreateRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A request that is ready to be written down and sent."""

    request: CreateRequest
    intent: Intent


def build_request(
    manifest: Manifest,
    tool_name: str,
    arguments: Mapping[str, Any],
    *,
    caller: CallContext,
    account: Account,
    sources: ResolvedSources | None,
    safety_checker: bool | None,
    callback_url: str | None,
    routes: Sequence[contract.Route],
    price_usd: float | None,
    unknown_price_usd: float,
    new_id: Callable[[], str],
) -> PreparedRequest:
    """Return the request: what the agent gave, plus the model and what the operator has set, and nothing else.

    Args:
        arguments: Validated.
        sources: The resolved sources of `remix_image`.
        safety_checker: The operator's setting; it is added where the agent said nothing and the model has it.
        callback_url: Our own webhook; it is added where the agent named none.
        routes: In the order they are tried.
        price_usd: What the image is expected to cost, None when unknown.
        unknown_price_usd: What an unknown price counts as against the caps.
        new_id: Makes ids; the idempotency key is derived from nothing else.
    """
    tool = manifest.tools[tool_name]
    model = str(arguments.get("model", tool.default_model))
    body: dict[str, Any] = {"model": model, **arguments}
    properties: dict[str, Any] = tool.input_schema["properties"]
    canonical = {name: schema["default"] for name, schema in properties.items() if "default" in schema} | dict(
        arguments
    )
    if sources is not None:
        body["source_image_urls"] = sources.urls
        canonical["source_image_urls"] = sources.identities
    safety_checker_forbidden = "enable_safety_checker" in manifest.models[model].forbids
    if safety_checker is not None and "enable_safety_checker" not in body and not safety_checker_forbidden:
        body["enable_safety_checker"] = safety_checker
    if callback_url is not None and "callback_url" not in body:
        body["callback_url"] = callback_url
    resolution = str(body.get("output_resolution", "1k"))
    request = CreateRequest(
        action="remix_image" if tool_name == "remix_image" else "text_to_image",
        body=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8"),
        idempotency_key=new_id(),
        client_request_id=new_id(),
        routes=tuple(routes),
    )
    key_in = partial(
        dedup_key, fingerprint=account.fingerprint, base_url=account.base_url, tool=tool_name, arguments=canonical
    )
    intent = Intent(
        record_id=new_id(),
        session=caller.session,
        dedup_key=key_in(session=caller.session),
        cross_session_dedup_key=key_in(session=None),
        fingerprint=account.fingerprint,
        base_url=account.base_url,
        tool=request.action,
        model=model,
        resolution=resolution,
        label=slug_of(str(body["prompt"])),
        body=request.body,
        idempotency_key=request.idempotency_key,
        client_request_id=request.client_request_id,
        route=request.routes[0],
        price_usd=price_usd,
        sender=caller.sender,
        reserved_usd=unknown_price_usd if price_usd is None else price_usd,
    )
    return PreparedRequest(request=request, intent=intent)
