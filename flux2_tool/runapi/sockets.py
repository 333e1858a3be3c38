"""TCP and TLS connections over asyncio's own transports, for httpcore.

httpcore's own backend goes through anyio: a timer, a task state and a turn of the event loop for each read and write,
and two system calls to pause and resume each read. Here a read that finds its bytes, and a write that the system takes
at once, need none of these; that is a fifth of what a poll costs. Source: httpcore's "network backends", and asyncio's
"transports and protocols".
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Iterable
from typing import Any, Final, cast

import httpcore

from flux2_tool._platform import is_readable

# Reading pauses when so much waits for its reader.
_MOST_WAITING_BYTES: Final = 256 * 1024
# Between two attempts at the addresses of a name. Source: RFC 8305, "Connection Attempt Delay".
_EYEBALLS_DELAY_S: Final = 0.25


class AsyncioStream(httpcore.AsyncNetworkStream, asyncio.Protocol):
    """One connection: keeps what has arrived until it is read."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._arrived = bytearray()
        self._reader: asyncio.Future[bool] | None = None
        self._writer: asyncio.Future[bool] | None = None
        self._has_room = True
        self._is_paused = False
        self._is_at_end = False
        self._lost: Exception | None = None

    # ---- asyncio.Protocol --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._arrived += data
        if len(self._arrived) > _MOST_WAITING_BYTES and not self._is_paused and self._transport is not None:
            self._transport.pause_reading()
            self._is_paused = True
        _wake(self._reader)

    def eof_received(self) -> None:
        self._is_at_end = True
        _wake(self._reader)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_at_end, self._lost = True, exc or self._lost
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._has_room = False

    def resume_writing(self) -> None:
        self._has_room = True
        _wake(self._writer)

    @property
    def has_arrived(self) -> bool:
        """Whether something, or the connection's end, waits to be read; the system may have more."""
        return bool(self._arrived) or self._is_at_end

    @property
    def has_only_ended(self) -> bool:
        """Whether the other side has closed the connection, and sent nothing before."""
        return self._is_at_end and not self._arrived

    # ---- httpcore.AsyncNetworkStream ---------------------------------------------------------------------------------

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        if not self._arrived and not self._is_at_end:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                if not await _set_within(self._reader, timeout):
                    raise httpcore.ReadTimeout("nothing arrived in time")
            finally:
                self._reader = None
        if not self._arrived and self._lost is not None:
            raise httpcore.ReadError(str(self._lost)) from self._lost
        data = bytes(self._arrived[:max_bytes])
        del self._arrived[:max_bytes]
        if self._is_paused and len(self._arrived) <= _MOST_WAITING_BYTES // 2:
            self._open.resume_reading()
            self._is_paused = False
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        if not buffer:
            return
        transport = self._open
        if self._lost is not None or transport.is_closing():
            raise httpcore.WriteError("the connection is closed") from self._lost
        transport.write(buffer)
        while not self._has_room and not transport.is_closing():
            self._writer = asyncio.get_running_loop().create_future()
            try:
                if not await _set_within(self._writer, timeout):
                    raise httpcore.WriteTimeout("the server took nothing in time")
            finally:
                self._writer = None
        if self._lost is not None:
            raise httpcore.WriteError(str(self._lost)) from self._lost

    async def aclose(self) -> None:
        if self._transport is not None:
            self._transport.close()
            try:
                await asyncio.sleep(0)
            finally:
                self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
    ) -> httpcore.AsyncNetworkStream:
        try:
            if self._arrived:
                # It would pass for something that came encrypted.
                raise httpcore.ConnectError("the server sent something before the encryption")
            async with asyncio.timeout(timeout):
                secured = await asyncio.get_running_loop().start_tls(
                    self._open, self, ssl_context, server_hostname=server_hostname
                )
            if secured is None:
                raise httpcore.ConnectError("the server closed the connection during the handshake")
        except BaseException as exc:
            await self.aclose()
            if isinstance(exc, TimeoutError):
                raise httpcore.ConnectTimeout("the handshake took too long") from exc
            if isinstance(exc, OSError):  # ssl.SSLError is one
                text = str(exc) or "the server closed the connection during the handshake"
                raise httpcore.ConnectError(text) from exc
            raise
        self._transport = secured
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            if self.has_arrived or self._open.is_closing():
                return True
            return is_readable(self._open.get_extra_info("socket").fileno())  # the event loop may not have seen it yet
        name = {"server_addr": "peername", "client_addr": "sockname"}.get(info, info)
        return self._open.get_extra_info(name)

    @property
    def _open(self) -> asyncio.Transport:
        if self._transport is None:  # pragma: no cover - httpcore gets connected streams only
            raise httpcore.ConnectError("not connected")
        return self._transport


class AsyncioBackend(httpcore.AsyncNetworkBackend):
    """Opens connections."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        local = None if local_address is None else (local_address, 0)
        options: dict[str, Any] = {}
        # An address is but one; and asyncio leaves a socket open where a cancel comes in the moment it is connected.
        # Other loops, such as uvloop, try the addresses of a name one after the other.
        if isinstance(loop, asyncio.BaseEventLoop) and not _is_address(host):
            options["happy_eyeballs_delay"] = _EYEBALLS_DELAY_S
        try:
            async with asyncio.timeout(timeout):
                transport, stream = await loop.create_connection(AsyncioStream, host, port, local_addr=local, **options)
        except TimeoutError as exc:
            raise httpcore.ConnectTimeout(str(exc)) from exc
        except OSError as exc:
            raise httpcore.ConnectError(str(exc)) from exc
        for option in socket_options or ():
            transport.get_extra_info("socket").setsockopt(*option)
        return stream

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def _set_within(waiting: asyncio.Future[bool], timeout_s: float | None) -> bool:
    """Wait until `_wake` is called, and return whether that was in time."""
    if timeout_s is None:
        return await waiting
    # Not cancelled when it is late: that could hide a cancel of whoever waits.
    late = asyncio.get_running_loop().call_later(timeout_s, _set, waiting, False)
    try:
        return await waiting
    finally:
        late.cancel()


def _wake(waiting: asyncio.Future[bool] | None) -> None:
    if waiting is not None:
        _set(waiting, True)


def _set(waiting: asyncio.Future[bool], is_in_time: bool) -> None:
    if not waiting.done():
        waiting.set_result(is_in_time)
