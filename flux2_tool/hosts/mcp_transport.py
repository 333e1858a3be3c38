"""MCP's stdio transport: one JSON-RPC message per line, and an answer to each that is no notification or response.

The SDK's own transport gives no answer to a line that its parser refuses (half a character, 200 levels, numbers of
thousands of digits), so that the host waits in vain. Here each line is read as far as it can be, so that the answer has
the request's id; what the tools cannot take is then refused where arguments are validated. Source: the MCP
specification, 2025-11-25, basic/transports; https://www.jsonrpc.org/specification.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from flux2_tool.hosts.mcp_answers import ReadAnswers
from flux2_tool.hosts.mcp_params import check_params, without_null_meta
from flux2_tool.hosts.mcp_requests import cancelled_by, id_key
from flux2_tool.hosts.mcp_sdk import sdk
from flux2_tool.hosts.pipes import LineReader, LineWriter
from flux2_tool.hosts.worker.json_rpc import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    ProtocolFaultError,
    RequestId,
    line_of,
    loaded,
    outer_id,
    request_id_of,
)

logger = logging.getLogger(__name__)

# Eight pictures as data: URLs fit; more is a peer that sends no line ends.
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
MAX_LEVELS: Final = 200
ID_IN_USE: Final = "the id is in use by a running request"
LAST_ANSWERS_S: Final = 1.5
_BOM: Final = b"\xef\xbb\xbf"
_NO_MESSAGE: Final = (
    'a message is a JSON object with "jsonrpc": "2.0", a string "method" and an "id" of text or integer'
)

# Of the SDK's envelopes, whose type depends on its version.
Streams: TypeAlias = "tuple[MemoryObjectReceiveStream[Any], MemoryObjectSendStream[Any]]"


class Lines:
    """The messages of one connection.

    Args:
        source: The peer's lines.
        output: Takes ours; never blocks.
        answers: Takes the ids of requests whose answer was handed to the output, or that were cancelled before.
    """

    def __init__(self, source: LineReader, output: LineWriter, answers: ReadAnswers) -> None:
        self._source = source
        self._output = output
        self._answers = answers
        self._sdk = sdk()
        self._open_ids: dict[RequestId, RequestId] = {}  # by what the SDK knows them by
        self._all_answered = anyio.Event()  # replaced each time it is set

    async def receive(self, to_server: MemoryObjectSendStream[Any]) -> None:
        """Pass the peer's messages on until its input ends; answer what is no message."""
        async with to_server:
            while (line := await self._source.next()) is not None:
                message = self._message(line)
                if message is not None:
                    await to_server.send(message)
            # The server cancels what runs when its input ends; a file of requests may still be read by somebody.
            if self._open_ids:
                with anyio.move_on_after(LAST_ANSWERS_S):
                    await self._all_answered.wait()

    async def send(self, from_server: MemoryObjectReceiveStream[Any]) -> None:
        """Write the server's messages."""
        async with from_server:
            async for envelope in from_server:
                message = self._sdk.sent(envelope)
                answered: RequestId | None = message.id if self._sdk.is_answer(message) else None
                if answered is not None:
                    if id_key(answered) not in self._open_ids:
                        continue  # it was cancelled; version 1 of the SDK answers it all the same
                    del self._open_ids[id_key(answered)]
                try:
                    line = message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
                except ValueError:
                    logger.exception("a message could not be written")
                    self._refuse(getattr(message, "id", None), INTERNAL_ERROR, "the answer cannot be written as JSON")
                    continue
                if not self._sdk.is_answer(message) and not self._sdk.is_request(message):
                    self._output.put_progress(line)
                    continue
                self._output.put(line)
                if answered is not None:
                    self._answers.written(answered)
                if not self._open_ids:
                    self._all_answered.set()
                    self._all_answered = anyio.Event()

    def _message(self, line: bytes) -> Any:
        """Return a line's message in the SDK's envelope, None for one that was answered here."""
        request_id: RequestId | None = None
        is_answered = True
        try:
            decoded = without_null_meta(_decoded(line))
            request_id = request_id_of(decoded)
            is_answered = "id" in decoded or not isinstance(decoded.get("method"), str)
            message = self._validated(decoded)
            if is_answered and not self._sdk.answers(decoded.get("method", "ping")):
                raise ProtocolFaultError(METHOD_NOT_FOUND, "Method not found")
            if "method" in decoded:
                self._note_id(request_id, decoded, is_request=is_answered)
        except ProtocolFaultError as exc:
            if is_answered:
                named = request_id if exc.request_id is None else exc.request_id
                # Under the id of a running request this would be taken for that one's answer.
                is_running = named is not None and id_key(named) in self._open_ids
                self._refuse(None if is_running else named, exc.code, str(exc))
            return None
        return message

    def _validated(self, decoded: dict[str, Any]) -> Any:
        """Return the SDK's model of a message, in its envelope.

        Raises:
            ProtocolFaultError: It is nested too deep, or no message of JSON-RPC 2.0.
        """
        if _levels(decoded) > MAX_LEVELS:
            raise _too_deep()
        try:
            return self._sdk.received(_sendable(decoded))
        except ValueError as exc:  # also pydantic's
            raise ProtocolFaultError(INVALID_REQUEST, _NO_MESSAGE) from exc

    def _note_id(self, request_id: RequestId | None, decoded: Mapping[str, Any], *, is_request: bool) -> None:
        """Remember the id of a request until it is answered or cancelled.

        Raises:
            ProtocolFaultError: The request has no usable id, or that of another, or wrong parameters.
        """
        if is_request:
            if request_id is None:
                raise ProtocolFaultError(INVALID_REQUEST, "id must be a string or a whole number")
            if id_key(request_id) in self._open_ids:
                raise ProtocolFaultError(INVALID_REQUEST, ID_IN_USE)
            check_params(decoded)
            self._open_ids[id_key(request_id)] = request_id
            self._answers.opened(request_id)
        elif (cancelled := cancelled_by(decoded)) is not None and self._open_ids.get(id_key(cancelled)) == cancelled:
            del self._open_ids[id_key(cancelled)]
            self._answers.cancelled(cancelled)

    def _refuse(self, request_id: RequestId | None, code: int, message: str) -> None:
        self._output.put(line_of({"id": request_id, "error": {"code": code, "message": message}}))


