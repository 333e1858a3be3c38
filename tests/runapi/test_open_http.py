"""Opening the HTTP client: the environment's proxy and CA settings are the user's, and may be wrong."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from flux2_tool.exceptions import ConfigurationError
from flux2_tool.runapi.client import RunapiClient, open_http


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "foo://user:pass-word@proxy"),
        ("HTTPS_PROXY", "http://[::1"),
        ("ALL_PROXY", "::::"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
    ],
)
def test_a_wrong_proxy_or_ca_is_a_fault_of_the_set_up(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A defect is reported to us; this one is fixed by whoever set the variable. The proxy's password stays out."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError) as caught:
        open_http("https://runapi.ai")

    assert name in caught.value.hint
    assert "pass-word" not in f"{caught.value} {caught.value.__cause__}"


async def _opened(url: str) -> bool:
    async with open_http(url) as http:
        return not http.is_closed


def test_a_loopback_service_needs_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox works on a machine whose proxy is broken."""
    monkeypatch.setenv("HTTPS_PROXY", "foo://proxy")

    assert asyncio.run(_opened("http://127.0.0.1:1"))


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
