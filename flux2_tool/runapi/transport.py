"""The connections to RunAPI and to other hosts, as the environment's settings want them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Final

import httpx

from flux2_tool._net import is_loopback_url, origin_of
from flux2_tool._network_errors import UnusableConnectionError
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.runapi.connection_pool import ConnectionPool
from flux2_tool.runapi.connections import connection_maker
from flux2_tool.runapi.proxies import Proxies, Proxy
from flux2_tool.runapi.tls import certificate_fault, describe_fault, tls_context

MAX_CONNECTIONS: Final = 100
KEEPALIVE_S: Final = 30.0
# What a proxy refuses for good: credentials, or this destination. Source: httpcore's texts of HTTP and SOCKS proxies.
_PROXY_REFUSES: Final = re.compile(r"40[1357]\b|Requested |Invalid username|.*not allowed by ruleset")


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
        self._routes: dict[tuple[bool, str, Proxy | None], ConnectionPool] = {}
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

    def _route_of(self, url: str) -> tuple[ConnectionPool, Proxy | None]:
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
            maker = connection_maker(tls, proxy, keepalive_s=KEEPALIVE_S)  # raises what is wrong with the proxy
            route = ConnectionPool(maker, most=MAX_CONNECTIONS, keepalive_s=KEEPALIVE_S, proxy=proxy)
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
