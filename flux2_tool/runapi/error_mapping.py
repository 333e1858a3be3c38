"""Turn the last answer about a task into the error its callers get, or into none.

Pure. The service's own words are quoted as such and never phrased as an instruction.
"""

from __future__ import annotations

from flux2_tool.exceptions import (
    PROBE_HINT,
    Charged,
    ContentRefusedError,
    Flux2Error,
    GenerationFailedError,
    UnexpectedAnswerError,
)
from flux2_tool.runapi.responses import TaskResponse, is_refusal


def failure_of(answer: TaskResponse, *, task_id: str | None, request_id: str | None) -> Flux2Error | None:
    """Return why a task that has ended brought no picture, or None when it brought one."""
    if answer.phase == "completed":
        if answer.images:
            return None
        return UnexpectedAnswerError(
            f"RunAPI says task {task_id} is completed but names no picture. It may have been charged.",
            hint="Ask again later with get_image_task; do not generate again before looking at the account. "
            f"{PROBE_HINT}",
            task_id=task_id,
            request_id=request_id,
            charged="unknown",
        )
    words = "" if answer.error is None else answer.error.message or answer.error.code or ""
    quoted = f', RunAPI says: "{words}"' if words else ""
    charged: Charged = "yes" if answer.cost_usd else "no"
    settled = "Nothing was charged." if charged == "no" else f"RunAPI billed ${answer.cost_usd:g} all the same."
    if answer.error is not None and is_refusal(answer.error):
        return ContentRefusedError(
            f"Moderation refused the request{quoted}. {settled}",
            hint="Change the prompt or the source pictures; the same request will be refused again.",
            task_id=task_id,
            request_id=request_id,
            charged=charged,
        )
    return GenerationFailedError(
        f"The image could not be generated{quoted}. {settled}",
        hint="Try once more, or change the prompt; tell the user if it fails again.",
        task_id=task_id,
        request_id=request_id,
        charged=charged,
    )
