"""Images that a conversation asked for and was not given: its call was stopped, or its wait ended first."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flux2_tool.tasks.task import ImageTask


def left_behind(
    image_tasks: Iterable[ImageTask], session: str | None, *, is_returned: Callable[[str], bool]
) -> list[ImageTask]:
    """Return the accepted images of a session that no call waits for and that it has not been given.

    Args:
        image_tasks: Those of this process.
        session: The conversation.
        is_returned: Whether a record's image has been returned a moment ago, by the record's id.
    """
    found = []
    for image_task in image_tasks:
        record = image_task.record
        if record is None or record.session != session or image_task.task_id is None:
            continue
        is_given = record.delivered_at is not None or is_returned(record.record_id)
        is_made = image_task.state == "completed" or not image_task.is_over
        if is_made and not is_given and not image_task.waiters.has_waiters:
            found.append(image_task)
    return found
