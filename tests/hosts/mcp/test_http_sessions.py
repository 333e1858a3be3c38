"""When a session over HTTP begins: not after its client may use it, and not at all for one that was never opened."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.mcp.http_host import ACCEPT
from tests.hosts.mcp.test_http_access import Moved, application, client_of
from tests.hosts.mcp.test_process import handshake

from flux2_tool.hosts.mcp_http.sessions import Sessions  # isort: skip - after http_host.py, which skips without mcp

# Version 1.24 of the SDK leaves streams of its own open when the application ends: see `collected`.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]


def environ_at(home: Path) -> dict[str, str]:
    """Return the environment of a server."""
    return {"HOME": str(home), "FLUX2_TOOL_HOME": str(home / "data")}


def test_a_session_is_known_as_soon_as_its_client_knows_it(tmp_path: Path) -> None:
    """Clients go on after the head of the answer, without waiting for its end."""
    hello, told = handshake()
    statuses: list[int] = []

    async def main() -> None:
        async with application(Sessions(Moved()), environ_at(tmp_path)) as app, client_of(app) as other:

            async def hasty(scope: Any, receive: Any, send: Any) -> None:
                async def send_and_go_on(message: Any) -> None:
                    await send(message)
                    if message["type"] == "http.response.start":
                        session = dict(message["headers"])[b"mcp-session-id"].decode()
                        headers = {**ACCEPT, "mcp-session-id": session}
                        statuses.append((await other.post("/mcp", json=told, headers=headers)).status_code)

                await app(scope, receive, send_and_go_on)

            async with client_of(hasty) as client:
                statuses.append((await client.post("/mcp", json=hello, headers=ACCEPT)).status_code)

    asyncio.run(main())

    assert statuses == [202, 200]


def test_an_initialize_that_fails_takes_no_place(tmp_path: Path) -> None:
    """Else a client that is wrong keeps others out for half an hour."""
    hello = handshake()[0]
    wrong = {**hello, "params": {"protocolVersion": [], "capabilities": 7}}

    async def main() -> list[int]:
        sessions = Sessions(Moved(), most=1)
        async with application(sessions, environ_at(tmp_path)) as app, client_of(app) as client:
            failed = await client.post("/mcp", json=wrong, headers=ACCEPT)
            assert '"error"' in failed.text
            refused = await client.post("/mcp", json=hello, headers={**ACCEPT, "accept": "text/html"})
            opened = await client.post("/mcp", json=hello, headers=ACCEPT)
            session = failed.headers.get("mcp-session-id", "0" * 32)
            ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
            gone = await client.post("/mcp", json=ping, headers={**ACCEPT, "mcp-session-id": session})
            return [refused.status_code, opened.status_code, gone.status_code, len(sessions)]

    assert asyncio.run(main()) == [406, 200, 404, 1]
