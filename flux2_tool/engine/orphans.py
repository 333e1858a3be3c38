"""Wait for several orphaned tasks at once, as `flux2-tool resume` does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from flux2_tool._clock import Alarm, Clock
from flux2_tool.engine.wait import ToolCall, raise_error_of, wait_for
from flux2_tool.exceptions import Flux2Error
from flux2_tool.tasks.task import ImageTask

if TYPE_CHECKING:
    from flux2_tool.schema.results import ToolResult

Reported = Callable[[ToolCall, ImageTask], "Awaitable[ToolResult]"]


async def outcomes_of(
    call: ToolCall, image_tasks: Sequence[ImageTask], *, clock: Clock, reported: Reported
) -> list[ToolResult | Flux2Error]:
    """Return the outcome of each task, in order, when the last of them is over or the call's wait is.

    Args:
        call: Its deadline holds for all.
        image_tasks: They may be over already.
        clock: Measures.
        reported: Returns the result of a task that did not fail.
    """

    async def outcome_of(image_task: ImageTask) -> ToolResult | Flux2Error:
        # Several waits run at once, so each needs an event of its own.
        own = replace(call, wake=Alarm())
        try:
            await wait_for(own, [image_task], clock=clock)
            raise_error_of(image_task)
        except Flux2Error as exc:
            return exc
        return await reported(own, image_task)

    return list(await asyncio.gather(*map(outcome_of, image_tasks)))
