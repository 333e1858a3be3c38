"""Who may speak to the HTTP server, where it listens, and what it bears: its parts, and a server with a token."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool.context import CallContext
from flux2_tool.engine.host_profile import MCP_HTTP
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.hosts.mcp_http import app as app_module
from flux2_tool.hosts.mcp_http.access import Access, token_of
from flux2_tool.hosts.mcp_http.address import listen, parsed
from flux2_tool.hosts.mcp_http.app import McpApp
from flux2_tool.hosts.mcp_http.exchange import SentAnswers
from flux2_tool.hosts.mcp_http.sessions import IDLE_S, YIELDS_AFTER_S, Sessions
from flux2_tool.schema.variables import TOKEN_VARIABLE
from tests.hosts.mcp.host import ARGUMENTS, result_of
from tests.hosts.mcp.http_host import ACCEPT, served
from tests.hosts.mcp.test_process import handshake

from flux2_tool.hosts.mcp_sdk import sdk  # isort: skip - after host.py, which skips these tests where it is missing
from flux2_tool.hosts.mcp_server import ToolServer  # isort: skip

TOKEN = "t0ken-" + "x" * 40
URL = "http://127.0.0.1:8080/mcp"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("0", ("127.0.0.1", 0)),
        ("[::1]:8080", ("::1", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("192.168.1.5:65535", ("192.168.1.5", 65535)),
    ],
)
def test_an_address_is_read_as_people_write_it(text: str, wanted: tuple[str, int]) -> None:
    """Without a host it is this machine alone."""
    assert parsed(text) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("::1:8080", "brackets"),
        ("localhost", "no port"),
        ("127.0.0.1:65536", "no port"),
        ("127.0.0.1:-1", "no port"),
        ("[]:1", "no host"),
        ("http://localhost:80", "brackets"),
        ("", "no port"),
    ],
)
def test_a_wrong_address_is_refused_with_the_right_form(text: str, said: str) -> None:
    """Nobody should have to guess."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        parsed(text)

    assert "HOST:PORT" in caught.value.hint


def test_it_says_why_it_cannot_listen() -> None:
    """And what to do instead."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port} is in use") as caught:
            listen(f"127.0.0.1:{port}")
    assert "another port" in caught.value.hint
    with pytest.raises(ConfigurationError, match="is no address of this machine"):
        listen("192.0.2.1:0")
    with pytest.raises(ConfigurationError, match=r"no address of nowhere\.invalid is known"):
        listen("nowhere.invalid:0")


@pytest.mark.parametrize(
    ("address", "url", "is_loopback"),
    [
        ("localhost:0", "http://localhost:", True),
        ("0.0.0.0:0", "http://0.0.0.0:", False),
        ("[::1]:0", "http://[::1]:", True),
    ],
)
def test_it_knows_who_reaches_it(address: str, url: str, is_loopback: bool) -> None:
    """By the address that was opened, whatever name it was given."""
    if "::" in address and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        found = listen(address)
    except ConfigurationError as exc:
        pytest.skip(str(exc))
    with found.listener:
        assert found.url.startswith(url)
        assert found.is_loopback is is_loopback


def test_other_machines_need_a_token() -> None:
    """Else everybody in the network spends the account's money."""
    assert token_of({}, is_loopback_only=True, address=URL) is None
    assert token_of({TOKEN_VARIABLE: TOKEN}, is_loopback_only=False, address=URL) == TOKEN
    for environ, said in [
        ({}, "not set"),
        ({TOKEN_VARIABLE: "short"}, "5 characters"),
        ({TOKEN_VARIABLE: "ä" * 40}, "A-Z"),
    ]:
        with pytest.raises(ConfigurationError, match=said) as caught:
            token_of(environ, is_loopback_only=False, address=URL)
        assert "secrets.token_urlsafe" in caught.value.hint


