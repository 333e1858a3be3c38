"""The image tasks of one process, and their records in the journal.

Decides whether a request is new, joins an earlier one, or is repeated too often; finds tasks; resumes orphaned ones;
renews the leases of this process's records.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flux2_tool.context import CallContext
from flux2_tool.exceptions import TaskNotFoundError
from flux2_tool.journal import (
    ClaimRules,
    Intent,
    Journal,
    JournalError,
    JournalWithFallback,
    OpenJournal,
    Owner,
    Record,
    RecordHandle,
    open_journal,
)
from flux2_tool.journal.errors import unavailable
from flux2_tool.journal.sqlite_leases import LEASE_S
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.settings import JournalMode
from flux2_tool.tasks.budget import budget_error
from flux2_tool.tasks.deduplication import inherited_session_prefix, repeated_error
from flux2_tool.tasks.delivery import DeliveryLog
from flux2_tool.tasks.dependencies import TaskDependencies
from flux2_tool.tasks.live_tasks import LiveTasks
from flux2_tool.tasks.poll_schedule import TaskKind
from flux2_tool.tasks.submit import CreateRequest
from flux2_tool.tasks.task import ImageTask

logger = logging.getLogger(__name__)

RESUME_EVERY_S: Final = 30.0
HISTORY_SAMPLES: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One key at one base URL. Tasks of another account are never returned."""

    client: RunapiClient
    fingerprint: str

    @property
    def base_url(self) -> str:
        return self.client.base_url


@dataclass(slots=True, kw_only=True)
class TaskHandle:
    """An image task that a call waits for; `joined` says that another call began it."""

    image_task: ImageTask
    joined: bool = False
    warnings: list[str] = field(default_factory=list)


