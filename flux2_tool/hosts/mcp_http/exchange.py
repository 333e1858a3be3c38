"""One request over HTTP from its first byte to the last of its answer: is the client still there, has it the answer?

A result counts as delivered once its answer is written and the client's machine has acknowledged it. Of a connection
that broke before, nothing was delivered: an equal call gets the same image.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import struct
import termios
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Any, Final, TypeAlias

from flux2_tool.hosts.mcp_requests import Delivery, ToolRequest

logger = logging.getLogger(__name__)

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

# A client that takes nothing for so long is gone.
LONGEST_UNREAD_S: Final = 60.0
# How long the last bytes of an answer may be under way.
ACKNOWLEDGED_WITHIN_S: Final = 5.0
STREAM_ENDS_WITHIN_S: Final = 1.0
_LOOK_EVERY_S: Final = 0.005
_GONE: Final[Message] = {"type": "http.disconnect"}


class SentAnswers:
    """Which tasks' results are on their way to clients; the `Answers` of the HTTP server.

    Args:
        delivery: Takes what became of them.
    """

    def __init__(self) -> None:
        self.delivery: Delivery | None = None
        self._under_way: Counter[str] = Counter()

    def expect(self, request: ToolRequest, task_ids: Collection[str]) -> None:
        """Remember that the answer to a request will bring the results of tasks."""
        if request.exchange is not None:
            request.exchange.expect(task_ids)

    def take(self) -> Collection[str]:
        """Return nothing: each exchange tells of its own."""
        return ()

    async def take_within(self, _timeout_s: float) -> Collection[str]:
        """As `take`."""
        return ()

    def begin(self, task_id: str) -> None:
        """Note that one more answer brings the result of a task."""
        self._under_way[task_id] += 1

    def end(self, task_ids: Collection[str], *, is_received: bool) -> None:
        """Note what became of an answer. A result is lost when no other answer brings it either."""
        self._under_way.subtract(task_ids)
        lost = [task_id for task_id in task_ids if self._under_way[task_id] <= 0]
        for task_id in lost:
            del self._under_way[task_id]
        if self.delivery is None or not task_ids:
            return
        if is_received:
            self.delivery.received(task_ids)
        else:
            self.delivery.lost(lost)


class Exchange:
    """One request and its answer; an `HttpExchange`.

    Args:
        receive: The server's, of ASGI.
        send: The same.
        body: The request's body, which was read already.
        answers: Takes the tasks that the answer brings.
        name: Returns the conversation's name for that of the client.
        transport: The connection, if the server tells.
        until: The request counts as left when this is set, if it is given; for streams that have no end of their own.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        *,
        body: bytes,
        answers: SentAnswers,
        name: Callable[[str], str],
        transport: asyncio.Transport | None,
        until: asyncio.Event | None = None,
    ) -> None:
        self._receive, self._send = receive, send
        self._body: bytes | None = body
        self._answers = answers
        self._name = name
        self._transport = transport
        self._until = until
        self._task_ids: set[str] = set()
        self._on_gone: list[Callable[[], object]] = []
        self._has_begun = False
        self._is_over = False
        self.arguments: Mapping[str, Any] | None = None
        self.answering: asyncio.Task[Any] | None = None
        self.is_sent = False
        self.is_gone = False
        self.is_cancelled = False

    # ---- for the handlers --------------------------------------------------------------------------------------------

    def conversation(self, client: str) -> str:
        """Return the name of the request's conversation."""
        return self._name(client)

    def answered_by(self, task: asyncio.Task[Any] | None) -> None:
        """Remember the task that answers the request."""
        self.answering = task

    def expect(self, task_ids: Collection[str]) -> None:
        """Remember that the answer will bring the results of tasks."""
        added = set(task_ids) - self._task_ids
        for task_id in added:
            self._answers.begin(task_id)
        if self._is_over:
            self._answers.end(added, is_received=False)
        else:
            self._task_ids |= added

    def on_gone(self, callback: Callable[[], object]) -> None:
        """Call back once when the client has closed the connection before it had the answer."""
        if self.is_gone:
            callback()
        else:
            self._on_gone.append(callback)

    # ---- ASGI --------------------------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """Return the body, then the end of the connection when that comes."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        message = await (self._receive() if self._until is None else _first(self._receive, self._until))
        if message["type"] == "http.disconnect":
            self._leave()
        return message

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on; a client that does not take it is cut off."""
        self._has_begun = True
        try:
            async with asyncio.timeout(LONGEST_UNREAD_S):
                await self._send(message)
        except TimeoutError:
            logger.warning("a client did not take its answer for %.0f s", LONGEST_UNREAD_S)
            if self._transport is not None:
                self._transport.abort()
            self._leave()
            return
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.is_sent = True

    def cancelled(self) -> None:
        """Note that the client has cancelled the request, on another connection."""
        self.is_cancelled = True

    async def end(self) -> None:
        """Note that nothing more is sent, and tell what became of the answer."""
        self._is_over = True
        if not self.is_sent:
            self._leave()
            if self._has_begun and self._until is not None and self._until.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STREAM_ENDS_WITHIN_S):
                        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        # What is sent to a client that has cancelled its request is most often no result.
        is_received = self.is_sent and not (self.is_gone or self.is_cancelled)
        if is_received and self._task_ids and self._transport is not None:
            is_received = await acknowledged(self._transport, within_s=ACKNOWLEDGED_WITHIN_S)
        self._answers.end(self._task_ids, is_received=is_received)

    def _leave(self) -> None:
        if self.is_sent or self.is_gone:
            return
        self.is_gone = True
        for callback in self._on_gone:
            callback()


async def acknowledged(transport: asyncio.Transport, *, within_s: float) -> bool:
    """Return whether the peer's machine acknowledges all that was written, in time.

    A connection that has been closed since then has nothing more to tell.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while not transport.is_closing():
        if not transport.get_write_buffer_size() and not _unacknowledged_bytes(transport):
            return True
        if loop.time() > until_s:
            return False
        await asyncio.sleep(_LOOK_EVERY_S)
    return not transport.get_write_buffer_size()


def _unacknowledged_bytes(transport: asyncio.Transport) -> int:
    try:
        found: int = struct.unpack(
            "i", fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0" * 4)
        )[0]
    except (OSError, ValueError, AttributeError):  # closed meanwhile, or a system that cannot say
        return 0
    return found


async def _first(receive: Receive, until: asyncio.Event) -> Message:
    """Return the next message, or the end of the connection once an event is set."""
    message, stopped = asyncio.ensure_future(receive()), asyncio.ensure_future(until.wait())
    try:
        await asyncio.wait((message, stopped), return_when=asyncio.FIRST_COMPLETED)
        return message.result() if message.done() else _GONE
    finally:
        message.cancel()
        stopped.cancel()
