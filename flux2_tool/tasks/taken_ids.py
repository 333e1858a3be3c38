"""Which request has which task id: in this process it is known at once, and to the journal only once it is written."""

from __future__ import annotations

from weakref import WeakValueDictionary

from flux2_tool.journal import RecordHandle


class TakenIds:
    """The task ids that requests of this process were accepted with, for as long as these are in memory."""

    def __init__(self) -> None:
        self._holders: WeakValueDictionary[tuple[str, str], RecordHandle] = WeakValueDictionary()

    async def take(self, task_id: str, handle: RecordHandle) -> bool:
        """Give a request a task id; return False, and change nothing, if another request has it."""
        if await handle.is_task_of_another(task_id):
            return False
        # Answers that arrive together are all looked up before any is written; of them the first one takes the id.
        holder = self._holders.setdefault((handle.record.base_url, task_id), handle)
        # A request that is resumed has another handle of the same record.
        return holder.record.record_id == handle.record.record_id
