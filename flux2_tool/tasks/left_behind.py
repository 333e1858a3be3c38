"""Images that a conversation asked for and was not given: its call was stopped, or its wait or process ended first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from flux2_tool.journal import Record, RecordState
from flux2_tool.tasks.status import title_of
from flux2_tool.tasks.task import ImageTask


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftImage:
    """An accepted request whose image no call was given.

    Attributes:
        title: The beginning of the prompt, where it is known.
        set_id: What it shares with the other pictures of its call; None for a single one.
    """

    record_id: str
    task_id: str
    state: RecordState
    title: str | None
    set_id: str | None = None


def left_behind(
    image_tasks: Iterable[ImageTask],
    records: Sequence[Record],
    sessions: frozenset[str | None],
    *,
    is_returned: Callable[[str], bool],
) -> list[LeftImage]:
    """Return the accepted images of some sessions that no call waits for and that they were not given or told of.

    Args:
        image_tasks: Those of this process that may be left behind, which say more than its records.
        records: Those of the journal that may be left behind.
        sessions: A conversation, and those that it has spawned.
        is_returned: Whether a record's image has been returned a moment ago, by the record's id.
    """
    live = {task.record.record_id: task for task in image_tasks if task.record is not None}
    ids = [*(record.record_id for record in records), *live]
    known = {record.record_id: record for record in records}
    found = []
    for record_id in dict.fromkeys(ids):
        image_task = live.get(record_id)
        left = _left(known[record_id]) if image_task is None else _left_alive(image_task, sessions)
        if left is not None and not is_returned(record_id):
            found.append(left)
    return found


def _left(record: Record) -> LeftImage | None:
    if record.task_id is None:
        return None
    return LeftImage(
        record_id=record.record_id,
        task_id=record.task_id,
        state=record.state,
        title=title_of(record.body),
        set_id=record.set_id,
    )


def _left_alive(image_task: ImageTask, sessions: frozenset[str | None]) -> LeftImage | None:
    record = image_task.record
    if record is None or record.session not in sessions or image_task.task_id is None:
        return None
    is_made = image_task.state == "completed" or not image_task.is_over
    is_known = record.delivered_at is not None or record.told == image_task.state
    if not is_made or is_known or image_task.waiters.has_waiters:
        return None
    return LeftImage(
        record_id=record.record_id,
        task_id=image_task.task_id,
        state=image_task.state,
        title=image_task.title,
        set_id=record.set_id,
    )
