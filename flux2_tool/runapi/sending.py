"""Whether a request may have left: certainly not while it waits for a connection, or this is being made.

Followed by httpcore's trace of a request, https://www.encode.io/httpcore/extensions/#trace, and by what the connection
pool adds to it. Where nothing is told, the request may have left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

UNSENT: Final = "connection_pool.unsent"
"""Told when a request has no connection yet, or gets another one because nothing was written to the first."""


class Sending:
    """The way of one request, as an httpx extension "trace"."""

    def __init__(self) -> None:
        self._is_connecting = False
        self._has_begun = False

    @property
    def is_unsent(self) -> bool:
        """Whether it is known that nothing of the request has been written to any connection."""
        return self._is_connecting and not self._has_begun

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Take note of an event; called by httpcore."""
        if event == UNSENT:
            self._is_connecting, self._has_begun = True, False
        elif event.endswith(".connect_tcp.started"):
            self._is_connecting = True
        # A proxy is sent a request of its own first, for the connection.
        elif event.endswith(".send_request_headers.started") and info["request"].method != b"CONNECT":
            self._has_begun = True
