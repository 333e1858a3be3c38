"""Look back: the last pictures of a conversation, and what it may still spend, for `get_image_task` without an id.

Nothing is made, billed or delivered by it. Prices come from the cache and the manifest; the balance, where it may be
told, from one free request. A group never reads the balance: it is told only where nobody but the owner reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from flux2_tool._clock import Clock, iso_utc, local_time
from flux2_tool._files import is_file
from flux2_tool.context import CallContext
from flux2_tool.engine.budget_left import BudgetReport
from flux2_tool.engine.earlier_images import EarlierImages
from flux2_tool.engine.host_profile import HostProfile
from flux2_tool.engine.wait import ToolCall
from flux2_tool.journal import Record
from flux2_tool.runapi.image_links import url_expiry
from flux2_tool.schema.recent import LINK_ENDED, RecentImage, RecentImages
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.settings import Settings
from flux2_tool.tasks.recent_tasks import RecentTasks
from flux2_tool.tasks.status import title_of

MAX_LISTED: Final = 10
_NO_CONVERSATION: Final = (
    "The host does not say which conversation this is, so no pictures can be listed. A picture whose task:ID is known "
    "can be fetched with get_image_task."
)
_NONE_YET: Final = "No picture of this conversation is known."
_OUT_OF_REACH: Final = (
    "Of some whose link has ended the server has a saved copy on its machine, which you cannot reach; remix_image with "
    "the ref can still edit them."
)
_JOURNAL_OFF: Final = (
    "journal_unavailable: the task journal is off, so only pictures and spending since this process began are known"
)


class LookingBack:
    """Answers what a conversation has made and may still spend.

    Args:
        tasks: Reads the journal.
        budget: Reads what is left.
        earlier: Tells a conversation of images that it was not given.
        host: Whether its callers are owners.
        settings: Whether the journal is off, so that more was made than is known.
        clock: Time.
    """

    def __init__(
        self,
        tasks: RecentTasks,
        budget: BudgetReport,
        earlier: EarlierImages,
        host: HostProfile,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._tasks = tasks
        self._budget = budget
        self._earlier = earlier
        self._host = host
        self._is_journal_off = settings.journal == "off"
        self._clock = clock

    async def result(self, call: ToolCall, caller: CallContext) -> RecentImages:
        """Return the last pictures of a caller's conversation, and what is left of its budget.

        Args:
            call: Its account and cancellation apply.
            caller: The conversation, and for whom it works.

        Raises:
            JournalUnavailableError: The journal cannot be read.
        """
        is_known = not (caller.is_unnamed or caller.is_unattributed)
        records = await self._tasks.records(call.account, caller, limit=MAX_LISTED) if is_known else []
        now = self._clock.now()
        images = recent_images(records, now=now)
        is_out_of_reach = not self._host.shares_files and any(image.path and not image.url for image in images)
        if not self._host.shares_files:
            images = tuple(image.model_copy(update={"path": None}) for image in images)
        is_owner_alone = caller.is_owner and (caller.is_private or self._host.callers_are_owners)
        budget, budget_text = await self._budget.of(call, caller, with_balance=is_owner_alone)
        said = [*_said(images, now=now)] if images else [_NONE_YET if is_known else _NO_CONVERSATION]
        said += [_OUT_OF_REACH] if is_out_of_reach else []
        off = [_JOURNAL_OFF] if self._is_journal_off else []
        earlier = await self._earlier.warnings(caller, call.cancel, own_ids=frozenset())
        return RecentImages(
            recent=images,
            budget=budget,
            warnings=(*call.warnings, *off, *earlier),
            next=" ".join([*said, budget_text]),
        )


def recent_images(records: Sequence[Record], *, now: float) -> tuple[RecentImage, ...]:
    """Return the entries of records, newest first; those that were requested at once stand in their order."""
    sets = [list(together)[::-1] for _, together in groupby(records, key=lambda record: record.created_at)]
    return tuple(_entry(record, now=now) for together in sets for record in together)


def local_iso(epoch_s: float) -> str:
    """Return an instant in this machine's zone, with its offset, so that a reader can say "yesterday"."""
    return local_time(epoch_s).isoformat(timespec="seconds")


def _entry(record: Record, *, now: float) -> RecentImage:
    path = next((copy.path for copy in record.saved if is_file(Path(copy.path))), None)
    usd = record.price_usd if record.cost_usd is None else record.cost_usd
    if record.state == "failed" or record.state == "not_created":
        raise ValueError("a request that made no image is not listed")
    return RecentImage(
        ref=TaskRef.text_of(record.task_id),
        state=record.state,
        title=title_of(record.body),
        made_at=local_iso(record.created_at),
        usd=usd,
        url=_working_link(record, now=now),
        path=path,
        model=record.model,
    )


def _working_link(record: Record, *, now: float) -> str | None:
    """Return a record's link, None where there is none or it has ended."""
    if not record.images:
        return None
    url, expires_at = record.images[0]
    expires_at = expires_at or url_expiry(url, record.finished_at or record.created_at)
    return url if expires_at > iso_utc(now) else None


def _said(images: Sequence[RecentImage], *, now: float) -> Iterator[str]:
    """Yield the sentences of `next` about the pictures."""
    yield f"The newest pictures of this conversation, newest first; it is {local_iso(now)} here."
    if any(image.state == "completed" for image in images):
        yield "To show one again call get_image_task with its ref, which is free; to edit it, remix_image with the ref."
    if any(image.state == "completed" and image.url is None and image.path is None for image in images):
        yield (
            f'One marked "{LINK_ENDED}" (in JSON its url and path are null): get_image_task with its ref may still '
            "fetch it; if not, say that it cannot be shown any more, and make it again only if the user agrees to pay "
            "again."
        )
    if any(image.state == "processing" for image in images):
        yield 'One that is "processing" is not finished: get_image_task with its ref waits for it.'
    if any(image.state in ("sending", "unknown") for image in images):
        yield (
            'Of one that is "sending" or "unknown" it is not known whether it was made and charged: do not ask for it '
            "in other words; exactly the same call again joins it and is not paid twice."
        )
