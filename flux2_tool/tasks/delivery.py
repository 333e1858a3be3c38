"""Mark images as delivered, DELIVERY_DELAY_S after their result was returned.

A process that dies in between, or whose peer has already closed, must not leave a paid image marked as delivered: an
equal call gets the image again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final, Literal

from flux2_tool._clock import Clock
from flux2_tool.context import CallContext
from flux2_tool.journal import RecordHandle
from flux2_tool.tasks.task import ImageTask

DELIVERY_DELAY_S: Final = 2.0

Receipt = Literal["assumed", "read", "told"]
"""What shows that a caller has a result: some time, or a later call of its own; the host, which tells what was read,
or a later call; only the host, which tells of each result."""


class DeliveryLog:
    """The returned results of one process that are not yet marked as delivered.

    Args:
        clock: Measures.
        is_peer_in_process: Whether the caller runs in this process, so that no result can be lost in transit.
        receipt: What shows that a result was received.
    """

    def __init__(self, clock: Clock, *, is_peer_in_process: bool, receipt: Receipt = "assumed") -> None:
        self._clock = clock
        self._receipt = receipt
        self._is_peer_in_process = is_peer_in_process
        self._pending: dict[tuple[str, str | None], RecordHandle] = {}
        self._returning: list[list[ImageTask]] = []
        self._confirmation: asyncio.Task[None] | None = None

    @contextmanager
    def returning(self, caller: CallContext) -> Iterator[list[ImageTask]]:
        """Yield a list for the tasks whose images a call is about to return; they are returned when the block ends.

        A call that is cancelled before that returns nothing, so an equal one gets the images.
        """
        image_tasks: list[ImageTask] = []
        self._returning.append(image_tasks)
        try:
            yield image_tasks
        finally:
            self._returning = [one for one in self._returning if one is not image_tasks]
        for image_task in image_tasks:
            self._add(image_task.record_handle, caller)

    def is_pending(self, record_id: str) -> bool:
        """Return whether a record's images were returned, or are about to be, and are not yet marked as delivered."""
        handles = (one.record_handle for image_tasks in self._returning for one in image_tasks)
        if any(handle is not None and handle.record.record_id == record_id for handle in handles):
            return True
        return any(pending_id == record_id for pending_id, _ in self._pending)

    def confirm(
        self, *, dedup_key: str | None = None, session: str | None = None, task_ids: Collection[str] | None = None
    ) -> list[RecordHandle]:
        """Mark images as delivered now: all, or those that a later call shows were received; return their records.

        Args:
            dedup_key: Only those of equal requests.
            session: Only those of this session.
            task_ids: Only those of these tasks.
        """
        if self._receipt == "told" and task_ids is None:
            return []
        confirmed = []
        for (record_id, elsewhere), record_handle in list(self._pending.items()):
            record = record_handle.record
            is_meant = task_ids is None or record.task_id in task_ids
            if is_meant and dedup_key in (None, record.dedup_key) and session in (None, elsewhere or record.session):
                del self._pending[record_id, elsewhere]
                record_handle.delivered(elsewhere=elsewhere)
                confirmed.append(record_handle)
        return confirmed

    def drop(self, task_ids: Collection[str]) -> None:
        """Forget returned images of tasks whose answer was lost: an equal call gets them again."""
        for key in [key for key, handle in self._pending.items() if handle.record.task_id in task_ids]:
            del self._pending[key]

    async def aclose(self, *, delivered: bool) -> None:
        """Stop waiting; the pending images are marked by the next `confirm`, or dropped if not `delivered`."""
        if not delivered:
            self._pending.clear()
        if self._confirmation is not None:
            self._confirmation.cancel()
            await asyncio.gather(self._confirmation, return_exceptions=True)

    async def _confirm_later(self) -> None:
        try:
            while self._pending:
                await self._clock.sleep(DELIVERY_DELAY_S)
                self.confirm()
        finally:
            # A script that does not close the tool has received them when its event loop ends normally.
            if self._is_peer_in_process:
                for record_handle in self.confirm():
                    await record_handle.settled()

    def _add(self, record_handle: RecordHandle | None, caller: CallContext) -> None:
        """Mark a record's images as delivered after DELIVERY_DELAY_S."""
        if record_handle is None or record_handle.record.session not in (None, caller.session, *caller.descendants):
            return
        record = record_handle.record
        elsewhere = None if record.session in (None, caller.session) else caller.session
        self._pending[record.record_id, elsewhere] = record_handle
        is_free = self._confirmation is None or self._confirmation.done()
        if self._receipt == "assumed" and is_free:
            self._confirmation = asyncio.get_running_loop().create_task(self._confirm_later())
