"""Servers on loopback for tests of the network's settings: a TLS server, an HTTP proxy, and a SOCKS5 proxy.

Both proxies lead every destination to the TLS server: a request for any name arrives without leaving the machine.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class Front:
    """A TLS server that responds to every request with `{}`, and the proxies that lead to it.

    Attributes:
        requests: The request lines that arrived.
        asked: What the proxies were asked to connect to.
    """

    tls: ssl.SSLContext
    port: int = 0
    requests: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, whose requests have the body `{}`."""
        while head := await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(2)
            self.requests.append(head.decode().partition("\r\n")[0])
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass everything on to the server."""
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            back.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a free port, which is returned."""

    open_connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_connections[task] = writer
        # Whatever a client breaks off is its own affair.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task, writer in open_connections.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*open_connections, return_exceptions=True)


@contextlib.asynccontextmanager
async def front(tls: ssl.SSLContext) -> AsyncIterator[Front]:
    """Start the TLS server."""
    one = Front(tls=tls)
    async with serving(one.respond, tls) as port:
        one.port = port
        yield one


def http_proxy(to: Front, *, user: str | None = None, code: int = 200) -> Handler:
    """Return the handler of an HTTP proxy.

    Args:
        to: The server that every tunnel leads to.
        user: "name:password" that it wants.
        code: What it answers to whoever may use it.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        to.asked.append(head.partition("\r\n")[0])
        wanted = None if user is None else f"Basic {base64.b64encode(user.encode()).decode()}"
        answer = code if wanted is None or wanted in head else 407
        writer.write(f"HTTP/1.1 {answer} Said by the proxy\r\n\r\n".encode())
        if answer == 200:
            await to.join(reader, writer)

    return handle


def socks_proxy(
    to: Front, *, user: str | None = None, reply: int = 0, bound: bytes = b"\x01\0\0\0\0", in_pieces: bool = False
) -> Handler:
    """Return the handler of a SOCKS5 proxy (RFC 1928, RFC 1929).

    Args:
        to: The server that it leads to.
        user: As of `http_proxy`.
        reply: Its REP.
        bound: The kind of its address, and the address.
        in_pieces: Whether each byte of an answer arrives by itself.
    """

    async def answer(writer: asyncio.StreamWriter, *values: int) -> None:
        for piece in ([value] for value in values) if in_pieces else [values]:
            writer.write(bytes(piece))
            for _ in range(5):  # so that the other side, on the same event loop, has read it
                await asyncio.sleep(0)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _version, count = await reader.readexactly(2)
        offered = await reader.readexactly(count)
        method = 0 if user is None else 2
        await answer(writer, 5, method if method in offered else 0xFF)
        if method not in offered:
            return
        if user is not None:
            name = await reader.readexactly((await reader.readexactly(2))[1])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            is_right = name + b":" + password == user.encode()
            await answer(writer, 1, 0 if is_right else 1)
            if not is_right:
                return
        _version, _command, _reserved, kind = await reader.readexactly(4)
        size = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
        host = await reader.readexactly(size)
        port = int.from_bytes(await reader.readexactly(2), "big")
        to.asked.append(f"{host.decode()}:{port}")
        await answer(writer, 5, reply, 0, *bound, 0, 0)
        if reply == 0:
            await to.join(reader, writer)

    return handle