@pytest.mark.parametrize(
    ("token", "headers", "status"),
    [
        pytest.param(None, {"host": "localhost:9"}, None, id="this machine by name"),
        pytest.param(None, {"host": "[::1]:9"}, None, id="by its address"),
        pytest.param(None, {"host": "192.168.1.5:9"}, None, id="no name can be rebound here"),
        pytest.param(None, {"host": "evil.example:9"}, 421, id="a name that somebody lets point here"),
        pytest.param(None, {}, 421, id="no host at all"),
        pytest.param(None, {"host": "localhost:9", "origin": "http://localhost:9"}, None, id="a page of its own"),
        pytest.param(None, {"host": "localhost:9", "origin": "http://[::1]:9"}, None, id="under another local name"),
        pytest.param(None, {"host": "192.168.1.5:9", "origin": "http://192.168.1.5:9"}, None, id="under its address"),
        pytest.param(
            None, {"host": "localhost", "origin": "http://localhost:80"}, None, id="with its port written out"
        ),
        pytest.param(
            None, {"host": "localhost:9", "origin": "http://localhost:5173"}, 403, id="a page of another port"
        ),
        pytest.param(None, {"host": "localhost:9", "origin": "http://127.0.0.1"}, 403, id="of the port that is usual"),
        pytest.param(None, {"host": "localhost:9", "origin": "https://localhost:9"}, 403, id="of another scheme"),
        pytest.param(None, {"host": "localhost:9", "origin": "file://localhost:9"}, 403, id="of a scheme of no server"),
        pytest.param(None, {"host": "localhost:9", "origin": "http://localhost:x"}, 403, id="a port that is none"),
        pytest.param(None, {"host": "localhost", "origin": "https://evil.example"}, 403, id="a page of another"),
        pytest.param(None, {"host": "localhost", "origin": "null"}, 403, id="a page from nowhere"),
        pytest.param(None, {"host": "localhost", "origin": "http://[::1"}, 403, id="a page with nonsense for a name"),
        pytest.param(None, {"host": "localhost", "origin": "://localhost"}, 403, id="a page without a scheme"),
        pytest.param(TOKEN, {"host": "mcp.example", "authorization": f"Bearer {TOKEN}"}, None, id="the token"),
        pytest.param(TOKEN, {"host": "mcp.example", "authorization": f"bearer  {TOKEN}"}, None, id="in other letters"),
        pytest.param(TOKEN, {"host": "mcp.example"}, 401, id="no token"),
        pytest.param(TOKEN, {"host": "mcp.example", "authorization": f"Bearer {TOKEN}x"}, 401, id="another token"),
        pytest.param(TOKEN, {"host": "mcp.example", "authorization": f"Basic {TOKEN}"}, 401, id="another scheme"),
        pytest.param(TOKEN, {"host": "mcp.example", "authorization": "Bearer \udcff"}, 401, id="no text"),
        pytest.param(
            TOKEN,
            {"host": "mcp.example", "origin": "https://mcp.example", "authorization": f"Bearer {TOKEN}"},
            None,
            id="a page of the same origin",
        ),
        pytest.param(
            TOKEN,
            {"host": "mcp.example", "origin": "https://evil.example", "authorization": f"Bearer {TOKEN}"},
            403,
            id="a page that has the token",
        ),
        pytest.param(
            TOKEN,
            {"host": "mcp.example", "origin": "https://mcp.example:8443", "authorization": f"Bearer {TOKEN}"},
            403,
            id="a page of the same name, and of another port",
        ),
    ],
)
def test_access_is_decided_by_the_headers(token: str | None, headers: dict[str, str], status: int | None) -> None:
    """A page in a browser is kept out by name and origin, everybody else by the token."""
    refusal = Access(token).refusal({name: [value] for name, value in headers.items()})

    assert (None if refusal is None else refusal.status) == status
    assert refusal is None or TOKEN not in refusal.message
    assert (refusal is not None and "www-authenticate" in refusal.headers) is (status == 401)


def test_a_second_authorization_header_is_no_way_in() -> None:
    """A proxy may have looked at the other one."""
    refusal = Access(TOKEN).refusal({"host": ["a"], "authorization": [f"Bearer {TOKEN}", "Bearer x"]})

    assert refusal is not None
    assert refusal.status == 401


