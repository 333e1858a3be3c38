"""HTTP connections that carry a request only when nothing has arrived on them that was not asked for.

A response that came before its request, from a proxy that lost count, say, would pass for the next request's: another
task's id or picture. httpcore looks for it in the socket alone, and only when it chooses a connection; bytes behind a
response's end in the same packet or TLS record are with the parser already. So each stream here follows the responses
with a parser of its own, and looks once more when a request is about to be written.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterable
from typing import Any, Final

import h11
import httpcore

from flux2_tool.exceptions import ConfigurationError
from flux2_tool.runapi.proxies import Proxy
from flux2_tool.runapi.sockets import AsyncioBackend, AsyncioStream
from flux2_tool.runapi.socks_answers import is_whole

# As httpcore's own parser has it.
_MAX_HEADER_BYTES: Final = 100 * 1024
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*(?=\r\n|\Z)")
# The parser takes a line feed alone for the end of a line, too.
_BARE_LINE: Final = re.compile(rb"(?<!\r)\n")
_WITH_BODY: Final = re.compile(rb"HTTP/1\.1 (?!204|304)[2-5][0-9]{2} ")
# The parser must have sent a request before it reads a response; which one does not matter.
_ANY_REQUEST: Final = h11.Request(method="GET", target="/", headers=[("host", "any")])


class UnaskedBytesError(httpcore.ConnectError):
    """Something had arrived on an idle connection; the request was not sent."""


def connection_maker(tls: ssl.SSLContext, proxy: Proxy | None, *, keepalive_s: float) -> httpcore.AsyncConnectionPool:
    """Return what makes watched connections, by its `create_connection`; none of them is kept in it.

    Args:
        tls: The TLS context.
        proxy: The proxy of every connection; None for direct ones.
        keepalive_s: After how many seconds an idle one has expired.

    Raises:
        ConfigurationError: The proxy is of a kind that is not installed.
    """
    shared: Any = {
        "ssl_context": tls,
        "keepalive_expiry": keepalive_s,
        "network_backend": _WatchedBackend(),
    }
    if proxy is None:
        return httpcore.AsyncConnectionPool(**shared)
    # The same to httpcore, which has the proxy look names up; an older one knows but one of the names.
    shared |= {"proxy_url": proxy.url.replace("socks5h:", "socks5:", 1), "proxy_auth": proxy.user}
    if not proxy.is_socks:
        return httpcore.AsyncHTTPProxy(**shared, proxy_ssl_context=tls if proxy.url.startswith("https") else None)
    try:
        return httpcore.AsyncSOCKSProxy(**shared)
    except RuntimeError:  # httpcore's own stand-in, where socksio is not installed
        from flux2_tool.schema.install_text import install_extra_text
        from flux2_tool.schema.installation import this_installation

        raise ConfigurationError(
            f"{proxy.variable} names a SOCKS proxy, for which flux2-tool needs its extra socks",
            hint=f"{install_extra_text('socks', this_installation())}; or set {proxy.variable} to an http proxy, "
            "or unset it",
        ) from None


class _WatchedBackend(httpcore.AsyncNetworkBackend):
    """Opens watched connections over TCP."""

    def __init__(self) -> None:
        self._backend = AsyncioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._backend.connect_tcp(
            host, port, timeout=timeout, local_address=local_address, socket_options=socket_options
        )
        return WatchedStream(stream, handshake_s=timeout)

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class WatchedStream(httpcore.AsyncNetworkStream):
    """One connection: knows whether all that arrived on it belongs to the responses that were asked for.

    Args:
        stream: The connection.
        handshake_s: How long a proxy may take for each answer before the first request: httpcore sets a SOCKS proxy no
            bound.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream, *, handshake_s: float | None = None) -> None:
        self._stream = stream
        self._handshake_s = handshake_s
        # The last that a SOCKS proxy was asked.
        self._asked_proxy = b""
        self._parser: h11.Connection | None = None
        self._has_begun = False
        self._is_response_over = False
        self._is_request_next = True
        self._has_unasked_bytes = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - as above
        if self._asked_proxy and not self._has_begun:
            return await self._read_answer(max_bytes, self._handshake_s if timeout is None else timeout)
        data = await self._stream.read(max_bytes, timeout=timeout)
        self._is_request_next = True
        self._follow(data)
        # More may wait behind a full read where no look at the socket finds it.
        self._has_unasked_bytes = self._has_unasked_bytes or (len(data) == max_bytes and self._is_response_over)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        # A handshake with a SOCKS proxy comes before any request, and begins with no letter of a method.
        is_handshake = not self._has_begun and not buffer[:1].isalpha()
        if is_handshake:
            self._asked_proxy = buffer
        elif self._is_request_next:
            self._begin_request()
        await self._stream.write(buffer, timeout=timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._stream.start_tls(ssl_context, server_hostname=server_hostname, timeout=timeout)
        return WatchedStream(stream)

    def get_extra_info(self, info: str) -> Any:
        # httpcore drops an idle connection that is readable.
        if info == "is_readable" and self._has_unasked_bytes:
            return True
        return self._stream.get_extra_info(info)

    async def _read_answer(self, max_bytes: int, within_s: float | None) -> bytes:
        """Return a SOCKS proxy's answer as a whole: httpcore reads but once."""
        loop, answer = asyncio.get_running_loop(), b""
        until_s = None if within_s is None else loop.time() + within_s
        while not is_whole(answer, self._asked_proxy):
            left_s = None if until_s is None else max(0.0, until_s - loop.time())
            more = await self._stream.read(max_bytes, timeout=left_s)
            if not more:
                break
            answer += more
        return answer

    def _begin_request(self) -> None:
        is_new = not self._has_begun
        if self._has_unasked_bytes or self._has_arrived_unread(is_new=is_new):
            if is_new:
                has_only_ended = isinstance(self._stream, AsyncioStream) and self._stream.has_only_ended
                what = "closed the connection" if has_only_ended else "sent a response"
                raise httpcore.ConnectError(f"the server {what} before any request")
            raise UnaskedBytesError("bytes that were not asked for had arrived on the idle connection")
        self._has_begun, self._is_request_next, self._is_response_over = True, False, False
        self._parser = None

    def _has_arrived_unread(self, *, is_new: bool) -> bool:
        """Whether anything waits in the stream, the TLS layer or the socket."""
        if isinstance(self._stream, AsyncioStream) and self._stream.has_arrived:
            return True
        tls = self._stream.get_extra_info("ssl_object")
        if tls is not None:
            try:
                tls.read(1)  # from memory, never from the network
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                return True
            else:
                return True
        # A new TLS connection's first records are session tickets.
        return (tls is None or not is_new) and bool(self._stream.get_extra_info("is_readable"))

    def _follow(self, data: bytes) -> None:
        """Follow what has arrived, to know where the response ends."""
        if not self._has_begun or self._has_unasked_bytes:
            return
        if self._is_response_over:
            self._has_unasked_bytes = bool(data)
            return
        if self._parser is None and _is_one_response(data):
            self._is_response_over = True
            return
        parser = self._parser = self._parser or _new_parser()
        try:
            parser.receive_data(data)
            event = parser.next_event()
            while event not in (h11.NEED_DATA, h11.PAUSED) and type(event) is not h11.ConnectionClosed:
                event = parser.next_event()
            self._is_response_over = parser.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)
            self._has_unasked_bytes = bool(parser.trailing_data[0]) and self._is_response_over
        except h11.RemoteProtocolError:
            self._has_unasked_bytes = True  # httpcore's parser fails, too


def _new_parser() -> h11.Connection:
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEADER_BYTES)
    parser.send(_ANY_REQUEST)
    parser.send(h11.EndOfMessage())
    return parser


def _is_one_response(data: bytes) -> bool:
    """Whether bytes are exactly one response of a told length: the usual case, and no work for the parser.

    For whatever it is not sure of, the parser decides.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    lowered = head.lower()
    length = _LENGTH.search(lowered)
    return (
        bool(end)
        and length is not None
        and int(length[1]) == len(body)
        and lowered.count(b"content-length") == 1
        and b"transfer-encoding" not in lowered
        and _BARE_LINE.search(head) is None
        and _WITH_BODY.match(head) is not None
    )
