"""The connections to RunAPI, over real sockets: what was surely not sent, what may have been, and what goes out."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpcore
import httpx
import pytest

from flux2_tool._redaction import SecretStr
from flux2_tool.runapi.client import HttpResponse, RunapiClient
from flux2_tool.runapi.connections import WatchedStream
from flux2_tool.runapi.http_client import HttpTimeouts, open_http
from flux2_tool.runapi.send_errors import MaybeSentError, NotSentError
from flux2_tool.runapi.sockets import AsyncioBackend
from flux2_tool.runapi.transport import MAX_CONNECTIONS

Serve = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SHORT = HttpTimeouts(connect_s=5.0, read_s=0.2, attempt_s=5.0)
PATIENT = HttpTimeouts(connect_s=30.0, read_s=30.0, attempt_s=60.0)
"""For what is to succeed, also on a machine that is busy."""


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


async def sent(
    base_url: str, *paths: str, method: str = "POST", timeouts: HttpTimeouts = PATIENT
) -> list[HttpResponse]:
    """Send requests one after the other over one pool and return their responses."""
    async with open_http(base_url, timeouts=timeouts) as http:
        client = RunapiClient(http, base_url=base_url, api_key=SecretStr("sk-key-of-this-test"), user_agent="test/1")
        return [
            await client.send(method, path, body=b"{}" if method == "POST" else None)  # type: ignore[arg-type]
            for path in paths
        ]


def response(body: bytes, *headers: bytes) -> bytes:
    """Return an HTTP response's bytes."""
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
def test_a_request_whose_response_is_lost_may_have_arrived(serve: Serve) -> None:
    """Taken for "never sent", a paid task would be booked as never created."""

    async def main() -> None:
        async with listening(serve) as base_url:
            with pytest.raises(MaybeSentError):
                await sent(base_url, "/v1/text_to_image", timeouts=SHORT)

    asyncio.run(main())


def test_a_port_where_nobody_listens_means_that_nothing_was_sent() -> None:
    """Only then is it free to forget the request."""

    async def main() -> None:
        async with listening(_drops) as base_url:
            pass
        with pytest.raises(NotSentError):
            await sent(base_url, "/v1/text_to_image")

    asyncio.run(main())


