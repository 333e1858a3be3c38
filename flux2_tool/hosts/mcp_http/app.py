"""What stands before the SDK's HTTP transport, as an ASGI application: access, bounds, and whose request it is.

A request whose sender may not speak is refused before its body is read. Sessions are kept here, because not every
version of the SDK ends them or bounds their number. Source: the MCP specification, 2025-11-25 and 2026-07-28,
basic/transports, Streamable HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from flux2_tool._net import is_loopback
from flux2_tool.hosts.mcp_http.access import Access, Refusal
from flux2_tool.hosts.mcp_http.address import PATH
from flux2_tool.hosts.mcp_http.exchange import Exchange, Message, Receive, Send, SentAnswers
from flux2_tool.hosts.mcp_http.opening import SESSION_HEADER, Opening
from flux2_tool.hosts.mcp_http.refused import RefusedError, refuse, respond
from flux2_tool.hosts.mcp_http.sessions import Session, Sessions, stateless_conversation
from flux2_tool.hosts.mcp_params import check_params, without_null_meta
from flux2_tool.hosts.mcp_requests import EXCHANGE_KEY, AnySdk, cancelled_by
from flux2_tool.hosts.mcp_transport import ID_IN_USE, MAX_LINE_BYTES, as_sent, checked_message, readable_message
from flux2_tool.hosts.worker.json_rpc import (
    METHOD_NOT_FOUND,
    ProtocolFaultError,
    RequestId,
    request_id_of,
)

logger = logging.getLogger(__name__)

HEALTH_PATH: Final = "/health"
MAX_BODY_BYTES: Final = MAX_LINE_BYTES
# Of all clients together.
MAX_BODIES_BYTES: Final = 4 * MAX_BODY_BYTES
BODY_WITHIN_S: Final = 60.0
SWEEP_EVERY_S: Final = 60.0
_METHODS: Final = ("GET", "POST", "DELETE")

Scope = dict[str, Any]


class McpApp:
    """The ASGI application.

    Args:
        manager: The SDK's, which runs while the application is used.
        sdk: The SDK.
        access: Who may speak.
        sessions: The open sessions.
        answers: Takes what becomes of results.
    """

    def __init__(self, manager: Any, *, sdk: AnySdk, access: Access, sessions: Sessions, answers: SentAnswers) -> None:
        self._manager = manager
        self._sdk = sdk
        self._access = access
        self._sessions = sessions
        self._answers = answers
        self._stopped = asyncio.Event()
        self._bodies_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        held_bytes = 0
        try:
            headers = _headers_of(scope)
            if scope["path"] == HEALTH_PATH and scope["method"] in ("GET", "HEAD"):
                await respond(send, 200, {"status": "ok"})
                return
            refusal = self._access.refusal(headers) or _misdirected(scope)
            if refusal is not None:
                raise RefusedError(refusal.status, refusal.message, headers=refusal.headers)
            body = b""
            if scope["method"] == "POST":
                body = await self._body(receive, headers)
                held_bytes = len(body)
            await self._serve(scope, receive, send, headers=headers, body=body)
        except RefusedError as exc:
            await refuse(send, exc)
        except ConnectionError:
            logger.debug("a client left before its request was whole")
        finally:
            self._bodies_bytes -= held_bytes

    def stop(self) -> None:
        """End the streams that have no end of their own."""
        self._stopped.set()

    async def sweep(self) -> None:
        """End sessions that nobody uses any more, again and again."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            for session_id in self._sessions.idle():
                await self._end(session_id)

    # ---- private -----------------------------------------------------------------------------------------------------

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, *, headers: Mapping[str, Sequence[str]], body: bytes
    ) -> None:
        message = self._message(body) if scope["method"] == "POST" else {}
        readable = readable_message(message)
        address = _address_of(scope, headers)
        session, is_opening = None, False
        if not self._sdk.is_stateless(_one(headers, "mcp-protocol-version")):
            session = self._session(headers)
            is_opening = session is None
            if is_opening and message.get("method") != "initialize":
                raise RefusedError(400, "a session begins with initialize; then send its Mcp-Session-Id")
            if is_opening:
                await self._make_room()

        def name(client: str) -> str:
            return stateless_conversation(client, address) if session is None else session.conversation

        exchange = Exchange(
            receive,
            send,
            body=as_sent(body) if readable is None else readable[0],
            answers=self._answers,
            name=name,
            transport=(scope.get("state") or {}).get("transport"),
            until=self._stopped if scope["method"] == "GET" else None,
        )
        exchange.arguments = None if readable is None else readable[1]
        taken = await self._checked_id(session, message, exchange)
        opening = None
        if is_opening:
            on_session = partial(self._sessions.opened, client=_client_name(message), address=address)
            opening = Opening(exchange.send, on_session)
        if session is not None:
            self._sessions.begin(session)
            exchange.on_gone(partial(self._sessions.leave, session))
        try:
            inner = {**scope, "headers": _without_resumption(scope["headers"]), EXCHANGE_KEY: exchange}
            await self._manager.handle_request(inner, exchange.receive, (opening or exchange).send)
        finally:
            if session is not None and taken is not None:
                session.running.release(taken, after=exchange.answering)
            await exchange.end()
            if session is not None:
                self._sessions.finish(session, is_left=exchange.is_gone)
            if opening is not None and opening.session_id is not None and opening.has_failed:
                await self._end(opening.session_id)
        if session is not None and scope["method"] == "DELETE":
            self._forget(session.session_id)

    def _message(self, body: bytes) -> dict[str, Any]:
        try:
            message = checked_message(body)
        except ProtocolFaultError as exc:
            raise RefusedError(400, str(exc), code=exc.code, request_id=exc.request_id) from exc
        method, request_id = message.get("method"), request_id_of(message)
        # A response to what could not be read has the id null.
        if "id" in message and request_id is None and ("method" in message or message["id"] is not None):
            raise RefusedError(400, "id must be a string or a whole number")
        if "id" in message and isinstance(method, str) and not self._sdk.answers(method):
            raise RefusedError(200, "Method not found", code=METHOD_NOT_FOUND, request_id=request_id)
        return message

    def _session(self, headers: Mapping[str, Sequence[str]]) -> Session | None:
        session_id = _one(headers, SESSION_HEADER)
        if session_id is None:
            return None
        session = self._sessions.find(session_id)
        if session is None:
            raise RefusedError(404, "this session is over, or was never begun; begin another with initialize")
        return session

    async def _checked_id(
        self, session: Session | None, message: dict[str, Any], exchange: Exchange
    ) -> RequestId | None:
        """Return the id of a request, which its session has in use until it is released; None for what is no request.

        Of clients without sessions each request is answered by itself, whatever its id is.
        """
        request_id = request_id_of(message) if "method" in message else None
        if session is not None and (cancelled := cancelled_by(message)) is not None:
            session.running.cancel(cancelled)
        if request_id is None:
            return None
        if session is not None and not await session.running.take(request_id, exchange.cancelled):
            raise RefusedError(400, ID_IN_USE)
        try:
            check_params(without_null_meta(message))
        except ProtocolFaultError as exc:
            if session is not None:
                session.running.release(request_id)
            # As the SDK has it.
            raise RefusedError(400 if session is None else 200, str(exc), code=exc.code, request_id=request_id) from exc
        return request_id

    async def _make_room(self) -> None:
        yielding = self._sessions.yielding()
        if yielding is not None:
            await self._end(yielding)
        if self._sessions.is_full:
            raise RefusedError(503, f"{len(self._sessions)} sessions are open", headers={"retry-after": "60"})

    async def _end(self, session_id: str) -> None:
        """End a session as its client would."""
        headers = [(SESSION_HEADER.encode(), session_id.encode("latin-1"))]
        scope = {"type": "http", "method": "DELETE", "path": PATH, "query_string": b"", "headers": headers}

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_message: Message) -> None:
            pass

        self._forget(session_id)
        await self._manager.handle_request(scope, receive, send)
        self._forget(session_id)

    def _forget(self, session_id: str) -> None:
        self._sessions.ended(session_id)
        # Version 1.24 of the SDK keeps sessions that its client has ended.
        kept = getattr(self._manager, "_server_instances", {})
        if getattr(kept.get(session_id), "is_terminated", False):
            kept.pop(session_id, None)

    async def _body(self, receive: Receive, headers: Mapping[str, Sequence[str]]) -> bytes:
        """Return the whole body; it counts among the bodies that are held as it comes, and from then on.

        Raises:
            ConnectionError: The client has left.
            RefusedError: It is too long, or takes too long, or there are too many.
        """
        body = bytearray()
        try:
            self._check_room(0, _announced_bytes(headers))
            async with asyncio.timeout(BODY_WITHIN_S):
                async for part in _parts_of(receive):
                    self._check_room(len(body), len(part))
                    body += part
                    self._bodies_bytes += len(part)
        except BaseException as exc:
            self._bodies_bytes -= len(body)
            if isinstance(exc, TimeoutError):
                raise RefusedError(408, f"a message is sent within {BODY_WITHIN_S:.0f} s") from None
            raise
        return bytes(body)

    def _check_room(self, held_bytes: int, more_bytes: int) -> None:
        if held_bytes + more_bytes > MAX_BODY_BYTES:
            raise RefusedError(413, f"a message may be at most {MAX_BODY_BYTES} bytes long")
        if self._bodies_bytes + more_bytes > MAX_BODIES_BYTES:
            raise RefusedError(503, "too many large messages at once", headers={"retry-after": "5"})


