"""Tell a conversation once, with its next result, what became of the images that it was not given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from flux2_tool.context import CallContext
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.tasks.task import ImageTask

MAX_TOLD: Final = 3
"""In one result; the rest follows with the next."""


class EarlierImages:
    """What a process has told its conversations.

    Args:
        left_behind: Returns the images of a session that it has not been given.
    """

    def __init__(self, left_behind: Callable[[str | None], Sequence[ImageTask]]) -> None:
        self._left_behind = left_behind
        self._told: set[tuple[str, str]] = set()

    def warnings(self, caller: CallContext, *, than: ImageTask) -> list[str]:
        """Return a warning for each image of a model's session, other than this one, of which it has not been told."""
        found: list[str] = []
        if not caller.by_model or caller.is_watching:
            return found
        for image_task in self._left_behind(caller.session):
            ref = TaskRef.text_of(image_task.task_id)
            key = (ref or "", image_task.state)
            if image_task is than or ref is None or key in self._told or len(found) == MAX_TOLD:
                continue
            self._told.add(key)
            found.append(f"earlier_image: {self._became(image_task, ref)}")
        return found

    def _became(self, image_task: ImageTask, ref: str) -> str:
        asked = "an image asked for earlier in this conversation"
        named = f"{ref}, {asked}," if image_task.title is None else f'{ref} ("{image_task.title}"), {asked},'
        became = (
            "is finished, charged, and was not shown; get_image_task fetches it, which is free"
            if image_task.state == "completed"
            else "goes on at RunAPI and may be charged; get_image_task waits for it"
        )
        return f"{named} {became}. Tell the user; do not request it again"
