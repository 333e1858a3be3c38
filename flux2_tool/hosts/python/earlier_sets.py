"""An earlier result of several pictures, fetched again: all of its tasks together, and what becomes of the others.

A picture whose request was refused, or not confirmed yet, has no task id: nothing can be fetched, and it stays in the
result, with a warning. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from flux2_tool.exceptions import InvalidArgumentsError
from flux2_tool.schema.results import PictureTask, ToolResult


def refs_of(result: ToolResult) -> list[str]:
    """Return the references of a result's tasks, in order.

    Raises:
        InvalidArgumentsError: No task has an id.
    """
    return [task.ref for task in result.tasks if task.ref is not None] or [ref_of(result)]


def ref_of(result: ToolResult) -> str:
    """Return the reference of the task that stands for a result.

    Raises:
        InvalidArgumentsError: It has no id.
    """
    if result.task.ref is None:
        raise InvalidArgumentsError("this result has no task id, so it cannot be referred to")
    return result.task.ref


def with_others(fetched: ToolResult, earlier: ToolResult) -> ToolResult:
    """Return a fetched result with those pictures of the earlier one that could not be fetched.

    One that was still to be confirmed is "unknown" from then on: "processing" means that it can be waited for.
    """
    if all(task.ref is not None for task in earlier.tasks):
        return fetched
    again = iter(fetched.tasks)
    tasks = [_left(task) if task.ref is None else next(again, task) for task in earlier.tasks]
    warnings = (*fetched.warnings, *_warnings(earlier))
    return fetched.model_copy(update={"tasks": tuple(tasks), "warnings": tuple(dict.fromkeys(warnings))})


def _left(task: PictureTask) -> PictureTask:
    return task.model_copy(update={"state": "unknown"}) if task.state == "processing" else task


def _warnings(earlier: ToolResult) -> Iterator[str]:
    count = len(earlier.tasks)
    for number, task in enumerate(earlier.tasks, 1):
        if task.ref is not None:
            continue
        named = f"picture {number} of {count}"
        if task.state == "processing":
            yield (
                f"not_known: {named} had no task id yet when the wait for it ended, so it cannot be fetched; it may be "
                "made and charged: recent() lists it then"
            )
        yield from (
            text for text in earlier.warnings if text.startswith((f"not_made: {named} ", f"not_known: {named} "))
        )
