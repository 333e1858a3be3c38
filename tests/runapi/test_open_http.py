"""The HTTP client: what it keeps, and that it uses the environment's proxy."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.http_client import HttpTimeouts, open_http


def test_an_attempt_is_bounded_in_each_of_its_parts() -> None:
    """Reaching a host that does not answer must leave the time to try another way."""
    http = open_http("https://runapi.ai", timeouts=HttpTimeouts(connect_s=1.0, read_s=2.0, attempt_s=3.0))
    asyncio.run(http.aclose())

    assert (http.timeout.connect, http.timeout.read, http.timeout.pool) == (1.0, 2.0, 3.0)


def test_a_cookie_is_never_kept() -> None:
    """Nothing needs one; one with odd characters would spoil every later request of the process."""
    seen: list[str] = []

    def response(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("cookie", ""))
        return httpx.Response(200, headers=[(b"set-cookie", "a=\u00e9\u00e9; Path=/".encode("latin-1"))])

    async def main() -> None:
        async with open_http("https://runapi.test", transport=httpx.MockTransport(response)) as http:
            for _ in range(3):
                await http.get("https://runapi.test/v1/tasks/1")

    asyncio.run(main())

    assert seen == ["", "", ""]


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind many a company's firewall there is no other way out."""
    seen: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with open_http("http://runapi.test") as http:
            client = RunapiClient(http, base_url="http://runapi.test", api_key=None, user_agent="test/1")
            assert (await client.send("GET", "/v1/tasks/1")).status_code == 200
        server.close()

    asyncio.run(main())

    assert seen[0].startswith(b"GET http://runapi.test/v1/tasks/1 ")
