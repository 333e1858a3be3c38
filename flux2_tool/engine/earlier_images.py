"""Tell a conversation once, with its next result, what became of the images that it was not given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final

from flux2_tool.context import CallContext
from flux2_tool.engine.wait import CancelToken
from flux2_tool.exceptions import Flux2Error
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.tasks.family import Families
from flux2_tool.tasks.left_behind import LeftImage
from flux2_tool.tasks.task import ImageTask

MAX_TOLD: Final = 3
"""In one result, the pictures of one call being one; the rest follows with the next."""


class EarlierImages:
    """What the conversations are told; the journal knows it, so that another process does not repeat it.

    Args:
        families: Knows the images that a conversation was not given.
    """

    def __init__(self, families: Families) -> None:
        self._families = families
        self._told: set[tuple[str, str]] = set()

    async def warnings(
        self, caller: CallContext, cancel: CancelToken, *, own_ids: Collection[str | None], own_set: str | None = None
    ) -> list[str]:
        """Return a warning for each image of a model's conversation of which it has not been told, one for a set.

        Args:
            caller: Of the call; its conversation.
            cancel: A call that was stopped tells nobody anything.
            own_ids: The call's own tasks, which are not told.
            own_set: The set that they are of: who fetches one picture of it is about to fetch the others.
        """
        found: dict[tuple[str, str], list[LeftImage]] = {}
        if cancel.is_set or not caller.by_model or caller.is_watching or caller.session is None:
            return []
        for left in await self._families.left_behind(caller):
            key = (left.record_id, left.state)
            # Of calls that run side by side only one tells it.
            of_set = (left.set_id or left.record_id, left.state)
            is_full = len(found) == MAX_TOLD and of_set not in found
            is_own = left.task_id in own_ids or (own_set is not None and left.set_id == own_set)
            if is_own or key in self._told or is_full:
                continue
            self._told.add(key)
            found.setdefault(of_set, []).append(left)
            await self._families.told(left)
        return [f"earlier_image: {_became(images)}" for images in found.values()]

    async def warnings_beside(
        self, image_tasks: Sequence[ImageTask], caller: CallContext, cancel: CancelToken
    ) -> list[str]:
        """Return the warnings for the result of a call's own tasks; for the arguments see `warnings`."""
        record = image_tasks[0].record
        return await self.warnings(
            caller,
            cancel,
            own_ids={image_task.task_id for image_task in image_tasks},
            own_set=None if record is None else record.set_id,
        )

    @asynccontextmanager
    async def told_in_errors(self, caller: CallContext, cancel: CancelToken) -> AsyncIterator[None]:
        """Add the warnings to an error that the block raises; for the arguments see `warnings`."""
        try:
            yield
        except Flux2Error as exc:
            exc.warnings += tuple(await self.warnings(caller, cancel, own_ids={exc.task_to_fetch}))
            raise


def _became(images: Sequence[LeftImage]) -> str:
    left, one = images[0], len(images) == 1
    refs = ", ".join(str(TaskRef(image.task_id)) for image in images)
    titled = refs if left.title is None else f'{refs} ("{left.title}")'
    named = f"{titled}, {'an image' if one else f'{len(images)} images'} asked for earlier in this conversation,"
    became = (
        f"{'is' if one else 'are'} finished, charged, and {'was' if one else 'were'} not shown; get_image_task fetches "
        f"{'it' if one else 'each'}, which is free"
        if left.state == "completed"
        else f"{'goes' if one else 'go'} on at RunAPI and may be charged; get_image_task waits for "
        f"{'it' if one else 'each'}"
    )
    return f"{named} {became}. Tell the user; do not request {'it' if one else 'them'} again"
