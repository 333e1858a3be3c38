"""The ids of a session's running requests: the SDK finds the stream of an answer by the request's id.

Two requests with one id would get each other's answers, and one of them none. An id is free again when its request is
answered; where the client has left before, when the SDK has done with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from flux2_tool.hosts.mcp_requests import id_key
from flux2_tool.hosts.worker.json_rpc import RequestId

# The last bytes of an answer may be with the client before its request has ended here.
FREE_WITHIN_S: Final = 1.0


class _InUse(NamedTuple):
    released: asyncio.Event
    on_cancelled: Callable[[], object]


class RunningIds:
    """The ids in use of one session."""

    def __init__(self) -> None:
        self._in_use: dict[RequestId, _InUse] = {}

    async def take(self, request_id: RequestId, on_cancelled: Callable[[], object] = lambda: None) -> bool:
        """Return whether an id is free, or soon was, and is now in use.

        Args:
            request_id: The id.
            on_cancelled: Called when the client cancels its request.
        """
        key = id_key(request_id)
        try:
            async with asyncio.timeout(FREE_WITHIN_S):
                while (running := self._in_use.get(key)) is not None:
                    await running.released.wait()
        except TimeoutError:
            return False
        self._in_use[key] = _InUse(asyncio.Event(), on_cancelled)
        return True

    def cancel(self, request_id: RequestId) -> None:
        """Note that the client has cancelled the request with an id, if one is running."""
        if (running := self._in_use.get(id_key(request_id))) is not None:
            running.on_cancelled()

    def release(self, request_id: RequestId, *, after: asyncio.Task[Any] | None = None) -> None:
        """Free an id that was taken; not before a task has ended that may still answer."""
        if after is not None and not after.done():
            after.add_done_callback(lambda _done: self.release(request_id))
            return
        self._in_use.pop(id_key(request_id)).released.set()
