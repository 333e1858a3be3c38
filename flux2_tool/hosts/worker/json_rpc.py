"""JSON-RPC 2.0 as the worker uses it: one message per line; ids are strings or integers.

Source: https://www.jsonrpc.org/specification.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

RequestId = str | int


class ProtocolFaultError(Exception):
    """A message breaks the protocol; the response is a JSON-RPC error, with the request's id if `names_request`."""

    def __init__(self, code: int, message: str, *, names_request: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.names_request = names_request


def decoded(line: bytes) -> dict[str, Any]:
    """Return the message of a line.

    Raises:
        ProtocolFaultError: It is not JSON, or not a JSON-RPC 2.0 message.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise ProtocolFaultError(PARSE_ERROR, "the line is not JSON") from exc
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise ProtocolFaultError(INVALID_REQUEST, 'a message is one JSON object with "jsonrpc": "2.0"')
    return message


def request_id_of(message: Mapping[str, Any]) -> RequestId | None:
    """Return the id of a message or of a notification's params, None if absent or of another type."""
    value = message.get("id")
    return value if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def line_of(message: Mapping[str, Any]) -> bytes:
    """Return a message as a line, with the protocol's version."""
    text = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=True, separators=(",", ":"))
    return text.encode("ascii") + b"\n"
