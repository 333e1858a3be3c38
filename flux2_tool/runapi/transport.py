"""The connections to RunAPI and to other hosts, as the environment's settings want them.

To RunAPI's origin there are several httpx transports, of which the least busy one takes each request: httpcore's pool
iterates over all its connections at the start and end of each request, so a request's cost grows with the pool. Several
small pools cost a fraction, with the same number of connections.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

import httpx

from flux2_tool._net import is_loopback_url, origin_of
from flux2_tool._network_errors import UnusableConnectionError
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.runapi.connections import WatchedTransport
from flux2_tool.runapi.proxies import Proxies, Proxy
from flux2_tool.runapi.tls import certificate_fault, describe_fault, tls_context

MAX_CONNECTIONS: Final = 100
# Of one pool, for a next request.
MAX_IDLE_CONNECTIONS: Final = 40
KEEPALIVE_S: Final = 30.0
# So each has few connections, see above.
POOL_COUNT: Final = 10
# What a proxy refuses for good: credentials, or this destination. Source: httpcore's texts of HTTP and SOCKS proxies.
_PROXY_REFUSES: Final = re.compile(r"40[1357]\b|Requested |Invalid username|.*not allowed by ruleset")


@dataclass(slots=True, eq=False)
class _Pool:
    """One transport.

    Attributes:
        busy: The number of its requests in flight, until their responses are closed.
        used_at_s: When it took its last request, on the event loop's clock.
    """

    transport: httpx.AsyncBaseTransport
    busy: int = 0
    used_at_s: float = 0.0


class BalancedTransport(httpx.AsyncBaseTransport):
    """Sends each request through the least busy of several transports.

    Args:
        open_pool: Returns a new transport; called when all open ones are busy.
        count: The maximum number of transports.
        idle_s: After how many seconds an unused one is closed, except the first.
        first: A transport that is open already.
    """

    def __init__(
        self,
        open_pool: Callable[[], httpx.AsyncBaseTransport],
        *,
        count: int = 1,
        idle_s: float = float("inf"),
        first: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._open_pool = open_pool
        self._count = count
        self._idle_s = idle_s
        self._pools: list[_Pool] = [] if first is None else [_Pool(first)]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; raises the errors of the transport that takes it."""
        now_s = asyncio.get_running_loop().time()
        await self._close_unused(now_s)
        pool = self._least_busy()
        pool.busy += 1
        pool.used_at_s = now_s
        try:
            response = await pool.transport.handle_async_request(request)
        except BaseException:
            pool.busy -= 1
            raise
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_CountedStream(cast(httpx.AsyncByteStream, response.stream), pool),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        pools, self._pools = self._pools, []
        for pool in pools:
            await pool.transport.aclose()

    def _least_busy(self) -> _Pool:
        pool = min(self._pools, key=lambda one: one.busy, default=None)
        if pool is None or (pool.busy and len(self._pools) < self._count):
            pool = _Pool(self._open_pool())
            self._pools.append(pool)
        return pool

    async def _close_unused(self, now_s: float) -> None:
        """Close pools that are unused after a burst: a pool closes idle connections only when it gets a request."""
        unused = [pool for pool in self._pools[1:] if not pool.busy and now_s - pool.used_at_s > self._idle_s]
        self._pools = [pool for pool in self._pools if pool not in unused] if unused else self._pools
        for pool in unused:
            await pool.transport.aclose()


class _CountedStream(httpx.AsyncByteStream):
    """A response's body; closing it ends the request's count in its pool."""

    def __init__(self, stream: httpx.AsyncByteStream, pool: _Pool) -> None:
        self._stream = stream
        self._pool: _Pool | None = pool

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        if self._pool is not None:
            self._pool.busy -= 1
            self._pool = None
        await self._stream.aclose()


class NetworkTransport(httpx.AsyncBaseTransport):
    """The network as the environment has it: requests go directly or through a proxy, with one TLS context for all.

    Args:
        base_url: The service's address. For one on loopback, neither proxies nor the authorities of the environment
            count, so that the sandbox works on a machine whose settings are broken.
        environ: The environment variables.

    Raises:
        ConfigurationError: The settings that count for the base URL cannot be used.
    """

    def __init__(self, base_url: str, environ: Mapping[str, str]) -> None:
        is_local = is_loopback_url(base_url)
        self._environ = {} if is_local else environ
        self._proxies = None if is_local else Proxies(environ)
        self._origin = origin_of(base_url)
        self._tls: ssl.SSLContext | None = None
        self._routes: dict[tuple[bool, str, Proxy | None], BalancedTransport] = {}
        self._route_of(base_url)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request.

        Raises:
            UnusableConnectionError: No attempt can succeed with the settings that count for its URL.
            httpx.TransportError: Any other fault of the connection.
        """
        url = str(request.url)
        try:
            route, proxy = self._route_of(url)
        except ConfigurationError as exc:
            raise UnusableConnectionError(exc.message, exc.hint) from exc
        try:
            return await route.handle_async_request(request)
        except httpx.ConnectError as exc:
            fault = certificate_fault(exc)
            if fault is None:
                raise _through(exc, proxy) from exc
            message, hint = describe_fault(fault, request.url.host, self._environ)
            raise UnusableConnectionError(message if proxy is None else f"{message} (through {proxy})", hint) from exc
        except httpx.ProxyError as exc:
            if proxy is not None and _PROXY_REFUSES.match(str(exc)):
                raise UnusableConnectionError(f"{proxy} refuses: {exc}", _proxy_hint(proxy)) from exc
            raise _through(exc, proxy) from exc
        except httpx.ConnectTimeout as exc:
            raise _through(exc, proxy) from exc

    async def aclose(self) -> None:
        """Close every connection."""
        for route in self._routes.values():
            await route.aclose()

    def _route_of(self, url: str) -> tuple[BalancedTransport, Proxy | None]:
        """Return the connections for a URL, and their proxy.

        Raises:
            ConfigurationError: The proxy or the authorities that count for it cannot be used.
        """
        proxy = None if self._proxies is None else self._proxies.proxy_for(url)
        is_own = origin_of(url) == self._origin
        scheme = url.partition(":")[0].lower()
        route = self._routes.get((is_own, scheme, proxy))
        if route is None:
            needs_tls = scheme == "https" or (proxy is not None and proxy.url.startswith("https"))
            # A mock service needs no authorities, which take tens of milliseconds to load.
            tls = self._shared_tls() if needs_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            pools = POOL_COUNT if is_own else 1
            limits = httpx.Limits(
                max_connections=MAX_CONNECTIONS // pools,
                max_keepalive_connections=MAX_IDLE_CONNECTIONS,
                keepalive_expiry=KEEPALIVE_S,
            )
            open_pool = partial(WatchedTransport, tls=tls, limits=limits, proxy=proxy)
            first = open_pool()  # raises what is wrong with the proxy
            route = BalancedTransport(
                open_pool, count=pools, idle_s=KEEPALIVE_S if is_own else float("inf"), first=first
            )
            self._routes[is_own, scheme, proxy] = route
        return route, proxy

    def _shared_tls(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = tls_context(self._environ)
        return self._tls


def _through(exc: httpx.TransportError, proxy: Proxy | None) -> httpx.TransportError:
    return exc if proxy is None else type(exc)(f"{exc} (through {proxy})")


def _proxy_hint(proxy: Proxy) -> str:
    example = f"{proxy.url.partition('://')[0]}://USER:PASSWORD@HOST:PORT"
    return (
        f"give {proxy.variable} the user name and password it wants, as {example}, or ask who runs the proxy; "
        "where a direct connection is allowed, name the host in NO_PROXY"
    )
