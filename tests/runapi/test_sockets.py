"""The connections over asyncio: what has arrived, in what order, and whether in time."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import httpcore
import pytest

from flux2_tool.runapi.sockets import AsyncioBackend

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
# More than any buffer of the system or of ours takes.
MUCH = bytes(range(256)) * 64 * 1024


@contextlib.asynccontextmanager
async def connected(serve: Serve) -> AsyncIterator[httpcore.AsyncNetworkStream]:
    """Serve one connection, and yield its other end."""
    ended = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
            await ended.wait()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    stream = await AsyncioBackend().connect_tcp(*server.sockets[0].getsockname(), timeout=5.0)
    try:
        yield stream
    finally:
        ended.set()
        await stream.aclose()
        server.close()


async def _says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Nothing."""


async def _says_much(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(MUCH)
    await writer.drain()
    writer.close()


async def _speaks_first(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n")
    await writer.drain()


def test_what_arrives_faster_than_it_is_read_comes_whole_and_in_order() -> None:
    """Reading pauses meanwhile: a picture does not pile up in memory."""

    async def main() -> bytes:
        read = bytearray()
        async with connected(_says_much) as stream:
            while part := await stream.read(65536, timeout=5.0):
                read += part
                await asyncio.sleep(0)
        return bytes(read)

    assert asyncio.run(main()) == MUCH


def test_a_server_that_says_nothing_in_time_is_a_timeout() -> None:
    """Its request may have arrived."""

    async def main() -> None:
        async with connected(_says_nothing) as stream:
            with pytest.raises(httpcore.ReadTimeout):
                await stream.read(1, timeout=0.01)

    asyncio.run(main())


def test_a_server_that_takes_nothing_in_time_is_a_timeout() -> None:
    """What it took so far may be the whole request for it."""

    async def main() -> None:
        async with connected(_says_nothing) as stream:
            with pytest.raises(httpcore.WriteTimeout):
                await stream.write(MUCH, timeout=0.01)

    asyncio.run(main())


def test_a_call_that_is_stopped_while_it_reads_is_stopped() -> None:
    """Also at the very moment at which the read is late."""

    async def main() -> None:
        async with connected(_says_nothing) as stream:
            reading = asyncio.create_task(stream.read(1, timeout=0.0))
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

    asyncio.run(main())


def test_what_came_before_the_encryption_does_not_pass_for_encrypted() -> None:
    """Whoever is on the way could have put it there."""

    async def main() -> None:
        async with connected(_speaks_first) as stream:
            while not stream.get_extra_info("is_readable"):  # noqa: ASYNC110 - the network's own time
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(httpcore.ConnectError):
                await stream.start_tls(ssl.create_default_context(), server_hostname="mail.example", timeout=5.0)

    asyncio.run(main())


def test_a_connection_that_was_closed_is_readable_and_takes_nothing() -> None:
    """So that nobody sends a request on it."""

    async def closes(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def main() -> None:
        async with connected(closes) as stream:
            assert await stream.read(1, timeout=5.0) == b""
            assert stream.get_extra_info("is_readable")
            with pytest.raises(httpcore.WriteError):
                await stream.write(b"GET / HTTP/1.1\r\n\r\n", timeout=5.0)

    asyncio.run(main())
