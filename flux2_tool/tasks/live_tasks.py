"""The image tasks that one process holds in memory: those of its records, and lookups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from flux2_tool.journal import RecordHandle
from flux2_tool.tasks.task import ImageTask

MAX_RECORDED: Final = 2000

K = TypeVar("K")


class LiveTasks:
    """A cache of image tasks; only ended ones are dropped."""

    def __init__(self) -> None:
        self._recorded: dict[str, ImageTask] = {}
        # No call looks at thousands of tasks of others. What another process has moved, the journal knows.
        self._places: dict[str, tuple[str | None, str]] = {}
        self._of_session: defaultdict[str | None, dict[str, None]] = defaultdict(dict)
        self._of_key: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._lookups: set[ImageTask] = set()

    def __iter__(self) -> Iterator[ImageTask]:
        return iter([*self._recorded.values(), *self._lookups])

    @property
    def record_handles(self) -> list[RecordHandle]:
        """The records of the cached tasks, oldest first."""
        return [task.record_handle for task in self._recorded.values() if task.record_handle is not None]

    def not_given_of(self, session: str) -> list[str]:
        """Return the ids of a session's records whose images no call was given, as far as is known here."""
        ids = self._of_session.get(session, ())
        found = ((record_id, self._recorded[record_id].record) for record_id in ids)
        return [record_id for record_id, record in found if record is not None and record.delivered_at is None]

    def of_sessions(self, sessions: Iterable[str | None], *, or_records: Iterable[str]) -> list[ImageTask]:
        """Return the image tasks of some sessions' records, and those of some other records."""
        of_sessions = (record_id for session in sessions for record_id in self._of_session.get(session, ()))
        ids = dict.fromkeys([*or_records, *of_sessions])
        return [self._recorded[record_id] for record_id in ids if record_id in self._recorded]

    def of_equal(self, dedup_key: str) -> list[RecordHandle]:
        """Return the records of equal requests, oldest first."""
        handles = (self._recorded[record_id].record_handle for record_id in self._of_key.get(dedup_key, ()))
        return [handle for handle in handles if handle is not None]

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

    def notify_finished(self, task_id: str) -> None:
        """Poll a task at once: RunAPI's webhook says that it has ended."""
        for image_task in self:
            if image_task.task_id == task_id and not image_task.is_over:
                image_task.waiters.notify_finished()

    def free_turn(self, record_id: str) -> None:
        """Have a request that is queued for a create slot look at once."""
        image_task = self._recorded.get(record_id)
        if image_task is not None and image_task.record_handle is not None:
            image_task.record_handle.turn_freed.set()

    def add(self, record_id: str, image_task: ImageTask) -> None:
        """Store the image task of a record."""
        self.discard(record_id)
        self._recorded[record_id] = image_task
        self.note_moved(record_id)
        if len(self._recorded) > MAX_RECORDED:
            for over in [key for key, task in self._recorded.items() if task.is_over][: MAX_RECORDED // 4]:
                self.discard(over)

    def add_lookup(self, image_task: ImageTask) -> None:
        """Store the image task of a task that was created elsewhere, until it ends."""
        self._lookups = {known for known in self._lookups if not known.is_over}
        self._lookups.add(image_task)

    def discard(self, record_id: str) -> None:
        """Drop the image task of a record, if there is one."""
        self._recorded.pop(record_id, None)
        self._forget_place(record_id)

    def note_moved(self, record_id: str) -> None:
        """Look again whose a record is, after an equal request of another conversation has joined it."""
        self._forget_place(record_id)
        image_task = self._recorded.get(record_id)
        if image_task is not None and image_task.record is not None:
            session, key = place = image_task.record.session, image_task.record.dedup_key
            self._places[record_id] = place
            self._of_session[session][record_id] = self._of_key[key][record_id] = None

    def _forget_place(self, record_id: str) -> None:
        if record_id in self._places:
            session, key = self._places.pop(record_id)
            _remove(self._of_session, session, record_id)
            _remove(self._of_key, key, record_id)


def _remove(index: dict[K, dict[str, None]], key: K, record_id: str) -> None:
    index[key].pop(record_id)
    if not index[key]:
        del index[key]
