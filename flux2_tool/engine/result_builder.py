"""Turn a call's image tasks into the result object: state, pictures, cost, times, warnings and the agent's next step.

Pure: reads image tasks and the manifest, does no I/O. The sentences of `next` are in `next_step.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from flux2_tool._clock import iso_utc
from flux2_tool.engine.host_profile import HostProfile
from flux2_tool.engine.next_step import Asked, advice_on, gone, out_of_reach
from flux2_tool.engine.picture_sets import failure_warnings, leading
from flux2_tool.journal import RecordState
from flux2_tool.runapi.error_mapping import quoted_words
from flux2_tool.runapi.text import quoted
from flux2_tool.schema.manifest import Manifest
from flux2_tool.schema.money import usd_text
from flux2_tool.schema.results import (
    Cost,
    CostBasis,
    ImageInfo,
    PictureState,
    PictureTask,
    TaskInfo,
    Timing,
    ToolResult,
)
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.tasks.task import ImageTask

_PICTURE_STATES: Final[Mapping[RecordState, PictureState]] = {
    "sending": "processing",
    "processing": "processing",
    "completed": "completed",
    "failed": "failed",
    "not_created": "failed",
    "unknown": "unknown",
}
# From the most certain on.
_CERTAINTY: Final[Sequence[CostBasis]] = ("billed", "list price", "unknown")


def report(
    image_tasks: Sequence[ImageTask],
    manifest: Manifest,
    *,
    host: HostProfile,
    tiers: Sequence[str],
    now: float,
    joined: bool = False,
    fetched: bool = False,
    handed_over: bool = False,
    images: Sequence[ImageInfo] = (),
    warnings: Sequence[str] = (),
) -> ToolResult:
    """Return the result object of a call's image tasks, at least one of which is completed or still processing.

    Args:
        image_tasks: One, or those of a set.
        manifest: For list prices.
        host: Decides how `next` words the delivery.
        tiers: The enabled ones; `next` names the editing tool where one of them has it.
        now: The wall clock, in seconds since 1970.
        joined: Whether this call joined tasks that another call had begun.
        fetched: Whether this call only fetched the task, and so cost nothing.
        handed_over: Whether another conversation shows the images: that which spawned the call's.
        images: The pictures, from `saving.py`.
        warnings: Added to those of the image tasks.
    """
    lead = leading(image_tasks)
    done = all(image_task.is_over for image_task in image_tasks)
    cost = total_cost(image_tasks, manifest)
    all_warnings = [warning for image_task in image_tasks for warning in _warnings(image_task, manifest)]
    all_warnings = [*dict.fromkeys(all_warnings), *failure_warnings(image_tasks), *warnings]
    expired = [image for image in images if image.expires_at is not None and image.expires_at <= iso_utc(now)]
    if expired:
        all_warnings.append("expired_url: the image's link has expired; the picture can no longer be fetched from it")
    host = replace(host, delivery="parent") if handed_over else host
    can_edit = bool(manifest.tools["remix_image"].enabled_models(tiers))
    asked = Asked(host=host, joined=joined, fetched=fetched, can_edit=can_edit)
    has_ended = bool(expired) and len(expired) == len(images)
    advice = _on_ended(images, lead, asked) if has_ended else None
    return ToolResult(
        task=TaskInfo(
            id=lead.task_id,
            ref=TaskRef.text_of(lead.task_id),
            state="completed" if done else "processing",
            tool=lead.tool,
            model=lead.model,
            joined=joined,
            title=lead.title,
        ),
        tasks=tuple(_picture_task(image_task) for image_task in image_tasks),
        images=tuple(images),
        cost=cost,
        timing=_timing(image_tasks, now=now),
        warnings=tuple(all_warnings),
        next=" ".join(advice or advice_on(image_tasks, cost, images, asked)),
    )


def _on_ended(images: Sequence[ImageInfo], lead: ImageTask, asked: Asked) -> Iterator[str] | None:
    """Return the sentences about pictures whose links have all ended; None where the caller can read a saved copy."""
    if not any(image.path for image in images):
        return gone()
    if not asked.host.shares_files:
        return out_of_reach(TaskRef.text_of(lead.task_id), can_edit=asked.can_edit)
    return None


def _picture_task(image_task: ImageTask) -> PictureTask:
    state = _PICTURE_STATES[image_task.state]
    return PictureTask(id=image_task.task_id, ref=TaskRef.text_of(image_task.task_id), state=state)


def _timing(image_tasks: Sequence[ImageTask], *, now: float) -> Timing:
    """Return when the first was submitted and the last one ended."""
    begins = [image_task.submitted_at for image_task in image_tasks if image_task.submitted_at is not None]
    ends = [image_task.finished_at for image_task in image_tasks if image_task.finished_at is not None]
    done = all(image_task.is_over for image_task in image_tasks)
    begun, ended = min(begins, default=None), max(ends, default=None) if done else None
    until = ended if done else now
    return Timing(
        submitted_at=None if begun is None else iso_utc(begun),
        finished_at=None if ended is None else iso_utc(ended),
        elapsed_s=None if begun is None or until is None else round(max(0.0, until - begun), 3),
        polls=sum(image_task.log.polls for image_task in image_tasks),
    )


def total_cost(image_tasks: Sequence[ImageTask], manifest: Manifest) -> Cost:
    """Return what the pictures cost together; one that failed counts with what RunAPI billed for it."""
    costs = [_cost(image_task, manifest) for image_task in image_tasks if image_task.error is None]
    failed_usd = sum(
        image_task.final.cost_usd or 0.0
        for image_task in image_tasks
        if image_task.error is not None and image_task.final is not None
    )
    basis = max((cost.basis for cost in costs), key=_CERTAINTY.index)
    known = [cost.usd for cost in costs if cost.usd is not None]
    if len(known) < len(costs):
        return Cost(usd=None, basis="unknown")
    return Cost(usd=round(sum(known) + failed_usd, 6), basis=basis)


def _cost(image_task: ImageTask, manifest: Manifest) -> Cost:
    if image_task.final is not None and image_task.final.cost_usd is not None:
        return Cost(usd=image_task.final.cost_usd, basis="billed")
    model = manifest.models.get(image_task.model or "")
    price = None if model is None or image_task.resolution is None else model.prices_usd.get(image_task.resolution)
    return Cost(usd=None, basis="unknown") if price is None else Cost(usd=price, basis="list price")


def _warnings(image_task: ImageTask, manifest: Manifest) -> list[str]:
    warnings: list[str] = []
    if image_task.error is not None:
        return warnings
    if image_task.state == "completed":
        # A quote or a price schedule is neither a bill nor the list price, so it is reported separately.
        cost = _cost(image_task, manifest)
        expected_usd = None if image_task.record is None else image_task.record.price_usd
        if cost.basis != "billed" and expected_usd not in (None, cost.usd):
            warnings.append(
                f"expected_price: RunAPI did not say what it billed; {usd_text(expected_usd)} was expected and reserved"
            )
        elif cost.usd is not None and expected_usd is not None and cost.usd > expected_usd:
            warnings.append(
                f"billed_more: RunAPI billed {usd_text(cost.usd)} where {usd_text(expected_usd)} was expected; "
                "the caps count what was billed"
            )
        if image_task.final is not None and (failure := image_task.final.error) is not None:
            warnings.append(
                f"called_failed: RunAPI calls this task failed{quoted_words(failure)}; but it billed it and names its "
                "picture, so look at the picture before it is used"
            )
        return warnings
    if image_task.log.unknown_statuses:
        words = ", ".join(quoted(word, 60) for word in image_task.log.unknown_statuses[:5])
        warnings.append(f"unknown_status: RunAPI reports the status {words}, which this version takes as not finished")
    response = image_task.log.last_response
    if response is not None and response.phase == "completed" and not response.images:
        what = "only picture links that are refused" if response.has_refused_links else "no picture"
        warnings.append(
            f"no_picture_yet: RunAPI says that the task is completed, and has named {what} so far; it may be charged"
        )
    if image_task.is_poll_held:
        warnings.append(
            "rate_limited: RunAPI limits the rate of this account, so the status of the task could not be asked for"
        )
    if image_task.log.last_failure is not None:
        warnings.append(
            f"last_poll_failed: the last poll of the task gave no status: {image_task.log.last_failure.message}"
        )
    return warnings
