"""Headers that come in several lines: a proxy writes its own behind what the client sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.hosts.mcp.http_host import ACCEPT
from tests.hosts.mcp.test_http_access import TOKEN, Moved, application, client_of
from tests.hosts.mcp.test_process import handshake

from flux2_tool.hosts.mcp_http.access import Access  # isort: skip - after http_host.py, which skips without mcp
from flux2_tool.hosts.mcp_http.sessions import Sessions  # isort: skip

# Version 1.24 of the SDK leaves streams of its own open when the application ends: see `collected`.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]


def opened_with(home: Path, lines: Sequence[tuple[str, str]]) -> tuple[int, str | None]:
    """Open a session with these header lines, and return the status and the name of its conversation."""

    async def main() -> tuple[int, str | None]:
        environ, sessions = {"HOME": str(home), "FLUX2_TOOL_HOME": str(home / "data")}, Sessions(Moved())
        async with application(sessions, environ) as app, client_of(app) as client:
            answer = await client.post("/mcp", json=handshake()[0], headers=[*ACCEPT.items(), *lines])
            session = sessions.find(answer.headers.get("mcp-session-id", ""))
            return answer.status_code, None if session is None else session.conversation

    return asyncio.run(main())


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["203.0.113.9"], id="one"),
        pytest.param(["198.51.100.7, 203.0.113.9"], id="a list"),
        pytest.param(["198.51.100.7", "203.0.113.9"], id="two lines"),
        pytest.param(["198.51.100.7, 198.51.100.8", "198.51.100.9,203.0.113.9"], id="two lists"),
    ],
)
def test_behind_a_proxy_the_last_address_is_the_clients(tmp_path: Path, lines: list[str]) -> None:
    """The others were sent by the client itself, who would see the pictures of whoever has that address."""
    found = opened_with(tmp_path, [("X-Forwarded-For", line) for line in lines])

    assert found == (200, "mcp-http:by_hand@203.0.113.9/1")


@pytest.mark.parametrize("name", ["mcp-session-id", "mcp-protocol-version", "content-length"])
def test_a_header_of_two_values_is_refused(tmp_path: Path, name: str) -> None:
    """A proxy may have looked at the other one."""
    lines = [(name, "2025-11-25" if name.startswith("mcp") else "10"), (name, "11")]

    assert opened_with(tmp_path, lines) == (400, None)


def test_two_hosts_are_refused() -> None:
    """With a token too, because a page's origin is compared with it."""
    refusal = Access(TOKEN).refusal({"host": ["a", "b"], "authorization": [f"Bearer {TOKEN}"]})

    assert refusal is not None
    assert refusal.status == 400
