"""The image tasks that one process holds in memory: those of its records, and lookups."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from flux2_tool.journal import RecordHandle
from flux2_tool.tasks.task import ImageTask

MAX_RECORDED: Final = 2000


class LiveTasks:
    """A cache of image tasks; only ended ones are dropped."""

    def __init__(self) -> None:
        self._recorded: dict[str, ImageTask] = {}
        self._lookups: set[ImageTask] = set()

    def __iter__(self) -> Iterator[ImageTask]:
        return iter([*self._recorded.values(), *self._lookups])

    @property
    def record_handles(self) -> list[RecordHandle]:
        """The records of the cached tasks, oldest first."""
        return [task.record_handle for task in self._recorded.values() if task.record_handle is not None]

    def of_sessions(self, sessions: frozenset[str | None], *, or_records: Collection[str]) -> list[ImageTask]:
        """Return the image tasks whose record is of some sessions, as last read, or one of some others."""
        found = []
        for record_id, image_task in self._recorded.items():  # thousands, for every call
            handle = image_task.record_handle
            if handle is not None and (handle.record.session in sessions or record_id in or_records):
                found.append(image_task)
        return found

    def of_record(self, record_id: str) -> ImageTask | None:
        """Return the image task of a record, unless it ended without an image, to be resumed by a new one."""
        image_task = self._recorded.get(record_id)
        return None if image_task is None or image_task.error is not None else image_task

    def of_task_id(self, task_id: str, *, base_url: str, fingerprint: str) -> ImageTask | None:
        """Return an account's image task by its task id, unless it ended without an image."""
        for image_task in self:
            is_same_account = (image_task.client.base_url, image_task.account) == (base_url, fingerprint)
            if image_task.task_id == task_id and is_same_account and image_task.error is None:
                return image_task
        return None

    def free_turn(self, record_id: str) -> None:
        """Have a request that is queued for a create slot look at once."""
        image_task = self._recorded.get(record_id)
        if image_task is not None and image_task.record_handle is not None:
            image_task.record_handle.turn_freed.set()

    def add(self, record_id: str, image_task: ImageTask) -> None:
        """Store the image task of a record."""
        self._recorded[record_id] = image_task
        if len(self._recorded) > MAX_RECORDED:
            for over in [key for key, task in self._recorded.items() if task.is_over][: MAX_RECORDED // 4]:
                del self._recorded[over]

    def add_lookup(self, image_task: ImageTask) -> None:
        """Store the image task of a task that was created elsewhere, until it ends."""
        self._lookups = {known for known in self._lookups if not known.is_over}
        self._lookups.add(image_task)

    def discard(self, record_id: str) -> None:
        """Drop the image task of a record, if there is one."""
        self._recorded.pop(record_id, None)
