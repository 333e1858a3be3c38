"""The ids of a session's running requests: the SDK finds the stream of an answer by the request's id.

Two requests with one id would get each other's answers, and one of them none. An id is free again when its request is
answered; where the client has left before, when the SDK has done with it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from flux2_tool.hosts.mcp_requests import id_key
from flux2_tool.hosts.worker.json_rpc import RequestId

# The last bytes of an answer may be with the client before its request has ended here.
FREE_WITHIN_S: Final = 1.0


class RunningIds:
    """The ids in use of one session."""

    def __init__(self) -> None:
        self._in_use: dict[RequestId, asyncio.Event] = {}

    async def take(self, request_id: RequestId) -> bool:
        """Return whether an id is free, or soon was, and is now in use."""
        key = id_key(request_id)
        try:
            async with asyncio.timeout(FREE_WITHIN_S):
                while (freed := self._in_use.get(key)) is not None:
                    await freed.wait()
        except TimeoutError:
            return False
        self._in_use[key] = asyncio.Event()
        return True

    def release(self, request_id: RequestId, *, after: asyncio.Task[Any] | None = None) -> None:
        """Free an id that was taken; not before a task has ended that may still answer."""
        if after is not None and not after.done():
            after.add_done_callback(lambda _done: self.release(request_id))
            return
        self._in_use.pop(id_key(request_id)).set()
