"""What comes before a request through a proxy: the request for a tunnel, or the greetings of SOCKS."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

import httpcore
import httpx

from flux2_tool.runapi.proxies import Proxy
from flux2_tool.runapi.sending import Sending

# Errors that say themselves that no request was sent.
_OF_CONNECTING: Final = (
    httpcore.ConnectError,
    httpcore.ConnectTimeout,
    httpcore.PoolTimeout,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    ssl.SSLCertVerificationError,
)


class ProxyHandshakes:
    """What one request needed of its proxy before it could be sent.

    Args:
        proxy: Of the connection.
        extensions: The request's.

    Attributes:
        extensions: The same, with a trace that notes what is opened.
    """

    def __init__(self, proxy: Proxy, extensions: Mapping[str, Any]) -> None:
        self._kind = "a SOCKS5" if proxy.is_socks else "an HTTP"
        self._sending = Sending()
        self._streams: list[httpcore.AsyncNetworkStream] = []
        self._given = extensions.get("trace")
        self.extensions = {**extensions, "trace": self._trace}

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        await self._sending(event, info)
        if event == "socks.connect_tcp.complete":
            self._streams.append(info["return_value"])
        if self._given is not None:
            await self._given(event, info)

    async def aclose(self) -> None:
        """Close the connections whose handshake has failed: httpcore leaves those to a SOCKS proxy open."""
        for stream in self._streams:
            await stream.aclose()

    def check(self, exc: BaseException) -> None:
        """Raise httpx.ProxyError instead of an error before the request that would pass for one of its response."""
        if not self._sending.is_unsent or isinstance(exc, _OF_CONNECTING) or not isinstance(exc, Exception):
            return
        if isinstance(exc, httpcore.TimeoutException):
            raise httpx.ProxyError(f"it does not respond as {self._kind} proxy does in time") from exc
        # socksio raises errors of its own, and whatever it stumbles over.
        raise httpx.ProxyError(f"it does not respond as {self._kind} proxy does") from exc
