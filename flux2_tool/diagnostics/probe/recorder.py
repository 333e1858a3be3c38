"""Record HTTP exchanges: paths, codes, names and types, and never a value that signs or authorises.

A transport between the client and the network, and an exchange's description as text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import httpx

from flux2_tool._net import is_web_url
from flux2_tool._redaction import masked_text
from flux2_tool.runapi.responses import UnreadableResponseError, decode_json
from flux2_tool.runapi.text import printable
from flux2_tool.runapi.transport import NetworkTransport

MAX_RECORDED_BYTES: Final = 8 * 1024 * 1024
MAX_DEPTH: Final = 6
MAX_MEMBERS: Final = 60
# The fields and headers whose values are shown: the service's own vocabulary, or public prices.
_SHOWN_FIELDS: Final = frozenset(
    {"status", "state", "model", "action", "service", "currency", "pricing_status", "catalog_status", "billing_unit",
     "billing_strategy", "estimate_basis", "unit_price_cents", "reservation_amount_cents", "cost", "code"}
)  # fmt: skip
_SHOWN_HEADERS: Final = frozenset({"content-type", "retry-after", "cache-control"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its response. Bodies are decoded JSON, None where there is none."""

    method: str
    url: str
    sent_headers: tuple[str, ...]
    sent: Any
    code: int | None
    headers: Mapping[str, str]
    body: Any
    body_note: str

    @property
    def path(self) -> str:
        """The path without its query."""
        return urlsplit(self.url).path

    @property
    def is_good(self) -> bool:
        """Whether the response is a 2xx."""
        return self.code is not None and 200 <= self.code < 300


@dataclass
class RecordingTransport(httpx.AsyncBaseTransport):
    """Passes requests on to the network and keeps what was sent and received."""

    inner: httpx.AsyncBaseTransport
    exchanges: list[Exchange] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        sent = await request.aread()
        try:
            response = await self.inner.handle_async_request(request)
            received = bytearray()
            if isinstance(response.stream, httpx.AsyncByteStream):
                async for chunk in response.stream:
                    received += chunk
                    if len(received) > MAX_RECORDED_BYTES:
                        break
                await response.stream.aclose()
        except httpx.HTTPError as exc:
            self._keep(request, sent, None, f"no answer ({type(exc).__name__})")
            raise
        self._keep(request, sent, (response, bytes(received)), "")
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=httpx.ByteStream(bytes(received)),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self.inner.aclose()

    def _keep(
        self, request: httpx.Request, sent: bytes, response: tuple[httpx.Response, bytes] | None, body_note: str
    ) -> None:
        headers, body = {}, None
        if response is not None:
            headers = {name.lower(): value for name, value in response[0].headers.items()}
            body, body_note = _body_of(*response)
        self.exchanges.append(
            Exchange(
                method=request.method,
                url=str(request.url),
                sent_headers=tuple(sorted(name.lower() for name in request.headers)),
                sent=_json_or_none(sent),
                code=None if response is None else response[0].status_code,
                headers=headers,
                body=body,
                body_note=body_note,
            )
        )


def network(base_url: str) -> httpx.AsyncBaseTransport:
    """Return the transport that `open_http` would use.

    Raises:
        ConfigurationError: As `open_http`.
    """
    return NetworkTransport(base_url, os.environ)


def shape_of(value: Any, *, name: str = "", depth: int = 0) -> str:
    """Return a JSON value's structure: names and types, and the values of _SHOWN_FIELDS only."""
    if isinstance(value, Mapping):
        if depth >= MAX_DEPTH:
            return "{…}"
        if name == "billing_config":
            return printable(json.dumps(value, default=str), 500)
        members = (
            f"{printable(str(key), 60)}: {shape_of(item, name=str(key), depth=depth + 1)}"
            for key, item in list(value.items())[:MAX_MEMBERS]
        )
        return f"{{{', '.join(members)}{', …' if len(value) > MAX_MEMBERS else ''}}}"
    if isinstance(value, list):
        inner = shape_of(value[0], name=name, depth=depth + 1) if value and depth < MAX_DEPTH else ""
        return f"[{len(value)} × {inner}]" if value else "[]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return f"number {value}" if name in _SHOWN_FIELDS and abs(value) < 1e9 else "number"
    if is_web_url(value):
        return link_of(value)
    return f'text "{printable(str(value), 60)}"' if name in _SHOWN_FIELDS else f"text of {len(str(value))}"


def link_of(url: str) -> str:
    """Return a link's scheme and the names in its query."""
    parts = urlsplit(url)
    names = sorted({name for name, _ in parse_qsl(parts.query, keep_blank_values=True)})
    return f"{parts.scheme} URL" + (f" with {', '.join(printable(name, 40) for name in names[:20])}" if names else "")


def described(exchange: Exchange, *, task_id: str | None, key: str) -> list[str]:
    """Return an exchange as lines without its secrets, the task's id and the key."""
    path, query = exchange.path, urlsplit(exchange.url).query
    names = ", ".join(f"{name}=…" for name, _ in parse_qsl(query, keep_blank_values=True))
    lines = [
        f"{exchange.method} {path}{f'?{names}' if names else ''}",
        f"  sent:    {', '.join(exchange.sent_headers)}",
    ]
    if exchange.sent is not None:
        lines.append(f"  body:    {shape_of(exchange.sent)}")
    lines.append(f"  answer:  {'none' if exchange.code is None else f'HTTP {exchange.code}'}{_more(exchange)}")
    if exchange.headers:
        header_names = (
            f"{n}: {printable(v, 80)}" if n in _SHOWN_HEADERS else printable(n, 60) for n, v in exchange.headers.items()
        )
        lines.append(f"  headers: {', '.join(sorted(header_names))}")
    if exchange.body is not None:
        lines.append(f"  body:    {shape_of(exchange.body)}")
    return [without(line, task_id=task_id, key=key) for line in lines]


def without(text: str, *, task_id: str | None, key: str) -> str:
    """Return text without the key and the task's id."""
    text = masked_text(text, key)
    return text.replace(task_id, "{id}") if task_id else text


def _more(exchange: Exchange) -> str:
    return f", {printable(exchange.body_note, 120)}" if exchange.body_note else ""


def _body_of(response: httpx.Response, data: bytes) -> tuple[Any, str]:
    """Return a response's JSON, or None and the reason."""
    try:
        whole = httpx.Response(response.status_code, headers=response.headers, content=data).content
        return decode_json(whole, response.headers.get("content-type", "")), ""
    except UnreadableResponseError as exc:
        return None, str(exc)
    except httpx.HTTPError as exc:
        return None, f"a body that cannot be decoded ({type(exc).__name__})"


def _json_or_none(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
