"""The pictures of one call, each an image task of its own: which one leads, and what failed.

Some failing is not all failing: the result has the pictures that came, and a warning for each other one. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Final

from flux2_tool.exceptions import Charged, Flux2Error
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.tasks.task import ImageTask

_CHARGED: Final[Sequence[Charged]] = ("no", "unknown", "yes")


def leading(image_tasks: Sequence[ImageTask]) -> ImageTask:
    """Return the task that stands for its set: the first that is still processing, else the first with a picture."""
    waiting = [image_task for image_task in image_tasks if not image_task.is_over and image_task.task_id is not None]
    waiting += [image_task for image_task in image_tasks if not image_task.is_over]
    return (waiting or [image_task for image_task in image_tasks if image_task.error is None] or image_tasks)[0]


def doubted(image_tasks: Sequence[ImageTask]) -> int:
    """Return how many pictures are not waited for any more, and may be made and charged all the same."""
    errors = [image_task.error for image_task in image_tasks if image_task.is_over]
    return sum(error is not None and error.charged == "unknown" for error in errors)


def failure_warnings(image_tasks: Sequence[ImageTask]) -> list[str]:
    """Return a warning for each picture of a set that failed.

    Of one that may be made, and charged, all the same, it says what finds that out: its hint.
    """
    found = []
    for number, image_task in enumerate(image_tasks, 1):
        error = image_task.error
        if error is not None:
            ref = TaskRef.text_of(error.task_to_fetch)
            named = f"picture {number} of {len(image_tasks)}{f' ({ref})' if ref else ''}"
            if error.charged == "unknown":
                said = f"not_known: {named} may be made all the same: {error.message} {error.hint}".rstrip()
            else:
                said = f"not_made: {named} was not made: {error.message}"
            found.append(f"{said} (charged: {error.charged})")
    return found


def common_error(image_tasks: Sequence[ImageTask]) -> Flux2Error | None:
    """Return the error of a call none of whose pictures came, None if one did or may still.

    It is the first of those that may have cost the most; of a set its warnings name the others.
    """
    errors = [image_task.error for image_task in image_tasks if image_task.error is not None]
    if len(errors) < len(image_tasks):
        return None
    chosen = max(range(len(errors)), key=lambda index: _CHARGED.index(errors[index].charged))
    error = copy(errors[chosen])
    if len(errors) > 1:
        others = failure_warnings(image_tasks)
        del others[chosen]
        error.message = f"None of {len(errors)} pictures came. Number {chosen + 1}: {error.message}"
        error.warnings = (*error.warnings, *others)
    return error
