"""What a waiting call says: its progress, and the errors of a wait that was stopped or ended without any response.

A call waits for one image task, or for those of a set. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flux2_tool.engine.picture_sets import doubted
from flux2_tool.exceptions import CancelledCallError, Flux2Error, RateLimitedError, ServiceUnavailableError
from flux2_tool.tasks.status import ProgressState
from flux2_tool.tasks.submit import QueuedFor
from flux2_tool.tasks.task import ImageTask

_QUEUED: Final[dict[QueuedFor, str]] = {
    "create_slot": "waiting for a turn: other images are being requested",
    "rate_limit": "waiting for a turn: RunAPI limits the rate",
}
_SAME_CALL: Final = "Call again with exactly the same arguments if the image is still wanted."


def progress_text(image_tasks: Sequence[ImageTask]) -> tuple[str, str]:
    """Return what is being done, and how much time is left; of a set also how many of its pictures are ready."""
    waiting = [image_task for image_task in image_tasks if not image_task.is_over]
    message, left = _message(waiting[0]), _time_left(waiting)
    if len(image_tasks) == 1:
        return message, left
    ready = sum(image_task.state == "completed" for image_task in image_tasks)
    unclear = doubted(image_tasks)
    failed = len(image_tasks) - len(waiting) - ready - unclear
    others = (f", {failed} failed" if failed else "") + (f", {unclear} of unknown outcome" if unclear else "")
    return f"{ready} of {len(image_tasks)} ready{others}: {message}", left


def state_of(image_tasks: Sequence[ImageTask]) -> ProgressState:
    """Return the state of a wait that is not over, for progress messages."""
    states = {image_task.progress_state for image_task in image_tasks}
    return "submitting" if states == {"submitting"} else "processing"


def named_task_id(image_tasks: Sequence[ImageTask]) -> str | None:
    """Return the id by which a wait is named: the first task that is not over, else the first that has one."""
    in_order = sorted(image_tasks, key=lambda image_task: image_task.is_over)
    return next((image_task.task_id for image_task in in_order if image_task.task_id is not None), None)


def cancelled_error(image_tasks: Sequence[ImageTask]) -> CancelledCallError:
    """Return the error of a wait that the host has stopped."""
    if len(image_tasks) == 1 or all(image_task.is_unsent for image_task in image_tasks):
        return _cancelled(image_tasks[0])
    ids = [image_task.task_id for image_task in image_tasks if image_task.task_id is not None]
    unsent = [image_task for image_task in image_tasks if image_task.is_unsent]
    joined = sum(image_task.waiters.has_others and not image_task.is_over for image_task in unsent)
    count, unanswered = len(image_tasks), len(image_tasks) - len(ids) - len(unsent)
    said, advised = ["The wait was stopped."], []
    if ids:
        said.append(
            f"What was accepted goes on at RunAPI and may still be charged: tasks {', '.join(ids)}; there is no way to "
            "cancel them."
        )
        advised.append(f"Call get_image_task with task_id {_then(ids)} to fetch the images later.")
    if unanswered:
        said.append(f"Whether {unanswered} of {count} requests were accepted is not known; they may be charged too.")
        advised.append("Call again with exactly the same arguments to find out about those; nothing is paid twice.")
    if joined:
        said.append(f"Another call still waits for the same images, so {joined} of {count} will be requested.")
    if len(unsent) > joined:
        said.append(f"{len(unsent) - joined} of {count} pictures were not requested yet and cost nothing.")
    return CancelledCallError(
        " ".join(said),
        hint=" ".join(advised),
        task_id=named_task_id(image_tasks),
        charged="unknown",
        set_task_ids=ids,
        is_partly_open=unanswered > 0,
    )


def no_response_error(image_tasks: Sequence[ImageTask]) -> Flux2Error:
    """Return the error of a wait that ended without any response."""
    return _no_response_error(min(image_tasks, key=lambda image_task: image_task.is_unsent))


def _then(ids: Sequence[str]) -> str:
    return ", then ".join(f'"{task_id}"' for task_id in ids)


def _cancelled(image_task: ImageTask) -> CancelledCallError:
    if image_task.is_unsent:
        if image_task.waiters.has_others:
            return CancelledCallError(
                "The wait was stopped. Another call still waits for the same image, so it will be requested.",
                hint=_SAME_CALL,
                charged="unknown",
            )
        return CancelledCallError("The call was stopped before anything was sent.", charged="no")
    if image_task.task_id is not None:
        return CancelledCallError(
            f"The wait was stopped. Task {image_task.task_id} goes on at RunAPI and may still be charged: "
            "there is no way to cancel it.",
            hint=f'Call get_image_task with task_id "{image_task.task_id}" to fetch the image later.',
            task_id=image_task.task_id,
            charged="unknown",
        )
    return CancelledCallError(
        "The wait was stopped while the request was being sent. It may have been accepted and may be charged.",
        hint=_SAME_CALL,
        charged="unknown",
    )


def _no_response_error(image_task: ImageTask) -> Flux2Error:
    if image_task.request is None:
        failure = image_task.log.last_failure
        reason = failure.message if failure else "no response yet"
        return ServiceUnavailableError(
            f"RunAPI has reported no status of task {image_task.task_id}: {reason}.",
            hint=f'Call get_image_task with task_id "{image_task.task_id}" again in a minute.',
            task_id=image_task.task_id,
            charged="unknown",
        )
    if image_task.is_unsent:
        reason = (
            "RunAPI limits the rate" if image_task.queued_for != "create_slot" else "too many requests came before it"
        )
        return RateLimitedError(
            f"The wait ended before the image could be requested: {reason}. Nothing was sent.",
            hint="Call again in a minute.",
        )
    return ServiceUnavailableError(
        "RunAPI has not answered the request yet. Whether the image was accepted is not known.",
        hint="Call again with exactly the same arguments in a minute.",
        charged="unknown",
    )


def _message(image_task: ImageTask) -> str:
    if image_task.state == "sending":
        if image_task.queued_for is not None:
            return _QUEUED[image_task.queued_for]
        return (
            "sending the request" if image_task.attempt <= 1 else f"sending the request, attempt {image_task.attempt}"
        )
    failure = image_task.log.last_failure
    if failure is not None and failure.kind == "unauthorized":
        return f"RunAPI refuses the key ({failure.message}); trying again"
    if failure is not None and failure.kind == "no_network":
        return f"RunAPI cannot be reached ({failure.message}); trying again"
    if image_task.is_poll_held:
        return _QUEUED["rate_limit"]
    response = image_task.log.last_response
    if response is None:
        return "looking for the task"
    return (
        "waiting in RunAPI's queue" if (response.status or "").lower() in ("pending", "queued") else "making the image"
    )


def _time_left(image_tasks: Sequence[ImageTask]) -> str:
    """Return when the last of some tasks is expected, where that is known of all."""
    each_s = [image_task.left_s if image_task.state == "processing" else None for image_task in image_tasks]
    left_s = max((one_s for one_s in each_s if one_s is not None), default=0.0)
    if None in each_s or left_s < 1.0:
        return ""
    return f", about {left_s:.0f} s left" if left_s < 20 else f", about {5 * round(left_s / 5)} s left"
