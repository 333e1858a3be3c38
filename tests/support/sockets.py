"""The same scenarios over real sockets: a bridge from a transport to loopback and back.

`SocketTransport` sends every request, whatever its origin, through httpx's own network code to a server on 127.0.0.1,
which hands it to the transport that a test scripts. So what a test sees is what travelled through the kernel: bytes,
keep-alive connections, resets. Both ends run on the test's loop, whose virtual time stands still while bytes travel.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Final

import h11
import httpx

from tests.support.virtual_time import VirtualLoop

_ORIGIN_HEADER: Final = "x-bridge-origin"
# What httpx sees as an answer that was cut off in good order; any other error resets the connection.
_CLOSED_IN_ORDER: Final = (httpx.RemoteProtocolError,)
_BODILESS: Final = (204, 304)


class SocketTransport(httpx.AsyncBaseTransport):
    """Carries requests to another transport over a loopback connection.

    Args:
        inner: Answers; a request reaches it with the URL, headers and body it was sent with.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._bridge = Bridge(inner)
        self._network = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        port = await self._bridge.port()
        origin = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
        sent = httpx.Request(
            request.method,
            httpx.URL(scheme="http", host="127.0.0.1", port=port, raw_path=request.url.raw_path),
            headers=[*request.headers.raw, (_ORIGIN_HEADER.encode(), origin.encode())],
            stream=request.stream,
            extensions=request.extensions,
        )
        _on_the_wire(+1)
        try:
            response = await self._network.handle_async_request(sent)
        except BaseException:
            _on_the_wire(-1)
            raise
        # The peer is the bridge and not the host that the test names.
        extensions = {name: value for name, value in response.extensions.items() if name != "network_stream"}
        assert isinstance(response.stream, httpx.AsyncByteStream)
        return httpx.Response(
            response.status_code, headers=response.headers, stream=_Arriving(response.stream), extensions=extensions
        )

    async def aclose(self) -> None:
        await self._network.aclose()
        await self._bridge.aclose()


class _Arriving(httpx.AsyncByteStream):
    """A response's body, which counts as on the wire until it is read or closed."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream
        self._is_open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        if self._is_open:
            self._is_open = False
            _on_the_wire(-1)
        await self._stream.aclose()


class Bridge:
    """A server on 127.0.0.1 that answers with what a transport answers.

    Args:
        inner: Gets each request. An httpx error it raises becomes a connection that ends without an answer.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self._server: asyncio.Server | None = None
        self._starting = asyncio.Lock()
        self._connections: set[asyncio.Task[None]] = set()

    async def port(self) -> int:
        """Return where it listens; it starts with the first request."""
        async with self._starting:
            if self._server is None:
                self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def aclose(self) -> None:
        """End every connection, whatever is on its way."""
        if self._server is None:
            return
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._server = None

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        try:
            rest = b""
            while (found := await _read_request(reader, rest)) is not None:
                request, rest = found
                _on_the_wire(-1)
                try:
                    response = await self._inner.handle_async_request(request)
                finally:
                    _on_the_wire(+1)
                if not await _send_response(response, request, writer):
                    break
        except (asyncio.CancelledError, *_CLOSED_IN_ORDER):
            pass  # cancelled by `aclose` alone
        except httpx.HTTPError:
            _reset(writer)
        except (ConnectionError, h11.RemoteProtocolError):
            pass  # the client has gone
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _read_request(reader: asyncio.StreamReader, received: bytes) -> tuple[httpx.Request, bytes] | None:
    """Return the next request of a connection and what came after it; None when the client has closed it."""
    parser = h11.Connection(h11.SERVER)
    if received:
        parser.receive_data(received)
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            parser.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return _as_sent(head, bytes(body)), parser.trailing_data[0]
        else:
            return None


def _as_sent(head: h11.Request, body: bytes) -> httpx.Request:
    headers = head.headers.raw_items()
    [origin] = [value.decode("ascii") for name, value in headers if name.lower() == _ORIGIN_HEADER.encode()]
    return httpx.Request(
        head.method.decode("ascii"),
        origin + head.target.decode("ascii"),
        headers=[(name, value) for name, value in headers if name.lower() != _ORIGIN_HEADER.encode()],
        stream=httpx.ByteStream(body),
    )


async def _send_response(response: httpx.Response, request: httpx.Request, writer: asyncio.StreamWriter) -> bool:
    """Write a response as it is, also one that breaks HTTP's rules; return whether the connection may go on."""
    has_body = request.method != "HEAD" and response.status_code not in _BODILESS
    is_chunked = has_body and response.headers.get("transfer-encoding", "").lower() == "chunked"
    declared = response.headers.get("content-length")
    headers = [*response.headers.raw]
    if has_body and not is_chunked and declared is None:
        headers.append((b"connection", b"close"))
    elif not has_body:
        headers = [
            (name, value) for name, value in headers if name.lower() not in (b"content-length", b"transfer-encoding")
        ]
    writer.write(b"HTTP/1.1 %d %s\r\n" % (response.status_code, response.reason_phrase.encode("ascii", "replace")))
    writer.write(b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n")
    sent_bytes = 0
    assert isinstance(response.stream, httpx.AsyncByteStream)
    try:
        async for chunk in response.stream:
            if has_body and chunk:
                sent_bytes += len(chunk)
                writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk) if is_chunked else chunk)
                await writer.drain()
    finally:
        await response.aclose()
    if is_chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return not has_body or is_chunked or declared == str(sent_bytes)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Have the connection reset instead of closed in good order."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _on_the_wire(change: int) -> None:
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop):
        loop.on_the_wire(change)
