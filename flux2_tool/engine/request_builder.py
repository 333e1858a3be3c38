"""Build the exact requests from validated arguments: their body, ids and deduplication keys."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from flux2_tool.context import CallContext
from flux2_tool.engine.wait import ToolCall
from flux2_tool.journal import Intent
from flux2_tool.runapi import contract
from flux2_tool.runapi.services import service_of
from flux2_tool.schema.manifest import Manifest
from flux2_tool.settings import Settings
from flux2_tool.tasks.claims import PreparedRequest
from flux2_tool.tasks.create_request import CreateRequest
from flux2_tool.tasks.deduplication import dedup_key

if TYPE_CHECKING:
    from flux2_tool.engine.source_resolver import ResolvedSources


class RequestBuilder:
    """Builds the requests of one engine.

    Args:
        manifest: Defaults and models.
        settings: The operator's safety checker, and the amount to reserve for an unknown price.
        callback_url: Our own webhook; added if the agent named none.
        new_id: Makes unique ids, among them the idempotency key.
    """

    def __init__(
        self, *, manifest: Manifest, settings: Settings, callback_url: str | None, new_id: Callable[[], str]
    ) -> None:
        self._manifest = manifest
        self._settings = settings
        self._callback_url = callback_url
        self._new_id = new_id

    def build(
        self,
        call: ToolCall,
        caller: CallContext,
        *,
        sources: ResolvedSources | None,
        routes: Sequence[contract.Route],
        price_usd: float | None,
    ) -> list[PreparedRequest]:
        """Return the request of each picture: the agent's arguments, the model and the operator's settings, and nothing
        else. They differ in their ids and keys alone: how many the call asks for is no part of them.

        Args:
            call: Its arguments are validated.
            caller: Its session and sender are recorded.
            sources: The resolved sources of `remix_image`.
            routes: In the order they are tried.
            price_usd: The image's expected cost, None when unknown.
        """
        body, canonical = self._body(call, sources)
        account = call.account
        model, resolution = self._manifest.image_kind(call.tool, call.arguments)
        key_in = partial(
            dedup_key, fingerprint=account.fingerprint, base_url=account.base_url, tool=call.tool, arguments=canonical
        )
        request = CreateRequest(
            service=service_of(body["model"]),
            action="remix_image" if call.tool == "remix_image" else "text_to_image",
            body=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8"),
            idempotency_key=self._new_id(),
            client_request_id=self._new_id(),
            routes=tuple(routes),
        )
        intent = Intent(
            record_id=self._new_id(),
            session=caller.session,
            dedup_key=key_in(session=caller.session),
            cross_session_dedup_key=key_in(session=None),
            fingerprint=account.fingerprint,
            base_url=account.base_url,
            tool=request.action,
            model=model,
            resolution=resolution,
            label=slug_of(body["prompt"]),
            body=request.body,
            idempotency_key=request.idempotency_key,
            client_request_id=request.client_request_id,
            route=request.routes[0],
            price_usd=price_usd,
            sender=caller.sender,
            reserved_usd=self._settings.unknown_price_usd if price_usd is None else price_usd,
        )
        first = PreparedRequest(request=request, intent=intent)
        return [first] if call.count == 1 else self._set_of(first, call.count)

    def _set_of(self, first: PreparedRequest, count: int) -> list[PreparedRequest]:
        """Return this many equal requests of one set, each under ids and keys of its own."""
        set_id, prepared = self._new_id(), list[PreparedRequest]()
        for index in range(count):
            request, intent = first.request, replace(first.intent, set_id=set_id, set_size=count, set_index=index)
            if index:
                request = replace(request, idempotency_key=self._new_id(), client_request_id=self._new_id())
                intent = replace(
                    intent,
                    record_id=self._new_id(),
                    idempotency_key=request.idempotency_key,
                    client_request_id=request.client_request_id,
                )
            prepared.append(PreparedRequest(request=request, intent=intent))
        return prepared

    def key_of(self, call: ToolCall, caller: CallContext) -> str:
        """Return a key that is the same for the same arguments, as they were given, in a conversation and account."""
        account = call.account
        return dedup_key(
            session=caller.session,
            fingerprint=account.fingerprint,
            base_url=account.base_url,
            tool=call.tool,
            arguments=self._with_defaults(call),
        )

    def _with_defaults(self, call: ToolCall) -> dict[str, Any]:
        properties: dict[str, Any] = self._manifest.tools[call.tool].input_schema["properties"]
        defaults = {name: schema["default"] for name, schema in properties.items() if "default" in schema}
        return {**defaults, **call.arguments}

    def _body(self, call: ToolCall, sources: ResolvedSources | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the body to send, and the arguments for deduplication: with defaults and the sources' identities."""
        model, _ = self._manifest.image_kind(call.tool, call.arguments)
        body: dict[str, Any] = {"model": model, **call.arguments}
        canonical = self._with_defaults(call)
        for arguments in (body, canonical):
            arguments.pop("count", None)
        if sources is not None:
            body["source_image_urls"] = sources.urls
            canonical["source_image_urls"] = sources.identities
        safety_checker, forbidden = self._settings.safety_checker, self._manifest.models[model].forbids
        if safety_checker is not None and "enable_safety_checker" not in (*body, *forbidden):
            body["enable_safety_checker"] = safety_checker
        if self._callback_url is not None and "callback_url" not in body:
            body["callback_url"] = self._callback_url
        return body, canonical


_UNSAFE = re.compile(r"[^\w]+", re.UNICODE)


def slug_of(prompt: str, *, limit: int = 40) -> str:
    """Return a prompt as part of a file name: letters and digits of any script, joined by hyphens."""
    return _UNSAFE.sub("-", prompt).strip("-_")[:limit].strip("-_").lower() or "image"