class Moved:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_conversations_are_numbered_while_they_are_open_at_once() -> None:
    """One that has ended, or that its client has left in mid-answer, is taken over; another program's never."""
    sessions = Sessions(Moved())
    first = sessions.opened("1", client="claude code", address="10.0.0.1")
    second = sessions.opened("2", client="claude code", address="10.0.0.1")
    other = sessions.opened("3", client="claude code", address="10.0.0.2")
    assert (first.conversation, second.number, other.number) == ("mcp-http:claude_code@10.0.0.1/1", 2, 1)

    sessions.begin(first)
    assert sessions.opened("4", client="claude code", address="10.0.0.1").number == 3
    sessions.leave(first)
    sessions.finish(first, is_left=True)
    assert sessions.opened("5", client="claude code", address="10.0.0.1").number == 1
    sessions.ended("2")
    assert sessions.opened("6", client="claude code", address="10.0.0.1").number == 2


def test_a_client_that_comes_back_is_there_again() -> None:
    """One of its streams may break while another is answered."""
    sessions = Sessions(Moved())
    session = sessions.opened("1", client="c", address="a")
    sessions.begin(session)
    sessions.begin(session)
    sessions.leave(session)
    assert not session.is_away
    sessions.leave(session)
    assert session.is_away
    sessions.finish(session, is_left=True)
    sessions.finish(session, is_left=True)
    assert session.is_away
    sessions.begin(session)
    assert not session.is_away
    sessions.finish(session, is_left=False)
    assert not session.is_away


def test_sessions_end_when_nobody_uses_them() -> None:
    """And make room earlier where there are too many; one that is answering never does."""
    clock = Moved()
    sessions = Sessions(clock, most=2)
    busy = sessions.opened("busy", client="c", address="a")
    sessions.begin(busy)
    sessions.opened("idle", client="c", address="a")
    assert (sessions.is_full, sessions.yielding()) == (True, None)
    clock.now_s = YIELDS_AFTER_S
    assert sessions.yielding() == "idle"
    clock.now_s = IDLE_S
    assert sessions.idle() == ["idle"]


@asynccontextmanager
async def application(sessions: Sessions, environ: dict[str, str]) -> AsyncIterator[McpApp]:
    """Run the application itself, without a network."""
    answers = SentAnswers()
    tools = ToolServer(environ, answers, host=MCP_HTTP, caller=CallContext(is_owner=True))
    manager = sdk().http(sdk().server(tools.info, tools), max_body_bytes=app_module.MAX_BODY_BYTES)
    app = McpApp(manager, sdk=sdk(), access=Access(None), sessions=sessions, answers=answers)
    async with manager.run():
        yield app
    await tools.aclose()


