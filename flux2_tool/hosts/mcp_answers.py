"""Which results an MCP host has received: those whose answers it has taken from the pipe.

A host that opens a connection for each call closes it at once, so that a delay would never end; what it has read is
delivered. A host that crashes after it has read cannot be told from one that has done with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Protocol

from flux2_tool.hosts.mcp_requests import Delivery, ToolRequest, id_key
from flux2_tool.hosts.pipes import LineWriter
from flux2_tool.hosts.worker.json_rpc import RequestId
from flux2_tool.tasks.delivery import DELIVERY_DELAY_S


class Answers(Protocol):
    """What becomes of the answers to a server's calls.

    Attributes:
        delivery: Takes it; None before there is an engine.
    """

    delivery: Delivery | None

    def expect(self, request: ToolRequest, task_ids: Collection[str]) -> None:
        """Remember that the answer to a request will bring the results of tasks."""

    def take(self) -> Collection[str]:
        """Return the tasks whose results were received since the last time."""

    async def take_within(self, timeout_s: float) -> Collection[str]:
        """As `take`, after giving the host some time to read."""


class ReadAnswers:
    """The tasks in the answers of one connection.

    Args:
        output: Where the answers are written.
    """

    def __init__(self, output: LineWriter) -> None:
        self.delivery: Delivery | None = None
        self._output = output
        self._open: set[RequestId] = set()  # by their keys
        self._begun: dict[RequestId, Collection[str]] = {}
        self._written: set[str] = set()
        self._looking: asyncio.Task[None] | None = None

    def opened(self, request_id: RequestId) -> None:
        """Note that the host waits for the answer to a request."""
        self._open.add(id_key(request_id))

    def expect(self, request: ToolRequest, task_ids: Collection[str]) -> None:
        """Remember that the answer to a request will bring the results of tasks."""
        if id_key(request.request_id) not in self._open:
            self._tell_lost(task_ids)
        elif task_ids:
            self._begun[id_key(request.request_id)] = task_ids

    def written(self, request_id: RequestId) -> None:
        """Note that the answer to a request was handed to the output, and tell of it once it is read."""
        self._open.discard(id_key(request_id))
        self._written.update(self._begun.pop(id_key(request_id), ()))
        if self._written and (self._looking is None or self._looking.done()):
            self._looking = asyncio.get_running_loop().create_task(self._look())

    def cancelled(self, request_id: RequestId) -> None:
        """Note that the host has cancelled a request that has no answer yet; it gets none.

        The SDK ends the call. Version 1 of it ends with the server when a call ends by itself at that moment.
        """
        self._open.discard(id_key(request_id))
        self._tell_lost(self._begun.pop(id_key(request_id), ()))

    def take(self) -> Collection[str]:
        """Return the tasks whose results the host has read since the last time; none while anything is unread."""
        if not self._written or not self._output.is_read:
            return ()
        found, self._written = self._written, set()
        return found

    async def take_within(self, timeout_s: float) -> Collection[str]:
        """As `take`, after giving the host some time to read."""
        if self._written:
            await asyncio.to_thread(self._output.wait_until_read, timeout_s)
        return self.take()

    def _tell_lost(self, task_ids: Collection[str]) -> None:
        if task_ids and self.delivery is not None:
            self.delivery.lost(task_ids)

    async def _look(self) -> None:
        while self._written and not self._output.has_failed:
            await asyncio.sleep(DELIVERY_DELAY_S)
            task_ids = self.take()
            if task_ids and self.delivery is not None:
                self.delivery.received(task_ids)
