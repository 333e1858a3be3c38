"""The connections to RunAPI, over real sockets: what was surely not sent, what may have been, and what goes out."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from flux2_tool.runapi.client import HttpResponse, HttpTimeouts, MaybeSentError, NotSentError, RunapiClient, open_http

Serve = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SHORT = HttpTimeouts(connect_s=5.0, read_s=0.2, attempt_s=5.0)


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    """Run a server that reads whole requests and answers them by hand; yields its base URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.lower().split(b"\r\n")
                sizes = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")]
                await serve(head + await reader.readexactly(sum(sizes)), reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def sent(base_url: str, *paths: str, method: str = "POST", timeouts: HttpTimeouts = SHORT) -> list[HttpResponse]:
    """Send requests one after the other over one pool and return their answers."""
    async with open_http(base_url, timeouts=timeouts) as http:
        client = RunapiClient(http, base_url=base_url, api_key=SecretStr("sk-key-of-this-test"), user_agent="test/1")
        return [
            await client.send(method, path, body=b"{}" if method == "POST" else None)  # type: ignore[arg-type]
            for path in paths
        ]


def answer(body: bytes, *headers: bytes) -> bytes:
    """Return an HTTP answer's bytes."""
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), *headers, b"", body])


async def _drops(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _resets(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _is_silent(_request: bytes, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _truncates(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"id":')
    writer.close()


async def _resets_in_the_body(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"id"\r\n')
    await writer.drain()
    writer.transport.abort()


async def _speaks_nonsense(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n\r\n")


async def _heads_too_long(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nx-long: " + b"a" * 300_000 + b"\r\n\r\n")


@pytest.mark.parametrize(
    "serve", [_drops, _resets, _is_silent, _truncates, _resets_in_the_body, _speaks_nonsense, _heads_too_long]
)
def test_a_request_whose_answer_is_lost_may_have_arrived(serve: Serve) -> None:
    """Taken for "never sent", a paid task would be booked as never created."""

    async def main() -> None:
        async with listening(serve) as base_url:
            with pytest.raises(MaybeSentError):
                await sent(base_url, "/v1/text_to_image")

    asyncio.run(main())


def test_a_port_where_nobody_listens_means_that_nothing_was_sent() -> None:
    """Only then is it free to forget the request."""

    async def main() -> None:
        async with listening(_drops) as base_url:
            pass
        with pytest.raises(NotSentError):
            await sent(base_url, "/v1/text_to_image")

    asyncio.run(main())


def test_a_post_on_a_connection_that_was_closed_meanwhile_is_never_sent_again_by_itself() -> None:
    """Whether a POST may be repeated is decided above, where its idempotency key is known."""
    seen: list[bytes] = []

    async def serve(request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        if len(seen) == 1:
            writer.write(answer(b"{}"))
        else:
            writer.close()

    async def main() -> None:
        async with listening(serve) as base_url:
            with pytest.raises(MaybeSentError):
                await sent(base_url, "/v1/text_to_image", "/v1/text_to_image")

    asyncio.run(main())

    assert len(seen) == 2


def test_requests_share_a_connection_and_keep_no_cookie() -> None:
    """A connection of its own for each of a thousand polls costs more than the polls."""
    connections: set[object] = set()
    requests: list[bytes] = []

    async def serve(request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        requests.append(request)
        writer.write(answer(b"{}", b"set-cookie: a=b; Path=/"))

    async def main() -> None:
        async with listening(serve) as base_url:
            await sent(base_url, "/one", "/two", "/three", method="GET")

    asyncio.run(main())

    assert len(requests) == 3
    assert len(connections) == 1
    assert b"cookie" not in b"".join(requests).lower()


@pytest.mark.parametrize(
    "target", ["/tasks/a%2Fb?sig=x%2Fy%2Bz%3D&e=1+2", "/tasks/%7Eid?X-Amz-Credential=AK%2F20261125%2Fauto"]
)
def test_a_signed_address_goes_out_to_the_letter(target: str) -> None:
    """A signature covers the exact text; one unescaped letter makes it a dead link."""
    heads: list[bytes] = []

    async def serve(request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(request)
        writer.write(answer(b"{}"))

    async def main() -> None:
        async with listening(serve) as base_url:
            await sent(base_url, target, method="GET")

    asyncio.run(main())

    assert heads[0].split(b" ")[1].decode() == target


def test_a_post_carries_each_header_once_and_its_exact_body() -> None:
    """Two clients stand behind each other here; neither may add its own idea of a header."""
    requests: list[bytes] = []

    async def serve(request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(request)
        writer.write(answer(b'{"id": "tsk_1"}', b"x-request-id: req_1"))

    async def main() -> list[HttpResponse]:
        async with listening(serve) as base_url:
            return await sent(base_url, "/v1/text_to_image")

    [answered] = asyncio.run(main())
    head, _, body = requests[0].partition(b"\r\n\r\n")
    names = sorted(line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:])

    assert (answered.status_code, answered.body, answered.request_id) == (200, b'{"id": "tsk_1"}', "req_1")
    assert body == b"{}"
    ours = b"host accept accept-encoding user-agent authorization content-type content-length"
    assert names == sorted(ours.split()), "no header twice, none of the transport's own"
    assert b"user-agent: test/1" in head.lower()


def test_a_compressed_answer_is_read() -> None:
    """We say that we take gzip, so it comes."""

    async def serve(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(gzip.compress(b'{"status": "completed"}'), b"content-encoding: gzip"))

    async def main() -> list[HttpResponse]:
        async with listening(serve) as base_url:
            return await sent(base_url, "/v1/tasks/1", method="GET")

    assert asyncio.run(main())[0].body == b'{"status": "completed"}'