@asynccontextmanager
async def message_streams(source: LineReader, output: LineWriter, answers: ReadAnswers) -> AsyncIterator[Streams]:
    """Yield the two streams that the SDK's server runs on."""
    lines = Lines(source, output, answers)
    to_server, of_peer = anyio.create_memory_object_stream[Any](0)
    to_peer, from_server = anyio.create_memory_object_stream[Any](0)
    async with anyio.create_task_group() as group:
        group.start_soon(lines.receive, to_server)
        group.start_soon(lines.send, from_server)
        yield of_peer, to_peer


def checked_message(body: bytes) -> dict[str, Any]:
    """Return the object of a message that arrived whole; the SDK can read it.

    Raises:
        ProtocolFaultError: It is too long or too deep, no JSON or no object, or no message of JSON-RPC 2.0.
    """
    message = _decoded(body)
    if _levels(message) > MAX_LEVELS:
        raise _too_deep()
    is_answer = "method" not in message and ("result" in message or "error" in message)
    if message.get("jsonrpc") != "2.0" or not (is_answer or isinstance(message.get("method"), str)):
        raise ProtocolFaultError(INVALID_REQUEST, _NO_MESSAGE, request_id=request_id_of(message))
    return message


def as_sent(body: bytes) -> bytes:
    """Return a message's bytes for the SDK, which does not read a byte order mark."""
    return body.removeprefix(_BOM)


def readable_message(message: dict[str, Any]) -> tuple[bytes, Mapping[str, Any] | None] | None:
    """Return a checked message as JSON that the SDK can read, and the tool's arguments, which are not in it.

    Its parser refuses what validation would refuse by name: lone surrogates, and numbers that are none; it also refuses
    facts of the host's that are null. Where nothing is like that this returns None; the arguments are None where there
    are none.
    """
    sent, message = message, without_null_meta(message)
    if message is sent and _is_plain(message):
        return None
    params = message.get("params")
    arguments = params.get("arguments") if isinstance(params, dict) else None
    if isinstance(params, dict) and isinstance(arguments, dict) and message.get("method") == "tools/call":
        message = {**message, "params": {**params, "arguments": {}}}
        arguments = _sendable(arguments, is_argument=True)
    else:
        arguments = None
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "replace"), arguments


def _is_plain(message: Mapping[str, Any]) -> bool:
    try:
        json.dumps(message, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # also that of the encoding
        return False
    return True


def _too_deep() -> ProtocolFaultError:
    return ProtocolFaultError(INVALID_PARAMS, f"the message is nested too deep; at most {MAX_LEVELS} levels are read")


def _decoded(line: bytes) -> dict[str, Any]:
    """Return the object of a line; bytes that are no UTF-8 become lone surrogates, which validation refuses by name.

    Raises:
        ProtocolFaultError: It is too long, no JSON or no object, or has an id that no answer can bring back.
    """
    if len(line.rstrip(b"\r\n")) > MAX_LINE_BYTES:
        too_long = f"a message may be at most {MAX_LINE_BYTES} bytes long"
        raise ProtocolFaultError(INVALID_REQUEST, too_long, request_id=outer_id(line))
    text = line.removeprefix(_BOM).decode("utf-8", "surrogateescape")
    found = loaded(text)
    if not isinstance(found, dict):
        raise ProtocolFaultError(INVALID_REQUEST, "a message is one JSON object; batches are not part of MCP")
    request_id = found.get("id")
    if isinstance(request_id, str) and not _is_text(request_id):
        # The SDK cannot carry it, and an answer under another id is none.
        raise ProtocolFaultError(INVALID_REQUEST, "id has half a character, a lone surrogate", request_id=request_id)
    return found


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _levels(value: Any) -> int:
    """Return how deep lists and objects are nested, without recursion."""
    levels, layer = 0, [value]
    while layer := [one for one in layer if isinstance(one, dict | list)]:
        levels += 1
        layer = [inner for one in layer for inner in (one.values() if isinstance(one, dict) else one)]
    return levels


def _sendable(value: Any, *, is_argument: bool = False) -> Any:
    """Return a message without lone surrogates, but for the values of a tool's arguments, which are validated later."""
    if isinstance(value, str):
        return value if is_argument else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_sendable(one, is_argument=is_argument) for one in value]
    if isinstance(value, dict):
        return {
            _sendable(name): _sendable(one, is_argument=is_argument or name == "arguments")
            for name, one in value.items()
        }
    return value
