"""Faults around a request's handler: before it, in its place, or in the response to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from flux2_tool.sandbox.faults import ELSEWHERE, Fault, Target
from flux2_tool.sandbox.responses import error_response, html_page, json_response
from flux2_tool.sandbox.service import Sandbox

Handler = Callable[[Request, Fault | None], Awaitable[Response]]

# Source: RFC 9110 section 6.4.1; a server that sends one nevertheless breaks the connection.
_BODILESS: Final = (204, 304)


class ConnectionDropped(Exception):  # noqa: N818 (what happened, and not an error of ours)
    """The sandbox closed the connection without a response, or in the middle of one.

    Over HTTP the socket is really closed. In process (`httpx.ASGITransport`) this exception reaches the caller
    instead; a test that wants httpx's own errors there translates it.
    """

    def __init__(self, message: str, *, flush: bool = False) -> None:
        super().__init__(message)
        self.flush = flush


class _TruncatedResponse(Response):
    """A response that announces more bytes than it sends."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        part = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": part, "more_body": True})
        raise ConnectionDropped("the connection closed in the middle of the response", flush=True)


def with_faults(sandbox: Sandbox, target: Target, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a handler so that faults for its kind of request apply to it."""

    async def respond(request: Request) -> Response:
        sandbox.settle(sandbox.clock())
        fault = sandbox.faults.take(target)
        if fault is None:
            return await handler(request, None)
        instead = await apply_before(sandbox, fault)
        if instead is not None:
            return instead
        response = await handler(request, fault)
        return await apply_after(sandbox, fault, response)

    return respond


async def apply_before(sandbox: Sandbox, fault: Fault) -> Response | None:
    """Apply a fault that keeps the request from its handler; return None when the handler is to run."""
    if fault.delay_s and not fault.accepted and fault.kind != "in_progress":
        await sandbox.sleep(fault.delay_s)
        sandbox.settle(sandbox.clock())
    if fault.kind == "drop_before":
        raise ConnectionDropped("the connection closed before the request was accepted")
    if fault.kind == "redirect" and not fault.accepted:
        return redirect_response(fault, ELSEWHERE)
    if fault.kind == "status" and not fault.accepted:
        return _status_response(sandbox, fault)
    return None


async def apply_after(sandbox: Sandbox, fault: Fault, response: Response) -> Response:
    """Apply a fault to the response of a handler that has run."""
    if fault.delay_s and fault.accepted:
        await sandbox.sleep(fault.delay_s)
    if fault.kind in ("drop_after", "in_progress"):
        raise ConnectionDropped("the connection closed after the request was accepted")
    if fault.kind == "status" and fault.accepted:
        return _status_response(sandbox, fault)
    if fault.kind == "retry_after":
        response.headers.update(_retry_after(sandbox, fault))
    elif fault.kind == "truncated_body":
        kind = response.headers.get("content-type")
        return _TruncatedResponse(response.body, response.status_code, _task_header(response), media_type=kind)
    elif fault.kind == "broken_json":
        body = bytes(response.body)
        cut = body[: max(1, len(body) * 2 // 3)]
        return Response(cut, response.status_code, _task_header(response), media_type="application/json")
    elif fault.kind == "oversized_body":
        padded = _padded(bytes(response.body), fault.size_bytes)
        return Response(padded, response.status_code, _task_header(response), media_type="application/json")
    return response


def redirect_response(fault: Fault, location: str) -> Response:
    """The response of a redirect fault, to its own `value` or else to a location."""
    status = fault.status if 300 <= fault.status < 400 else 307
    return Response(status_code=status, headers={"location": fault.value or location})


def _task_header(response: Response) -> dict[str, str]:
    """The header that names a new task: it arrives before the body goes wrong."""
    return {name: text for name, text in response.headers.items() if name == "x-runapi-task-id"}


def _padded(body: bytes, size_bytes: int) -> bytes:
    padding = b"x" * max(0, size_bytes - len(body))
    if body.startswith(b"{") and body.endswith(b"}") and len(body) > 2:
        return b'{"padding":"' + padding + b'",' + body[1:]
    return body + padding


def _status_response(sandbox: Sandbox, fault: Fault) -> Response:
    headers = _retry_after(sandbox, fault)
    message = fault.value or {409: "Idempotency-Key conflict", 429: "Too many requests"}.get(
        fault.status, "Service unavailable" if fault.status >= 500 else "Request failed"
    )
    if fault.body == "empty" or fault.status in _BODILESS:
        return Response(b"", fault.status, headers)
    if fault.body == "html":
        return html_page(fault.status, message, headers)
    if fault.body == "text":
        return Response(message, fault.status, headers, media_type="text/plain")
    if sandbox.options.error_shape == "html":
        return json_response({"error": message}, fault.status, headers)
    return error_response(sandbox.options, fault.status, message, headers=headers)


def _retry_after(sandbox: Sandbox, fault: Fault) -> dict[str, str]:
    value = fault.retry_after
    if value is None:
        return {}
    if isinstance(value, str) and value.startswith("date:"):
        return {"retry-after": formatdate(sandbox.clock() + float(value.removeprefix("date:")), usegmt=True)}
    return {"retry-after": f"{value:g}" if isinstance(value, int | float) else value}
