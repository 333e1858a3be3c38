"""Connections to RunAPI's origin: several httpx transports, of which the least busy one takes each request.

httpcore's pool iterates over all its connections at the start and end of each request, so a request's cost grows with
the pool. Several small pools cost a fraction, with the same number of connections.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx

from flux2_tool._files import is_file
from flux2_tool._net import is_loopback_url
from flux2_tool.runapi.connections import WatchedTransport

MAX_CONNECTIONS: Final = 100
KEEPALIVE_S: Final = 30.0
# So each has few connections, see above.
POOL_COUNT: Final = 10


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
    """

    def __init__(
        self, open_pool: Callable[[], httpx.AsyncBaseTransport], *, count: int = 1, idle_s: float = float("inf")
    ) -> None:
        self._open_pool = open_pool
        self._count = count
        self._idle_s = idle_s
        self._pools: list[_Pool] = []

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The network arguments of an httpx client.

    Attributes:
        mounts: The transport of the service's own origin; None where the environment has a proxy for it.
        others: The transport of every other host; None for httpx's own, which also use the proxies. Those keep no idle
            connection: nobody would notice what arrives on one.
        tls: The TLS context of httpx's own transports.
        trust_env: Whether httpx reads proxies from the environment.
    """

    mounts: Mapping[str, httpx.AsyncBaseTransport] | None = None
    others: httpx.AsyncBaseTransport | None = None
    tls: ssl.SSLContext | bool = True
    trust_env: bool = False


def network_of(base_url: str) -> Network:
    """Return the transports to the service and, for storage and pictures, to other hosts, with one TLS context.

    Raises:
        FileNotFoundError: SSL_CERT_FILE names a file that does not exist.
    """
    parts = urlsplit(base_url)
    trust_env = not is_loopback_url(base_url)
    ca_file = os.environ.get("SSL_CERT_FILE")
    if trust_env and ca_file and not is_file(Path(ca_file)):
        # Older httpx silently uses other authorities.
        raise FileNotFoundError(ca_file)

    @cache
    def tls() -> ssl.SSLContext:
        return httpx.create_ssl_context(trust_env=trust_env)

    # A mock service needs no authorities, which take tens of milliseconds to load.
    own_tls = tls() if parts.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    limits = limits_of(MAX_CONNECTIONS // POOL_COUNT)
    mounts = {
        f"{parts.scheme}://{parts.netloc}": BalancedTransport(
            lambda: WatchedTransport(tls=own_tls, limits=limits), count=POOL_COUNT, idle_s=KEEPALIVE_S
        )
    }
    others = BalancedTransport(lambda: WatchedTransport(tls=tls(), limits=limits_of(MAX_CONNECTIONS)))
    proxies = getproxies() if trust_env else {}
    if {"http", "https", "all"}.isdisjoint(proxies):
        return Network(mounts=mounts, others=others, tls=own_tls, trust_env=trust_env)
    has_proxy = not {parts.scheme, "all"}.isdisjoint(proxies)
    return Network(mounts=None if has_proxy else mounts, tls=tls(), trust_env=True)


def limits_of(connections: int, *, idle: int = 40) -> httpx.Limits:
    """Return the limits of a pool.

    Args:
        connections: Their greatest number.
        idle: How many of them are kept for a next request.
    """
    return httpx.Limits(max_connections=connections, max_keepalive_connections=idle, keepalive_expiry=KEEPALIVE_S)
