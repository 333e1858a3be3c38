"""What is answered before the SDK: a status, and an error of JSON-RPC."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flux2_tool.hosts.mcp_http.exchange import Send
from flux2_tool.hosts.worker.json_rpc import INVALID_REQUEST


class RefusedError(Exception):
    """A request is not passed on to the SDK; the message says why."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        code: int = INVALID_REQUEST,
        request_id: str | int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.request_id = status, code, request_id
        # What is still coming of a large body is not read.
        self.headers = {**(headers or {}), **({"connection": "close"} if status in (408, 413, 503) else {})}


async def refuse(send: Send, refusal: RefusedError) -> None:
    """Answer a request that was refused."""
    error = {"code": refusal.code, "message": str(refusal)}
    body = {"jsonrpc": "2.0", "id": refusal.request_id, "error": error}
    await respond(send, refusal.status, body, refusal.headers)


async def respond(send: Send, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
    """Answer with JSON."""
    data = json.dumps(body).encode("ascii")
    all_headers = {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in all_headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": data})
