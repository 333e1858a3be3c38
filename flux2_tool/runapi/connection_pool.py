"""The connections of one route: each is lent to one request at a time, and kept for the next.

httpcore makes the connections and speaks on them. Its own pool looks at every connection it has, and asks the system
about each idle one, at the begin and the end of each request, so that a request costs more the more others there are.
Here a request looks at the connection it takes, and at the one that has been idle for longest.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import httpcore
import httpx

from flux2_tool.runapi.connections import UnaskedBytesError
from flux2_tool.runapi.proxies import Proxy
from flux2_tool.runapi.proxy_handshakes import ProxyHandshakes
from flux2_tool.runapi.sending import UNSENT


class MakesConnections(Protocol):
    """Makes connections: one of httpcore's pools."""

    def create_connection(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        """Return a new connection, which connects with its first request."""
        ...


@dataclass(frozen=True, slots=True)
class _Idle:
    """A connection that no request uses, and since when on the event loop's clock."""

    connection: httpcore.AsyncConnectionInterface
    origin: httpcore.Origin
    since_s: float


class ConnectionPool(httpx.AsyncBaseTransport):
    """An httpx transport over connections of httpcore; HTTP/1.1 only.

    Args:
        maker: Makes the connections.
        most: How many there may be; further requests wait for one.
        keepalive_s: After how many seconds an idle one is closed, with the next request.
        proxy: The proxy of every connection; None for direct ones.
    """

    def __init__(self, maker: MakesConnections, *, most: int, keepalive_s: float, proxy: Proxy | None = None) -> None:
        self._maker = maker
        self._most = most
        self._keepalive_s = keepalive_s
        self._proxy = proxy
        self._places = asyncio.Semaphore(most)
        self._in_use: set[httpcore.AsyncConnectionInterface] = set()
        # By the time since when they are idle, the longest first.
        self._idle: deque[_Idle] = deque()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, on another connection when the first choice has unasked bytes.

        Raises:
            httpx.PoolTimeout: No connection became free in time.
            httpx.TransportError: Any other fault of the connection.
        """
        url = request.url
        handshakes = None if self._proxy is None else ProxyHandshakes(self._proxy, request.extensions)
        own = httpcore.Request(
            method=request.method,
            url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=cast("AsyncIterable[bytes]", request.stream),
            extensions=request.extensions if handshakes is None else handshakes.extensions,
        )
        await _tell_unsent(request)
        if self._places.locked():
            await self._wait_for_place(request.extensions.get("timeout", {}).get("pool"))
        else:
            await self._places.acquire()
        try:
            with _errors_of_httpx():
                while (sent := await self._sent(own, handshakes)) is None:
                    await _tell_unsent(request)
                connection, response = sent
        except BaseException:
            self._places.release()
            raise
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(
                cast("AsyncIterable[bytes]", response.stream), lambda: self._take_back(connection, own.url.origin)
            ),
            extensions=cast("dict[str, Any]", response.extensions),
        )

    async def aclose(self) -> None:
        """Close every connection."""
        connections = [*self._in_use, *(idle.connection for idle in self._idle)]
        self._in_use.clear()
        self._idle.clear()
        for connection in connections:
            await connection.aclose()

    # ---- private -----------------------------------------------------------------------------------------------------

    async def _wait_for_place(self, timeout_s: float | None) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._places.acquire()
        except TimeoutError as exc:
            raise httpx.PoolTimeout("all connections were in use") from exc

    async def _sent(
        self, request: httpcore.Request, handshakes: ProxyHandshakes | None
    ) -> tuple[httpcore.AsyncConnectionInterface, httpcore.Response] | None:
        """Return a request's connection and response, or None when nothing was written to the connection."""
        await self._close_surplus(request.url.origin)
        connection = await self._connection_to(request.url.origin)
        try:
            return connection, await connection.handle_async_request(request)
        except (UnaskedBytesError, httpcore.ConnectionNotAvailable):
            await self._drop(connection)
            return None
        except BaseException as exc:
            await self._drop(connection)
            if handshakes is not None:
                await handshakes.aclose()
                handshakes.check(exc)
            raise

    async def _close_surplus(self, origin: httpcore.Origin) -> None:
        """Close what is idle for too long, and one that is to another host where a new one would be too many."""
        oldest_s = asyncio.get_running_loop().time() - self._keepalive_s
        while self._idle and (self._idle[0].since_s < oldest_s or self._has_no_room_for(origin)):
            await self._idle.popleft().connection.aclose()

    def _has_no_room_for(self, origin: httpcore.Origin) -> bool:
        is_full = len(self._in_use) + len(self._idle) >= self._most
        return is_full and all(idle.origin != origin for idle in self._idle)

    async def _connection_to(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        """Return the connection that was used last, so that after a burst the others expire, or a new one."""
        while (connection := self._take_idle(origin)) is not None:
            if not connection.has_expired():  # nor has the server closed it
                return connection
            await self._drop(connection)
        connection = self._maker.create_connection(origin)
        self._in_use.add(connection)
        return connection

    def _take_idle(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface | None:
        for place in range(len(self._idle) - 1, -1, -1):
            idle = self._idle[place]
            if idle.origin == origin:
                del self._idle[place]
                self._in_use.add(idle.connection)
                return idle.connection
        return None

    async def _take_back(self, connection: httpcore.AsyncConnectionInterface, origin: httpcore.Origin) -> None:
        """Keep a connection whose response is over, if it can be used again."""
        self._places.release()
        if connection in self._in_use and connection.is_available():  # the pool was not closed meanwhile
            self._in_use.discard(connection)
            self._idle.append(_Idle(connection, origin, asyncio.get_running_loop().time()))
        else:
            await self._drop(connection)

    async def _drop(self, connection: httpcore.AsyncConnectionInterface) -> None:
        self._in_use.discard(connection)
        if not connection.is_closed():
            await connection.aclose()


async def _tell_unsent(request: httpx.Request) -> None:
    """Tell a request's trace that nothing of it has been written yet."""
    trace = request.extensions.get("trace")
    if trace is not None:
        await trace(UNSENT, {})


class _Body(httpx.AsyncByteStream):
    """A response's body, with httpx's errors; closing it gives the connection back."""

    def __init__(self, stream: AsyncIterable[bytes], give_back: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._give_back: Callable[[], Awaitable[None]] | None = give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors_of_httpx():
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is None:
            return
        try:
            with _errors_of_httpx():
                await cast("Any", self._stream).aclose()
        finally:
            await give_back()


@contextlib.contextmanager
def _errors_of_httpx() -> Iterator[None]:
    """Raise httpcore's errors as httpx's, which have the same names."""
    try:
        yield
    except (
        httpcore.TimeoutException,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.ProxyError,
        httpcore.UnsupportedProtocol,
    ) as exc:
        kind = getattr(httpx, type(exc).__name__, httpx.TransportError)
        raise kind(str(exc)) from exc
    except ssl.SSLCertVerificationError as exc:
        # An older httpcore lets it pass. It ends a handshake, so that nothing was sent.
        raise httpx.ConnectError(str(exc)) from exc