def test_a_post_on_a_connection_that_was_closed_is_not_repeated() -> None:
    """Whether a POST may be repeated is decided above, where its idempotency key is known."""
    seen: list[bytes] = []

    async def serve(request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        if len(seen) == 1:
            writer.write(response(b"{}"))
        else:
            writer.close()

    async def main() -> None:
        async with listening(serve) as base_url:
            with pytest.raises(MaybeSentError):
                await sent(base_url, "/v1/text_to_image", "/v1/text_to_image", timeouts=SHORT)

    asyncio.run(main())

    assert len(seen) == 2


def test_requests_share_a_connection_and_keep_no_cookie() -> None:
    """A connection of its own for each of a thousand polls costs more than the polls."""
    connections: set[object] = set()
    requests: list[bytes] = []

    async def serve(request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        requests.append(request)
        writer.write(response(b"{}", b"set-cookie: a=b; Path=/"))

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
        writer.write(response(b"{}"))

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
        writer.write(response(b'{"id": "tsk_1"}', b"x-request-id: req_1"))

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


@pytest.mark.parametrize("coding", ["gzip", " X-GZIP", "deflate", "deflate, without its frame"])
def test_a_compressed_response_is_read(coding: str) -> None:
    """We say that we take gzip, so it comes."""
    body = b'{"status": "completed"}'
    sent_as, _, bare = coding.partition(",")
    squeezed = zlib.compressobj(wbits=-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 16 if "g" in coding else 15)
    data = squeezed.compress(body) + squeezed.flush()

    async def serve(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response(data, b"content-encoding: " + sent_as.encode()))

    async def main() -> list[HttpResponse]:
        async with listening(serve) as base_url:
            return await sent(base_url, "/v1/tasks/1", method="GET")

    assert asyncio.run(main())[0].body == body


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_compressed_response_leaves_its_connection_to_the_next(is_chunked: bool) -> None:
    """A new connection for each poll, with TLS, costs more than the poll; a proxy compresses whatever it passes on."""
    connections: set[object] = set()
    data = gzip.compress(b"{}")

    async def serve(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        zipped = b"content-encoding: gzip"
        writer.write(chunked(data, zipped) if is_chunked else response(data, zipped))

    async def main() -> list[HttpResponse]:
        async with listening(serve) as base_url:
            return await sent(base_url, "/one", "/two", "/three", method="GET")

    assert [found.body for found in asyncio.run(main())] == [b"{}"] * 3
    assert len(connections) == 1


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        pytest.param([b"content-encoding: deflate, gzip, gzip"], "not asked for", id="several in one another"),
        pytest.param([b"content-encoding: gzip", b"content-encoding: gzip"], "not asked for", id="in two lines"),
        pytest.param([b"content-encoding: br"], "not asked for", id="another one"),
        pytest.param([b"content-encoding: gzip"], "ends too early", id="not whole"),
    ],
)
def test_a_compression_that_cannot_be_bounded_is_not_begun(headers: list[bytes], said: str) -> None:
    """Each layer multiplies by a thousand: 440 bytes were eight gigabytes."""

    async def serve(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response(gzip.compress(b"{}")[:-5], *headers))

    async def main() -> None:
        async with listening(serve) as base_url:
            with pytest.raises(MaybeSentError, match=said):
                await sent(base_url, "/v1/tasks/1", method="GET")

    asyncio.run(main())


def test_a_compressed_flood_is_not_read_to_its_end() -> None:
    """A few megabytes on the wire may be gigabytes in memory."""

    async def serve(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response(flood, b"content-encoding: gzip"))

    async def main() -> None:
        async with listening(serve) as base_url:
            with pytest.raises(MaybeSentError, match="more than 4 MiB"):
                await sent(base_url, "/v1/tasks/1", method="GET", timeouts=SHORT)

    flood = gzip.compress(b" " * 40_000_000)
    tracemalloc.start()
    try:
        asyncio.run(main())
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 12_000_000


def chunked(body: bytes, *headers: bytes) -> bytes:
    """Return an HTTP response's bytes, the length of its body only known at its end."""
    head = b"\r\n".join([b"HTTP/1.1 200 OK", b"transfer-encoding: chunked", *headers])
    return head + b"\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


STRAY = response(b"stray")


@pytest.mark.parametrize("framed", [response, chunked], ids=["with a length", "chunked"])
@pytest.mark.parametrize(
    ("at_once", "later"),
    [
        pytest.param(b"", STRAY, id="later"),
        pytest.param(STRAY, b"", id="in the same packet"),
        pytest.param(STRAY[:20], STRAY[20:], id="half of it later"),
        pytest.param(STRAY[:-2], b"", id="all but its end"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", b"", id="without a body"),
        pytest.param(b"\r\n", b"", id="an empty line"),
        pytest.param(b"x", STRAY, id="a byte too many"),
    ],
)
def test_a_connection_with_stray_bytes_is_not_reused(
    framed: Callable[[bytes], bytes], at_once: bytes, later: bytes
) -> None:
    """Whatever nobody asked for would pass for the next request's response: another task's, say."""
    has_first, has_stray = asyncio.Event(), asyncio.Event()
    connections: list[asyncio.StreamWriter] = []

    async def serve(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.write(framed(b"%d" % len(connections)) + (at_once if len(connections) == 1 else b""))
        if len(connections) == 1:
            await has_first.wait()
            writer.write(later)
            await writer.drain()
            has_stray.set()

    async def main() -> list[bytes]:
        async with listening(serve) as base_url, open_http(base_url) as http:
            client = RunapiClient(http, base_url=base_url, api_key=None, user_agent="test/1")
            first = await client.send("GET", "/one")
            has_first.set()
            await has_stray.wait()
            return [first.body, (await client.send("GET", "/two")).body]

    assert asyncio.run(main()) == [b"1", b"2"]
    assert connections[0] is not connections[1]


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 204 No Content\r\ncontent-length: %d\r\n\r\n", id="a status without a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: content-length: %d\r\n\r\n", id="in a header"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 0\n\nx: y\r\ncontent-length: %d\r\n\r\n", id="an early end"),
    ],
)
def test_a_length_that_is_not_the_bodys_hides_no_response(head: bytes) -> None:
    """What stands behind such a head would be taken for a body here, and for the next response by the parser."""
    served: list[bytes] = []

    async def serve(request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(request)
        writer.write(head % len(STRAY) + STRAY if len(served) == 1 else response(b"{}"))

    async def main() -> HttpResponse:
        async with listening(serve) as base_url:
            return (await sent(base_url, "/v1/tasks/1", "/v1/tasks/2", method="GET"))[1]

    assert asyncio.run(main()).body == b"{}"


@pytest.mark.parametrize("head", [b"HTTP/1.1 100 Continue", b"HTTP/1.1 103 Early Hints\r\nlink: </x>"])
def test_interim_responses_and_chunks_belong_to_their_response(head: bytes) -> None:
    """A connection with nothing else on it is kept: a new one for each poll costs more than the poll."""
    connections: set[object] = set()

    async def serve(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        writer.write(head + b"\r\n\r\n" + chunked(b"{}"))

    async def main() -> list[HttpResponse]:
        async with listening(serve) as base_url:
            return await sent(base_url, "/one", "/two", "/three", method="GET")

    assert [found.body for found in asyncio.run(main())] == [b"{}"] * 3
    assert len(connections) == 1


def test_a_thousand_requests_share_a_hundred_connections() -> None:
    """Those that wait their turn fail no earlier than a whole attempt may take."""
    connections: set[object] = set()

    async def serve(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        writer.write(response(b"{}"))

    async def main() -> list[HttpResponse]:
        async with listening(serve) as base_url, open_http(base_url, timeouts=PATIENT) as http:
            client = RunapiClient(http, base_url=base_url, api_key=None, user_agent="test/1", attempt_timeout_s=60.0)
            return await asyncio.gather(*(client.send("GET", f"/{number}") for number in range(1000)))

    assert {response.status_code for response in asyncio.run(main())} == {200}
    assert 1 < len(connections) <= MAX_CONNECTIONS


@pytest.mark.parametrize(
    ("greeting", "said"),
    [(b"", "the server closed the connection"), (response(b"{}"), "the server sent a response before any request")],
)
def test_a_server_that_does_not_wait_for_the_request(greeting: bytes, said: str) -> None:
    """Nothing was sent, and whoever looks for the fault is told which one it is."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with server:
            stream = await AsyncioBackend().connect_tcp("127.0.0.1", server.sockets[0].getsockname()[1])
            await stream.read(0)  # returns when something has arrived
            with pytest.raises(httpcore.ConnectError, match=said):
                await WatchedStream(stream).write(b"GET / HTTP/1.1\r\n\r\n")
            await stream.aclose()

    asyncio.run(main())


def test_an_impossible_host_name_means_that_nothing_was_sent() -> None:
    """It fails before there is a connection."""
    for host in ("a" * 70 + ".test", "xn--a.test", "a..test"):
        with pytest.raises(NotSentError):
            asyncio.run(sent("http://127.0.0.1:1", f"http://{host}/v1/text_to_image"))


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ssl.SSLError(1, "bad record mac"), id="a TLS record that was changed on its way"),
        pytest.param(httpx.WriteError("broken pipe"), id="half of the request is sent"),
        pytest.param(ValueError("Invalid IPv6 URL"), id="a redirect that no URL can be made of"),
    ],
)
def test_an_error_of_any_other_kind_may_come_after_the_request_arrived(error: Exception) -> None:
    """Only what surely precedes the connection counts as not sent."""

    def fail(_request: httpx.Request) -> httpx.Response:
        raise error

    async def main() -> None:
        async with open_http("https://runapi.test", transport=httpx.MockTransport(fail)) as http:
            client = RunapiClient(http, base_url="https://runapi.test", api_key=None, user_agent="test/1")
            with pytest.raises(MaybeSentError):
                await client.send("POST", "/v1/text_to_image", body=b"{}")

    asyncio.run(main())


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example", ".example"])
def test_a_host_that_no_resolver_takes_means_that_nothing_was_sent(host: str) -> None:
    """The message names the URL: a name that is "not known" would send people to look for a fault of the network."""

    async def main() -> None:
        with pytest.raises(NotSentError, match="URL cannot be used"):
            await sent(f"http://{host}", "/v1/text_to_image")

    asyncio.run(main())
