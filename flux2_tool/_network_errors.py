"""Why a connection cannot be made: what the transport raises beside httpx's own errors, for whoever sends requests."""

from __future__ import annotations

import httpx


class UnusableConnectionError(httpx.ConnectError):
    """Nothing was sent, and another attempt would fail as well: the machine's set-up, or the certificate, is at fault.

    Args:
        message: What is wrong.
        hint: What to do.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
