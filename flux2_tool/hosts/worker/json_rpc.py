"""JSON-RPC 2.0 as the worker uses it: one message per line; ids are strings or integers.

Source: https://www.jsonrpc.org/specification.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from flux2_tool.hosts.pipes import END_BYTES

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

RequestId = str | int
_Pairs = list[tuple[str, Any]]

# What Python turns into an integer and back without complaint.
_MAX_DIGITS: Final = 1000
_ID: Final = rb'"id"\s*:\s*(\d{1,15}|"[\w.:-]{1,100}")\s*'
_ID_FIRST: Final = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID + b",")
# What the last brace of a message closes is the message.
_ID_LAST: Final = re.compile(rb",\s*" + _ID + rb"\}\s*\Z")


class ProtocolFaultError(Exception):
    """A message breaks the protocol; the response is a JSON-RPC error, with the request's id if that is not in use.

    Attributes:
        request_id: The id of a request that could not be read as a whole.
    """

    def __init__(self, code: int, message: str, *, request_id: RequestId | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id


def loaded(text: str | bytes) -> Any:
    """Return the value of JSON text; a number of very many digits as a float, which may be infinite.

    Raises:
        ProtocolFaultError: It is not JSON, or an object in it has the same key twice, of which no reader can tell which
            is meant; then with the id. Or it is nested so deep that it cannot be read; then with its `outer_id`.
    """
    repeated: list[_Pairs] = []
    outermost: _Pairs = []

    def with_repeated_noted(pairs: _Pairs) -> dict[str, Any]:
        nonlocal outermost
        outermost, found = pairs, dict(pairs)
        if len(found) != len(pairs):
            repeated.append(pairs)
        return found

    try:
        value = json.loads(text, parse_int=_number, object_pairs_hook=with_repeated_noted)
    except RecursionError as exc:
        data = text.encode("utf-8", "replace") if isinstance(text, str) else text
        message = "the message is nested too deep"
        raise ProtocolFaultError(PARSE_ERROR, message, request_id=outer_id(data)) from exc
    except ValueError as exc:
        raise ProtocolFaultError(PARSE_ERROR, "the line is not JSON") from exc
    if repeated:
        raise _repeated_key(repeated[0], outermost if isinstance(value, dict) else [])
    return value


def outer_id(message: bytes) -> RequestId | None:
    """Return the id of a message that is not read as a whole, if it comes first or last, as most peers have it."""
    found = [_ID_FIRST.match(message), _ID_LAST.search(message[-END_BYTES:])]
    ids = [json.loads(one[1]) for one in found if one is not None]
    return ids[0] if len(ids) == 1 else None


def _repeated_key(pairs: _Pairs, outermost: _Pairs) -> ProtocolFaultError:
    """Return the fault of a message with two equal keys, with its id if that is there once."""
    left = dict(pairs)
    # The first name that is there already when its turn comes.
    repeated = next(name for name, _ in pairs if left.pop(name, left) is left)
    ids = [value for name, value in outermost if name == "id"]
    request_id = request_id_of({"id": ids[0]}) if len(ids) == 1 else None
    message = f"the key {json.dumps(repeated[:60])} is there twice in one object; give each key once"
    return ProtocolFaultError(INVALID_REQUEST, message, request_id=request_id)


class _EndlessNumber(float):
    """A whole number of more digits than an integer may have here."""


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else _EndlessNumber(digits)


def decoded(line: bytes) -> dict[str, Any]:
    """Return the message of a line.

    Raises:
        ProtocolFaultError: It is not JSON, or not a JSON-RPC 2.0 message.
    """
    message = loaded(line.removeprefix(codecs.BOM_UTF8))
    if isinstance(message, dict) and isinstance(message.get("id"), _EndlessNumber):
        raise ProtocolFaultError(PARSE_ERROR, "the line is not JSON that can be read: its id is an endless number")
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
