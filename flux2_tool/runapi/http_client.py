"""The HTTP client for one base URL, over the network as the environment has it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpx

from flux2_tool.runapi.sending import Sending
from flux2_tool.runapi.transport import NetworkTransport

# Fixed, so that it does not depend on the decoders that are installed.
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTimeouts:
    """How long one HTTP attempt may take, in seconds; unrelated to how long a call may wait."""

    connect_s: float = 10.0
    read_s: float = 30.0
    attempt_s: float = 45.0


def open_http(
    base_url: str,
    *,
    timeouts: HttpTimeouts | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    environ: Mapping[str, str] | None = None,
) -> HttpClient:
    """Return the HTTP client for one base URL: keep-alive, proxies and CA settings from the environment.

    Args:
        base_url: RunAPI's address. A loopback one is never reached through a proxy.
        timeouts: Bounds of one attempt.
        transport: Replaces the network, for every host; closed together with the client.
        environ: The environment variables; by default this process's.

    Raises:
        ConfigurationError: The environment names a proxy or a CA file that counts for the base URL and cannot be used.
    """
    bounds = timeouts or HttpTimeouts()
    return HttpClient(
        transport or NetworkTransport(base_url, os.environ if environ is None else environ),
        httpx.Timeout(bounds.read_s, connect=bounds.connect_s, pool=bounds.attempt_s),
    )


class HttpClient(httpx.AsyncClient):
    """httpx's client, with a short way for requests that need nothing of it but the transport.

    Args:
        transport: Sends the requests.
        timeout: Bounds of one attempt.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, timeout: httpx.Timeout) -> None:
        super().__init__(
            timeout=timeout,
            follow_redirects=False,
            trust_env=False,  # the transport reads it
            transport=transport,
            headers=_HEADERS,
            # No cookie is needed, and one with invalid characters would break every later request.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        del self.headers["Connection"]  # the default of HTTP/1.1
        self._shortly = transport
        self._bounds = timeout.as_dict()

    async def send_shortly(
        self,
        method: str,
        url: httpx.URL,
        *,
        content: bytes | None,
        headers: Mapping[str, str],
        sending: Sending | None = None,
    ) -> httpx.Response:
        """Send one request and return its response, of which the body is not read yet.

        Without what httpx does besides: cookies, authentication, hooks, and a request built from a Location, which
        fails with one that no URL can be made of, so that the response would be lost. The client's headers come first.

        Args:
            sending: Follows it on its way.

        Raises:
            httpx.TransportError: As `send`.
        """
        if self.is_closed:
            raise RuntimeError("the HTTP client is closed")
        extensions: dict[str, Any] = {"timeout": self._bounds}
        if sending is not None:
            extensions["trace"] = sending
        request = httpx.Request(method, url, headers={**_HEADERS, **headers}, content=content, extensions=extensions)
        response = await self._shortly.handle_async_request(request)
        response.request = request
        return response
