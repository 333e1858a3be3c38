"""Connections to RunAPI's own origin: httpx's API over aiohttp's pool, which costs a fraction of the CPU per request.

The ready adapter for this reports a lost answer as a connection that was never made. For a create POST that difference
decides about money, so it is drawn here from aiohttp's own exceptions: `httpx.ConnectError` and `ConnectTimeout` mean
that nothing was sent, every other error that something may have been. URLs go out exactly as they are.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Final

import aiohttp
import httpx
from multidict import CIMultiDict
from yarl import URL

MAX_HEADER_BYTES: Final = 64 * 1024
_CHUNK_BYTES: Final = 64 * 1024
# Whoever sends has set every header that is wanted.
_NOT_ADDED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


RawHeaders = Sequence[tuple[bytes, bytes]]


class AiohttpTransport(httpx.AsyncBaseTransport):
    """A transport for one `httpx.AsyncClient` on one event loop; never through a proxy, never with cookies.

    Args:
        ssl_context: Decides which authorities are trusted; None where only plain http is spoken.
        max_connections: How many connections may be open at once; a request waits for a free one.
        keepalive_s: For how long an idle connection is kept, in seconds.
        timeout: The bounds of `exchange`.
    """

    def __init__(
        self, *, ssl_context: ssl.SSLContext | None, max_connections: int, keepalive_s: float, timeout: httpx.Timeout
    ) -> None:
        self._ssl_context = ssl_context
        self._max_connections = max_connections
        self._keepalive_s = keepalive_s
        self._timeout = aiohttp.ClientTimeout(
            connect=timeout.pool, sock_connect=timeout.connect, sock_read=timeout.read
        )
        self._session: aiohttp.ClientSession | None = None

    async def exchange(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, max_bytes: int
    ) -> tuple[int, RawHeaders, bytes]:
        """Send one request without the rest of httpx, which costs more than the request; the errors are the same.

        Returns:
            Status code, headers, and the decompressed body, of which not much more than `max_bytes` is read.
        """
        with _as_httpx_errors():
            async with self._opened().request(
                method,
                URL(url, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                auto_decompress=True,
                timeout=self._timeout,
            ) as response:
                received = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    received += chunk
                    if len(received) > max_bytes:
                        break
                return response.status, response.raw_headers, bytes(received)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request.

        Raises:
            httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol: Nothing was sent.
            httpx.TransportError: Any other kind: it may have arrived.
        """
        body = await request.aread()
        timeout = request.extensions.get("timeout", {})
        with _as_httpx_errors():
            response = await self._opened().request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=CIMultiDict(request.headers.multi_items()),
                data=body or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    connect=timeout.get("pool"), sock_connect=timeout.get("connect"), sock_read=timeout.get("read")
                ),
            )
        return httpx.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=_Body(response),
            extensions={
                "http_version": b"HTTP/1.1",
                "reason_phrase": (response.reason or "").encode("ascii", "replace"),
            },
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        # At the first request, because a session belongs to the loop it was made on.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=self._ssl_context or True, limit=self._max_connections, keepalive_timeout=self._keepalive_s
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # httpx does that
                skip_auto_headers=_NOT_ADDED,
                max_line_size=MAX_HEADER_BYTES,
                max_field_size=MAX_HEADER_BYTES,
            )
        return self._session


class _Body(httpx.AsyncByteStream):
    """An answer's body; a connection whose body was read to its end goes back to the pool."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx_errors():
            async for chunk in self._response.content.iter_chunked(_CHUNK_BYTES):
                yield chunk

    async def aclose(self) -> None:
        self._response.release()


@contextlib.contextmanager
def _as_httpx_errors() -> Iterator[None]:
    try:
        yield
    except aiohttp.InvalidURL as exc:
        raise httpx.UnsupportedProtocol(str(exc)) from exc
    except aiohttp.ConnectionTimeoutError as exc:
        raise httpx.ConnectTimeout(str(exc)) from exc
    except aiohttp.ClientConnectorError as exc:
        raise httpx.ConnectError(str(exc)) from exc
    except aiohttp.ServerTimeoutError as exc:
        raise httpx.ReadTimeout(str(exc)) from exc
    except (aiohttp.ClientResponseError, aiohttp.ServerDisconnectedError) as exc:
        raise httpx.RemoteProtocolError(str(exc)) from exc
    except (aiohttp.ClientError, OSError) as exc:
        if isinstance(exc, TimeoutError):  # not aiohttp's: whoever set that timer catches it
            raise
        raise httpx.ReadError(str(exc)) from exc
