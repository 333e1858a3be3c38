"""A server over HTTP, and clients of it: the SDK's own, and one by hand that may leave whenever it likes."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from tests.hosts.mcp.host import TALK_S
from tests.hosts.mcp.sdk_client import opened
from tests.hosts.mcp.test_process import call, handshake
from tests.support.forked_commands import relayed
from tests.support.waiting import PATIENCE_S

T = TypeVar("T")

ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running server."""

    url: str
    process: subprocess.Popen[str]

    def talk(self, talking: Callable[[Any], Awaitable[T]], **options: Any) -> T:
        """Run one session with it and return what came of it."""

        async def main() -> T:
            async with asyncio.timeout(TALK_S), opened(self.url, **options) as client:
                return await talking(client)

        return asyncio.run(main())


@contextmanager
def served(environ: Mapping[str, str], address: str = "0", **options: Any) -> Iterator[Served]:
    """Start a server over HTTP; it prints where it listens."""
    command = relayed("mcp", "--http", address, environ=environ)
    with subprocess.Popen(command, env=dict(environ), stdout=subprocess.PIPE, text=True, **options) as process:
        assert process.stdout is not None
        yield Served(url=process.stdout.readline().strip(), process=process)
        if process.poll() is None:
            process.terminate()
        assert process.wait(PATIENCE_S) == 0


@dataclass(slots=True, kw_only=True)
class ByHand:
    """A client that speaks the protocol of 2025 by itself.

    Attributes:
        name: What it calls itself; clients of different names are different programs.
    """

    url: str
    name: str = "by hand"
    headers: dict[str, str] = field(default_factory=dict)

    def open(self, **capabilities: Any) -> ByHand:
        """Open a session."""
        hello, told = handshake()
        hello["params"]["capabilities"] = capabilities
        hello["params"]["clientInfo"]["name"] = self.name
        answer = self.post(hello)
        assert answer.status_code == 200, answer.text
        self.headers["mcp-session-id"] = answer.headers["mcp-session-id"]
        self.headers["mcp-protocol-version"] = "2025-11-25"
        assert self.post(told).status_code == 202
        return self

    def post(self, message: Any, **headers: str) -> httpx.Response:
        """Send a message and read the whole answer."""
        sent = message if isinstance(message, bytes) else json.dumps(message).encode()
        return httpx.post(self.url, content=sent, headers={**ACCEPT, **self.headers, **headers}, timeout=TALK_S)

    def call(self, number: int, arguments: Mapping[str, Any], tool: str = "text_to_image") -> dict[str, Any]:
        """Call a tool and return the result object."""
        answer = self.post(call(number, tool, arguments))
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
        [found] = [message for line in lines if (message := json.loads(line)).get("id") == number]
        result: dict[str, Any] = found["result"]["structuredContent"]
        return result

    def begin(self, message: Mapping[str, Any] | None) -> socket.socket:
        """Send a request, or open the server's stream, and leave the answer unread; closing the socket is leaving."""
        parts = urlsplit(self.url)
        method, body = ("GET", b"") if message is None else ("POST", json.dumps(message).encode())
        head = {**ACCEPT, **self.headers, "host": parts.netloc, "content-length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE_S)
        connection.sendall(f"{method} {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        return connection