def _announced_bytes(headers: Mapping[str, Sequence[str]]) -> int:
    """Return how long a body will be; 0 where the client does not say, and too long where that is nonsense."""
    text = _one(headers, "content-length") or "0"
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else MAX_BODY_BYTES + 1


def _misdirected(scope: Scope) -> Refusal | None:
    if scope["path"].rstrip("/") != PATH:
        return Refusal(status=404, message=f"the MCP server is at {PATH}")
    if scope["method"] not in _METHODS:
        return Refusal(status=405, message="no such method", headers={"allow": ", ".join(_METHODS)})
    return None


async def _parts_of(receive: Receive) -> AsyncIterator[bytes]:
    """Yield a body as it comes.

    Raises:
        ConnectionError: The client has left.
    """
    is_whole = False
    while not is_whole:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionResetError
        yield message.get("body", b"")
        is_whole = not message.get("more_body", False)


def _headers_of(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _without_resumption(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers of a request for a stream that begins anew: none is resumed, and the SDK fails at that."""
    return [(name, value) for name, value in headers if name.lower() != b"last-event-id"]


def _one(headers: Mapping[str, Sequence[str]], name: str) -> str | None:
    """Return a header's value, None without one.

    Raises:
        RefusedError: There are several: a proxy, and the SDK, may have read another one.
    """
    values = headers.get(name, ())
    if len(set(values)) > 1:
        raise RefusedError(400, f"the header {name} was sent more than once, with different values")
    return values[0] if values else None


def _address_of(scope: Scope, headers: Mapping[str, Sequence[str]]) -> str:
    """Return the client's address; behind a proxy of this machine the one that the proxy tells.

    That is the last of all lines: what stands before it came from the client, and may be anybody's address.
    """
    address = str((scope.get("client") or ("unknown",))[0])
    told = ",".join(headers.get("x-forwarded-for", ())).rpartition(",")[2].strip()
    return told[:45] if told and is_loopback(address) else address


def _client_name(message: Mapping[str, Any]) -> str:
    params = message.get("params")
    info = params.get("clientInfo") if isinstance(params, dict) else None
    name = info.get("name") if isinstance(info, dict) else None
    return name if isinstance(name, str) else ""
