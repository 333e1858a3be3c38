"""Turn an image task into the result object: state, pictures, cost, times, warnings and the agent's next step.

Pure: reads an image task and the manifest, does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from flux2_tool._clock import iso_utc
from flux2_tool.engine.host_profile import Delivery, HostProfile
from flux2_tool.runapi.text import quoted
from flux2_tool.schema.manifest import Manifest
from flux2_tool.schema.money import usd_text
from flux2_tool.schema.results import Cost, CostBasis, ImageInfo, TaskInfo, Timing, ToolResult
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.tasks.task import ImageTask


def report(
    image_task: ImageTask,
    manifest: Manifest,
    *,
    host: HostProfile,
    now: float,
    joined: bool = False,
    fetched: bool = False,
    handed_over: bool = False,
    images: Sequence[ImageInfo] = (),
    warnings: Sequence[str] = (),
) -> ToolResult:
    """Return the result object of an image task that is completed or still processing.

    Args:
        image_task: Not failed; a failed one becomes an error object instead.
        manifest: For list prices.
        host: Decides how `next` words the delivery.
        now: The wall clock, in seconds since 1970.
        joined: Whether this call joined a task that another call had begun.
        fetched: Whether this call only fetched the task, and so cost nothing.
        handed_over: Whether another conversation shows the image: that which spawned the call's.
        images: The pictures, from `saving.py`.
        warnings: Added to those of the image task.
    """
    done = image_task.state == "completed"
    cost = _cost(image_task, manifest)
    begun = image_task.submitted_at
    until = image_task.finished_at if done else now
    all_warnings = [*_warnings(image_task, cost, done=done), *warnings]
    has_expired = any(image.expires_at is not None and image.expires_at <= iso_utc(now) for image in images)
    if has_expired:
        all_warnings.append("expired_url: the image's link has expired; the picture can no longer be fetched from it")
    is_gone = has_expired and not images[0].path
    host = replace(host, delivery="parent") if handed_over else host
    advice = _gone() if is_gone else _advice(image_task, cost, images, host=host, joined=joined, fetched=fetched)
    return ToolResult(
        task=TaskInfo(
            id=image_task.task_id,
            ref=TaskRef.text_of(image_task.task_id),
            state="completed" if done else "processing",
            tool=image_task.tool,
            model=image_task.model,
            joined=joined,
            title=image_task.title,
        ),
        images=tuple(images),
        cost=cost,
        timing=Timing(
            submitted_at=None if begun is None else iso_utc(begun),
            finished_at=iso_utc(image_task.finished_at) if done and image_task.finished_at is not None else None,
            elapsed_s=None if begun is None or until is None else round(max(0.0, until - begun), 3),
            polls=image_task.log.polls,
        ),
        warnings=tuple(all_warnings),
        next=" ".join(advice),
    )


def _cost(image_task: ImageTask, manifest: Manifest) -> Cost:
    if image_task.final is not None and image_task.final.cost_usd is not None:
        return Cost(usd=image_task.final.cost_usd, basis="billed")
    model = manifest.models.get(image_task.model or "")
    price = None if model is None or image_task.resolution is None else model.prices_usd.get(image_task.resolution)
    return Cost(usd=None, basis="unknown") if price is None else Cost(usd=price, basis="list price")


def _warnings(image_task: ImageTask, cost: Cost, *, done: bool) -> list[str]:
    warnings: list[str] = []
    if done:
        # A quote or a price schedule is neither a bill nor the list price, so it is reported separately.
        expected_usd = None if image_task.record is None else image_task.record.price_usd
        if cost.basis != "billed" and expected_usd not in (None, cost.usd):
            warnings.append(
                f"expected_price: RunAPI did not say what it billed; {usd_text(expected_usd)} was expected and reserved"
            )
        return warnings
    if image_task.log.unknown_statuses:
        words = ", ".join(quoted(word, 60) for word in image_task.log.unknown_statuses[:5])
        warnings.append(f"unknown_status: RunAPI reports the status {words}, which this version takes as not finished")
    if image_task.log.last_failure is not None:
        warnings.append(
            f"last_poll_failed: the last poll of the task gave no status: {image_task.log.last_failure.message}"
        )
    return warnings


# The figure itself stands at `cost`, once.
_COST: Final[Mapping[CostBasis, str]] = {
    "billed": "what it cost",
    "list price": "about what it cost (the list price)",
    "unknown": "that what it cost is not known",
}


def _advice(
    image_task: ImageTask,
    cost: Cost,
    images: Sequence[ImageInfo],
    *,
    host: HostProfile,
    joined: bool,
    fetched: bool,
) -> Iterator[str]:
    """Yield the sentences of `next`."""
    ref = TaskRef.text_of(image_task.task_id)
    if image_task.state != "completed":
        yield "The image is still being made; it cannot be cancelled, and is charged when it is done."
        yield f'Call get_image_task with task_id "{image_task.task_id}" to wait for it.'
        yield "Do not generate it again: that would pay for a second image."
        if images:
            yield "It already names a picture under a status this version does not know; you may show it."
    else:
        yield _delivery(images, host=host, told=f"say {_COST[cost.basis]}")
    if joined:
        yield "It is the same image as that of an equal call, and is paid once: count its cost once, and show it once."
        yield "Another version needs another prompt."
    if fetched and image_task.state == "completed":
        yield "Fetching it was free. If the user cannot see the picture, " + _AGAIN[host.delivery]
    if ref and image_task.state == "completed":
        yield f'To edit it, call remix_image with source_image_urls ["{ref}"].'


def _gone() -> Iterator[str]:
    yield "The picture's link has expired and there is no saved copy, so that nobody can show or edit it any more."
    yield "Tell the user so. Making it again pays for a new image: do so only if they agree."


_AGAIN: Final[Mapping[Delivery, str]] = {
    "host": "making it again does not help and costs again.",
    "parent": "making it again does not help and costs again.",
    "model": "send it once more; making it again does not help and costs again.",
    "program": "show it once more; making it again does not help and costs again.",
}


def _delivery(images: Sequence[ImageInfo], *, host: HostProfile, told: str) -> str:
    """Return who brings a finished picture to the user, and how; a host that attaches it says so itself."""
    path = images[0].path if images and host.shares_files else None
    if host.delivery == "host":
        return f"The picture is ready. In your caption {told}."
    if host.delivery == "parent":
        return f"The picture is ready. In your answer name its reference and {told}."
    if host.delivery == "model":
        what = "path (images[0].path) or link (images[0].url)" if path else "link (images[0].url), whole"
        return f"The picture is ready but not attached: send the user its {what}, with a caption, and {told}."
    where = "saved at images[0].path" if path else "at images[0].url"
    return f"The picture is {where}, and nothing has shown it yet: show it to the user and {told}."


_UNSAFE = re.compile(r"[^\w]+", re.UNICODE)


def slug_of(prompt: str, *, limit: int = 40) -> str:
    """Return a prompt as part of a file name: letters and digits of any script, joined by hyphens."""
    return _UNSAFE.sub("-", prompt).strip("-_")[:limit].strip("-_").lower() or "image"
