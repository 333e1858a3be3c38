"""What the agent should do or say next: the sentences of a result's `next`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flux2_tool.engine.host_profile import Delivery, HostProfile
from flux2_tool.engine.picture_sets import doubted, leading
from flux2_tool.schema.results import Cost, CostBasis, ImageInfo
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.tasks.task import ImageTask

# The figure itself stands at `cost`, once.
_COST: Final[Mapping[CostBasis, str]] = {
    "billed": "what {it} cost",
    "list price": "about what {it} cost (the list price)",
    "unknown": "that what {it} cost is not known",
}
_AGAIN: Final[Mapping[Delivery, str]] = {
    "host": "making it again does not help and costs again.",
    "parent": "making it again does not help and costs again.",
    "model": "send it once more; making it again does not help and costs again.",
    "program": "show it once more; making it again does not help and costs again.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The call that a result is for; see `result_builder.report`.

    Attributes:
        can_edit: Whether an enabled tier has the editing tool.
    """

    host: HostProfile
    joined: bool
    fetched: bool
    can_edit: bool


def advice_on(image_tasks: Sequence[ImageTask], cost: Cost, images: Sequence[ImageInfo], asked: Asked) -> Iterator[str]:
    """Yield the sentences about the tasks of a call and their pictures."""
    if len(image_tasks) == 1:
        yield from _on_one(image_tasks[0], cost, images, asked)
    else:
        yield from _on_set(image_tasks, cost, images, asked)


def gone() -> Iterator[str]:
    """Yield the sentences about pictures that nobody can fetch any more."""
    yield "The picture's link has expired and there is no saved copy, so that nobody can show or edit it any more."
    yield "Tell the user so. Making it again pays for a new image: do so only if they agree."


def out_of_reach(ref: str | None, *, can_edit: bool) -> Iterator[str]:
    """Yield the sentences about pictures whose links have ended, and whose copies the caller cannot read."""
    yield "The picture's link has expired. A saved copy is on the server's machine, where you cannot reach it: tell the"
    yield "user so; whoever runs the server can hand it over."
    if ref and can_edit:
        yield f'It can still be edited: remix_image takes the copy, with source_image_urls ["{ref}"].'
    yield "Making it again pays for a new image: do so only if they agree."


def _on_one(image_task: ImageTask, cost: Cost, images: Sequence[ImageInfo], asked: Asked) -> Iterator[str]:
    ref = TaskRef.text_of(image_task.task_id)
    if image_task.state != "completed":
        yield "The image is still being made; it cannot be cancelled, and is charged when it is done."
        yield f'Call get_image_task with task_id "{image_task.task_id}" to wait for it.'
        yield "Do not generate it again: that would pay for a second image."
        if images:
            yield "It already names a picture under a status this version does not know; you may show it."
    else:
        yield _delivery(images, host=asked.host, told=f"say {_COST[cost.basis].format(it='it')}")
    if asked.joined:
        yield "It is the same image as that of an equal call, and is paid once: count its cost once, and show it once."
        yield "Another version needs another prompt."
    if asked.fetched and image_task.state == "completed":
        yield "Fetching it was free. If the user cannot see the picture, " + _AGAIN[asked.host.delivery]
    if ref and image_task.state == "completed" and asked.can_edit:
        yield f'To edit it, call remix_image with source_image_urls ["{ref}"].'


def _on_set(image_tasks: Sequence[ImageTask], cost: Cost, images: Sequence[ImageInfo], asked: Asked) -> Iterator[str]:
    count = len(image_tasks)
    ready = [image_task for image_task in image_tasks if image_task.state == "completed"]
    waiting = [image_task for image_task in image_tasks if not image_task.is_over]
    unclear = doubted(image_tasks)
    failed = count - len(ready) - len(waiting) - unclear
    if ready:
        some = f"{len(ready)} of {count} pictures are" if len(ready) < count else "The pictures are"
        told = f"say {_COST[cost.basis].format(it='they')}" if not waiting else "say that more will follow"
        yield _delivery_of_set(some, images, host=asked.host, told=told)
    if waiting:
        yield from _on_waiting(waiting, is_rest=bool(ready))
    if failed:
        yield f"{failed} of {count} could not be made: tell the user why (warnings)."
    if unclear:
        yield f"Whether {unclear} of {count} were made, and charged, is not known: tell the user, and do what the"
        yield "warnings say. Do not request them by another call: that may pay for them twice."
    if asked.joined:
        yield "They are the same images as those of an equal call, and are paid once: count their cost once, and show"
        yield "each once. Other versions need another prompt."
    ref = TaskRef.text_of(leading(ready).task_id) if ready else None
    if ref and asked.can_edit:
        yield f'To edit one, call remix_image with its task_ref, as in source_image_urls ["{ref}"].'


def _on_waiting(waiting: Sequence[ImageTask], *, is_rest: bool) -> Iterator[str]:
    one = len(waiting) == 1
    what = ("The other" if one else f"The other {len(waiting)}") if is_rest else f"{len(waiting)} images"
    what = "1 image" if one and not is_rest else what
    yield (
        f"{what} {'is' if one else 'are'} still being made; {'it' if one else 'they'} cannot be cancelled, and "
        f"{'is' if one else 'are'} charged when done."
    )
    named = ", then ".join(f'"{image_task.task_id}"' for image_task in waiting if image_task.task_id is not None)
    if named:
        yield f"Call get_image_task with task_id {named}, to wait for {'it' if one else 'each'}."
    if any(image_task.task_id is None for image_task in waiting):
        yield "RunAPI has not confirmed every request yet: the same call again, unchanged, joins it and pays nothing."
    yield "Do not generate them again in other words: that would pay for more images."


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


def _delivery_of_set(some: str, images: Sequence[ImageInfo], *, host: HostProfile, told: str) -> str:
    """Return the same for the pictures of a set that are ready."""
    are_saved = bool(images) and host.shares_files and all(image.path for image in images)
    if host.delivery == "host":
        return f"{some} ready. In your caption {told}."
    if host.delivery == "parent":
        return f"{some} ready. In your answer name each one's reference and {told}."
    if host.delivery == "model":
        what = "path (images[…].path) or link (images[…].url)" if are_saved else "link (images[…].url), whole"
        return f"{some} ready but not attached: send the user each one's {what}, with a caption, and {told}."
    where = "saved at images[…].path" if are_saved else "at images[…].url"
    return f"{some} {where}, and nothing has shown them yet: show them to the user and {told}."
