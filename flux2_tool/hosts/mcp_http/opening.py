"""The answer that opens a session: the client knows the session with its head, and may use it before it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from flux2_tool.hosts.mcp_http.exchange import Message, Send

SESSION_HEADER: Final = "mcp-session-id"


class Opening:
    """Looks for a new session in the answer to `initialize`, and for what became of it.

    Args:
        send: Passes the answer on.
        on_session: Called with the session's id before the client can know it.

    Attributes:
        session_id: The session that the SDK has begun; it also begins one for a request that it then refuses.
    """

    def __init__(self, send: Send, on_session: Callable[[str], object]) -> None:
        self._send = send
        self._on_session = on_session
        self._body = bytearray()
        self.session_id: str | None = None

    async def send(self, message: Message) -> None:
        """Note a part of the answer, and pass it on."""
        if message["type"] == "http.response.start":
            found = [value for name, value in message.get("headers", ()) if name.lower() == SESSION_HEADER.encode()]
            self.session_id = found[0].decode("latin-1") if found else None
            if self.session_id is not None and message["status"] == 200:
                self._on_session(self.session_id)
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
        await self._send(message)

    @property
    def has_failed(self) -> bool:
        """Whether there was no result, so that the client has no session."""
        return not any(_is_result(line.removeprefix(b"data:")) for line in bytes(self._body).splitlines())


def _is_result(line: bytes) -> bool:
    """Return whether a line, of JSON or of a stream of events, is a response with a result."""
    try:
        message = json.loads(line)
    except ValueError:
        return False
    return isinstance(message, dict) and "result" in message