class Registry:
    """The image tasks of one process.

    Args:
        folder: The data folder that holds the journal.
        mode: Whether money may be spent without a usable journal file.
        owner: This process, as the owner of records.
        dependencies: Shared by all image tasks of the process.
        opener: Opens the journal.
        is_peer_in_process: Whether the caller runs in this process, so that no result can be lost in transit.
    """

    def __init__(
        self,
        *,
        folder: Path,
        mode: JournalMode,
        owner: Owner,
        dependencies: TaskDependencies,
        opener: OpenJournal = open_journal,
        is_peer_in_process: bool = False,
    ) -> None:
        self._deps = dependencies
        self._clock = dependencies.clock
        self._owner = owner
        self._live = LiveTasks()
        self._deliveries = DeliveryLog(self._clock, is_peer_in_process=is_peer_in_process)
        self._journals = JournalWithFallback(
            folder=folder,
            mode=mode,
            owner=owner,
            now=self._clock.now,
            opener=opener,
            record_handles=lambda: self._live.record_handles,
        )
        self._resumed_at_s: dict[tuple[str, str], float] = {}
        self._heartbeat: asyncio.Task[None] | None = None

    def begin(self, account: Account, intent: Intent, request: CreateRequest, rules: ClaimRules) -> TaskHandle:
        """Join an earlier equal request or begin this one; the record is on disk when this returns.

        Raises:
            RepeatedRequestError: Too many new equal requests in the window.
            BudgetExceededError: It would exceed a cap.
            JournalUnavailableError: The journal is required and cannot be used; nothing was sent.
        """
        self._deliveries.confirm(dedup_key=intent.dedup_key)
        journal, warnings = self._journals.for_spending()
        try:
            claim = journal.claim(intent, rules, now=self._clock.now())
        except JournalError as exc:
            journal, warnings = self._journals.fall_back(exc)
            claim = journal.claim(intent, rules, now=self._clock.now())
        if claim.outcome == "repeated":
            raise repeated_error(claim.repeated, rules)
        if claim.spending is not None:
            raise budget_error(
                claim.spending,
                price_usd=intent.reserved_usd,
                price_is_known=intent.price_usd is not None,
                now=self._clock.now(),
            )
        assert claim.record is not None  # noqa: S101 - a claim that is not "repeated" has a record
        if claim.outcome == "joined":
            image_task = self._adopt(account, journal, claim.record)
            handle = image_task.record_handle
            if handle is not None and handle.record.session != claim.record.session:
                handle.refresh()  # the claim has just moved the record to this session
            return TaskHandle(image_task=image_task, joined=True, warnings=warnings)
        handle = self._record_handle(journal, claim.record, is_ours=True)
        image_task = ImageTask(account.client, dependencies=self._deps, request=request, record_handle=handle)
        self._keep(intent.record_id, image_task)
        return TaskHandle(image_task=image_task, warnings=warnings)

    def find(self, account: Account, ref: TaskRef, *, caller: CallContext, as_source: bool = False) -> ImageTask:
        """Return a live or recorded image task, or one that looks the task up at RunAPI.

        Args:
            ref: Its name; "task:last" is the newest one of the caller's session that has images.
            as_source: Whether it is to be edited: "task:last" then prefers the last one delivered to the session, so
                that the result of an equal, undelivered edit does not become its own source.

        Raises:
            TaskNotFoundError: The task belongs to another conversation and the caller is not the owner, or there is
                no last task.
            JournalUnavailableError: "task:last" needs the journal, and it cannot be read.
        """
        if ref.is_last:
            return self._newest(account, caller, delivered_first=as_source)
        image_task = self._live.of_task_id(ref.task_id, base_url=account.base_url, fingerprint=account.fingerprint)
        if image_task is not None:
            _check_belongs(image_task, caller)
            return image_task
        journal = self._journals.for_reading()
        if journal is not None:
            try:
                record = journal.find_task(ref.task_id, fingerprint=account.fingerprint, base_url=account.base_url)
            except JournalError as exc:
                logger.warning("%s", exc)
            else:
                if record is not None:
                    image_task = self._adopt(account, journal, record)
                    _check_belongs(image_task, caller)
                    return image_task
        image_task = ImageTask(
            account.client, dependencies=self._deps, task_id=ref.task_id, account=account.fingerprint
        )
        self._live.add_lookup(image_task)
        return image_task

    def _newest(self, account: Account, caller: CallContext, *, delivered_first: bool) -> ImageTask:
        # A session that refers to its last image has received what was returned to it.
        self._deliveries.confirm(session=caller.session)
        try:
            journal = self._journals.for_required_reading()
            record = journal.newest(
                fingerprint=account.fingerprint,
                base_url=account.base_url,
                session=caller.session,
                delivered_first=delivered_first,
                inherited_session_prefix=inherited_session_prefix(caller.session),
            )
        except JournalError as exc:
            raise unavailable(exc) from exc
        if record is None:
            raise TaskNotFoundError(
                "There is no finished picture of this conversation yet.", hint="Make one first, or name a source."
            )
        return self._adopt(account, journal, record)

    def resume(
        self, account: Account, *, at_most_every_s: float = RESUME_EVERY_S, include_abandoned: bool = False
    ) -> list[ImageTask]:
        """Resume this account's tasks without a living owner in the background; return the resumed ones.

        Args:
            at_most_every_s: The least time since the last resume, in seconds; before that, does nothing.
            include_abandoned: Also those that were unattended for too long.
        """
        now_s = self._clock.monotonic()
        key = (account.fingerprint, account.base_url)
        if now_s - self._resumed_at_s.get(key, float("-inf")) < at_most_every_s:
            return []
        self._resumed_at_s[key] = now_s
        journal = self._journals.for_reading()
        if journal is None:
            return []
        now = self._clock.now()
        resend_since = now - self._deps.resend_window_s
        try:
            journal.mark_unconfirmed(sent_before=resend_since, now=now)
            unowned = journal.unowned(
                fingerprint=account.fingerprint,
                base_url=account.base_url,
                now=now,
                resend_since=resend_since,
                include_abandoned=include_abandoned,
            )
        except JournalError as exc:
            logger.warning("%s", exc)
            return []
        resumed = []
        for record in unowned:
            image_task = self._adopt(account, journal, record)
            if not image_task.is_over and not image_task.is_running:
                logger.info("task %s: resumed; no living process owns it", record.task_id or record.record_id)
                image_task.start()
                resumed.append(image_task)
        return resumed

    def resend(self, account: Account, record_id: str) -> ImageTask | None:
        """Return the image task of a request of unknown outcome, allowed to be resent.

        Args:
            record_id: The record's id or a prefix of it.

        Returns:
            None if this account has no such record.

        Raises:
            JournalUnavailableError: The journal cannot be read.
        """
        try:
            journal = self._journals.for_required_reading()
            records = journal.records(states=("unknown", "sending"))
        except JournalError as exc:
            raise unavailable(exc) from exc
        for record in records:
            is_same_account = (record.fingerprint, record.base_url) == (account.fingerprint, account.base_url)
            if is_same_account and record.task_id is None and record.record_id.startswith(record_id):
                self._live.discard(record.record_id)
                image_task = self._adopt(account, journal, record)
                image_task.force_resend()
                return image_task
        return None

    def durations(self, kind: TaskKind) -> Sequence[float]:
        """Return the durations of the last tasks of a kind, oldest first, in seconds."""
        journal = self._journals.for_reading()
        if journal is None:
            return ()
        base_url, model, resolution = kind
        try:
            return journal.durations(base_url=base_url, model=model, resolution=resolution, limit=HISTORY_SAMPLES)
        except JournalError as exc:
            logger.warning("%s", exc)
            return ()

    def notify_finished(self, task_id: str) -> None:
        """Poll a live task at once: RunAPI's webhook says that it has ended."""
        for image_task in self._live:
            if image_task.task_id == task_id and not image_task.is_over:
                image_task.waiters.notify_finished()

    def delivered(self, image_task: ImageTask, session: str | None) -> None:
        """Mark the images as delivered after DELIVERY_DELAY_S: a call of this session returns them."""
        handle = image_task.record_handle
        if handle is not None and (handle.record.session is None or handle.record.session == session):
            self._deliveries.add(handle)

    async def aclose(self, *, delivered: bool = True) -> None:
        """Stop following all tasks and release their records; another process may resume them.

        Args:
            delivered: Whether the last results have reached the caller; False when the caller is gone.
        """
        await self._deliveries.aclose(delivered=delivered)  # first: what is pending must not be noted meanwhile
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            await asyncio.gather(self._heartbeat, return_exceptions=True)
        await asyncio.gather(*(image_task.stop() for image_task in self._live))
        self._deliveries.confirm()
        self._journals.close()

    # ---- private -----------------------------------------------------------------------------------------------------

    def _adopt(self, account: Account, journal: Journal, record: Record) -> ImageTask:
        """Return the image task of a record that another process or an earlier call began."""
        known = self._live.of_record(record.record_id)
        if known is not None:
            return known
        handle = self._record_handle(journal, record, is_ours=False)
        image_task = ImageTask.from_record(account.client, handle, dependencies=self._deps)
        self._keep(record.record_id, image_task)
        return image_task

    def _record_handle(self, journal: Journal, record: Record, *, is_ours: bool) -> RecordHandle:
        return RecordHandle(
            journal,
            record,
            now=self._clock.now,
            moment=self._owner.moment,
            is_ours=is_ours,
            is_required=self._journals.is_required,
            recover=self._journals.recover,
        )

    def _keep(self, record_id: str, image_task: ImageTask) -> None:
        self._live.add(record_id, image_task)
        if self._heartbeat is None or self._heartbeat.done():
            self._heartbeat = asyncio.get_running_loop().create_task(self._renew_leases())

    async def _renew_leases(self) -> None:
        while True:
            await self._clock.sleep(LEASE_S / 3)
            self._journals.heartbeat()


def _check_belongs(image_task: ImageTask, caller: CallContext) -> None:
    """Raise if the caller may not use a task's session; a task that was created elsewhere has none."""
    record = image_task.record
    if record is None or caller.may_use(record.session):
        return
    raise TaskNotFoundError(
        f"Task {record.task_id} belongs to another conversation.",
        hint="Use a task of this conversation, or ask the owner.",
    )
