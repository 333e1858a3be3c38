"""The pictures of a call's image tasks, saved side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager

from flux2_tool._net import is_loopback_url
from flux2_tool.engine.accounts import Accounts
from flux2_tool.engine.save_targets import SaveTarget
from flux2_tool.engine.saving import PictureSaver
from flux2_tool.engine.wait import ToolCall
from flux2_tool.schema.results import ImageInfo
from flux2_tool.tasks.task import ImageTask


class Pictures:
    """The pictures of one engine's calls.

    Args:
        saver: Saves them.
        accounts: Connections without a key.
    """

    def __init__(self, saver: PictureSaver, accounts: Accounts) -> None:
        self._saver = saver
        self._accounts = accounts

    def expected(self) -> AbstractContextManager[None]:
        """Return what makes ready, while the block waits for pictures, what checks those that will be saved."""
        return self._saver.decoder.kept_ready()

    async def aclose(self) -> None:
        """End what runs beside the calls."""
        await self._saver.aclose()

    async def of(
        self, call: ToolCall, image_tasks: Sequence[ImageTask], targets: Sequence[SaveTarget]
    ) -> tuple[list[ImageInfo], list[str]]:
        """Return the pictures of a call's tasks, saved side by side within the rest of its wait, and warnings.

        Asked again in the same call it saves those alone that were completed since; so it does itself for one that is
        completed while others are saved.
        """
        base_url = call.account.base_url
        http, is_loopback = self._accounts.http(base_url), is_loopback_url(base_url)

        async def one(number: int, image_task: ImageTask) -> None:
            was_completed = image_task.state == "completed"
            images, warnings = await self._saver.image_infos(
                call,
                image_task,
                targets,
                http=http,
                loopback_allowed=is_loopback,
                number=number if len(image_tasks) > 1 else None,
            )
            call.shown[image_task] = (was_completed, images, warnings)

        numbered = list(enumerate(image_tasks, 1))
        while wanted := [
            (number, image_task)
            for number, image_task in numbered
            if image_task not in call.shown or (image_task.state == "completed" and not call.shown[image_task][0])
        ]:
            await asyncio.gather(*(one(number, image_task) for number, image_task in wanted))
        found = [call.shown[image_task] for image_task in image_tasks]
        warnings = [warning for _, _, of_task in found for warning in of_task]
        return [image for _, images, _ in found for image in images], warnings