def client_of(app: Any) -> httpx.AsyncClient:
    """Return a client of an application."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost")


def in_application(
    tmp_path: Path, talking: Callable[[httpx.AsyncClient, Moved], Awaitable[None]], *, most: int = 10
) -> None:
    """Talk to the application."""
    clock = Moved()

    async def main() -> None:
        environ = {"HOME": str(tmp_path), "FLUX2_TOOL_HOME": str(tmp_path / "data")}
        async with application(Sessions(clock, most=most), environ) as app, client_of(app) as client:
            await talking(client, clock)

    asyncio.run(main())


def test_requests_that_are_none_are_refused_by_status(tmp_path: Path) -> None:
    """Each with an error of JSON-RPC that says what is right."""

    async def talking(client: httpx.AsyncClient, _clock: Moved) -> None:
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/")).status_code == 404
        assert (await client.put("/mcp", headers=ACCEPT)).headers["allow"] == "GET, POST, DELETE"
        for body, code in [(b"", -32700), (b"[]", -32600), (b"{", -32700), (b"[" * 500 + b"]" * 500, -32600)]:
            answer = await client.post("/mcp", content=body, headers=ACCEPT)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), body
        deep = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + b'{"a":' * 300 + b"1" + b"}" * 301
        assert (await client.post("/mcp", content=deep, headers=ACCEPT)).json()["error"]["code"] == -32602
        listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        assert (await client.post("/mcp", json=listing, headers=ACCEPT)).status_code == 400
        gone = {**ACCEPT, "mcp-session-id": "0" * 32}
        assert (await client.post("/mcp", json=listing, headers=gone)).status_code == 404
        assert (await client.get("/mcp", headers=gone)).status_code == 404

    in_application(tmp_path, talking)


def test_too_much_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what a message says of its length, and by what comes."""
    monkeypatch.setattr(app_module, "MAX_BODY_BYTES", 1000)
    monkeypatch.setattr(app_module, "MAX_BODIES_BYTES", 1500)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 600

    async def growing() -> AsyncIterator[bytes]:
        for _ in range(2):
            yield b"x" * 450

    async def slow() -> AsyncIterator[bytes]:
        yield b"{" + b" " * 600
        assert (await clients[0].post("/mcp", content=b"x" * 900, headers=ACCEPT)).status_code == 503
        assert (await clients[0].post("/mcp", content=growing(), headers=ACCEPT)).status_code == 503
        yield b"}"

    async def silent() -> AsyncIterator[bytes]:
        yield b"{"
        assert (await clients[0].post("/mcp", content=b"{}", headers=ACCEPT)).status_code == 400
        yield b"}"

    clients: list[httpx.AsyncClient] = []

    async def talking(client: httpx.AsyncClient, _clock: Moved) -> None:
        clients.append(client)
        assert (await client.post("/mcp", content=b"x" * 1001, headers=ACCEPT)).status_code == 413
        assert (await client.post("/mcp", content=endless(), headers=ACCEPT)).status_code == 413
        assert (await client.post("/mcp", content=slow(), headers=ACCEPT)).status_code == 400
        announced = {**ACCEPT, "content-length": "1000"}
        monkeypatch.setattr(app_module, "MAX_BODIES_BYTES", 1000)
        for headers in (ACCEPT, announced):
            assert (await client.post("/mcp", content=silent(), headers=headers)).status_code == 400
        assert (await client.post("/mcp", content=b"{}", headers=ACCEPT)).status_code == 400

    in_application(tmp_path, talking)


# Version 1.24 of the SDK leaves streams of its own open when the application ends: see `collected`.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("collected")
def test_a_full_server_ends_the_session_that_is_idle_longest(tmp_path: Path) -> None:
    """Its client opens another; while all are in use, one more is told when to come back."""

    async def talking(client: httpx.AsyncClient, clock: Moved) -> None:
        hello = handshake()[0]
        first = await client.post("/mcp", json=hello, headers=ACCEPT)
        assert first.status_code == 200
        refused = await client.post("/mcp", json=hello, headers=ACCEPT)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
        clock.now_s = YIELDS_AFTER_S
        second = await client.post("/mcp", json=hello, headers=ACCEPT)
        assert second.headers["mcp-session-id"] != first.headers["mcp-session-id"]
        over = {**ACCEPT, "mcp-session-id": first.headers["mcp-session-id"]}
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        assert (await client.post("/mcp", json=ping, headers=over)).status_code == 404

    in_application(tmp_path, talking, most=1)


def test_with_a_token_only_who_has_it_gets_in_and_nobody_reads_it(environ: dict[str, str], tmp_path: Path) -> None:
    """In no answer, no log, and no process that the server starts."""
    log = tmp_path / "log"
    with log.open("w") as stderr, served({**environ, TOKEN_VARIABLE: TOKEN}, "127.0.0.1:0", stderr=stderr) as server:

        async def make(client: Any) -> dict[str, Any]:
            return result_of(await client.call_tool("text_to_image", {"prompt": "a fox"}))

        refused = httpx.post(server.url, json=handshake()[0], headers={**ACCEPT, "authorization": f"Bearer {TOKEN}x"})
        made = server.talk(make, headers={"authorization": f"Bearer {TOKEN}"})

    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Bearer realm="flux2-tool", error="invalid_token"'
    assert made["task"]["state"] == "completed"
    assert TOKEN not in refused.text + log.read_text()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/mcp", server.url)


def test_it_does_not_start_where_everybody_could_spend(environ: dict[str, str]) -> None:
    """The command ends with what to do."""
    command = [sys.executable, *ARGUMENTS, "--http", "0.0.0.0:0"]

    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 3
    assert f"{TOKEN_VARIABLE} is not set" in done.stderr
    assert "secrets.token_urlsafe" in done.stderr
    assert done.stdout == ""
