"""The image tasks of one process, and their records in the journal.

Decides whether a request is new, joins an earlier one, or is repeated too often; finds tasks; resumes orphaned ones;
renews the leases of this process's records.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Final

from flux2_tool.context import CallContext
from flux2_tool.exceptions import TaskNotFoundError
from flux2_tool.journal import (
    Claim,
    ClaimRules,
    Journal,
    JournalError,
    JournalPlace,
    JournalWithFallback,
    OpenJournal,
    Owner,
    Record,
    RecordHandle,
    open_threaded_journal,
)
from flux2_tool.journal.errors import unavailable
from flux2_tool.journal.protocol import LOCK_PATIENCE_S
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.settings import JournalMode
from flux2_tool.tasks.claims import PreparedRequest, TaskHandle, raise_refusal
from flux2_tool.tasks.conversations import check_belongs, check_lookup, ids_of
from flux2_tool.tasks.deduplication import inherited_session_prefix
from flux2_tool.tasks.delivery import DeliveryLog, Receipt
from flux2_tool.tasks.dependencies import TaskDependencies
from flux2_tool.tasks.duration_history import DurationHistory
from flux2_tool.tasks.family import Families
from flux2_tool.tasks.first_turn import FirstTurn, first_turn
from flux2_tool.tasks.heartbeat import Heartbeat
from flux2_tool.tasks.kept_records import KeptRecords
from flux2_tool.tasks.live_tasks import LiveTasks
from flux2_tool.tasks.recent_tasks import RecentTasks
from flux2_tool.tasks.resume import RESUME_EVERY_S, Account, Resumer
from flux2_tool.tasks.task import ImageTask

logger = logging.getLogger(__name__)

# A call that does not wait still gives a locked journal a moment.
SHORTEST_PATIENCE_S: Final = 1.0


class Registry:
    """The image tasks of one process.

    Args:
        place: The data folder or the database that holds the journal; None when there is neither.
        mode: Whether money may be spent without a usable journal file.
        owner: This process, as the owner of records.
        dependencies: Shared by all image tasks of the process.
        opener: Opens the journal.
        is_peer_in_process: Whether the caller runs in this process, so that no result can be lost in transit.
        receipt: What shows that the caller has a result.
    """

    def __init__(
        self,
        *,
        place: JournalPlace | None,
        mode: JournalMode,
        owner: Owner,
        dependencies: TaskDependencies,
        opener: OpenJournal = open_threaded_journal,
        is_peer_in_process: bool = False,
        receipt: Receipt = "assumed",
    ) -> None:
        self._deps = dependencies
        self._clock = dependencies.clock
        self._owner = owner
        self._live = LiveTasks()
        self._deliveries = DeliveryLog(self._clock, is_peer_in_process=is_peer_in_process, receipt=receipt)
        self.returning, self.lost = self._deliveries.returning, self._deliveries.drop
        self.notify_finished = self._live.notify_finished
        self._journals = JournalWithFallback(
            place=place,
            mode=mode,
            owner=owner,
            now=self._clock.now,
            opener=opener,
            record_handles=lambda: self._live.record_handles,
            paces=dependencies.paces,
        )
        if dependencies.paces is not None:
            dependencies.paces.on_free_turn = self._live.free_turn
        self._resumer = Resumer(self._journals, adopt=self._adopt, dependencies=dependencies)
        self._heartbeat = Heartbeat(self._journals, self._clock)
        self._claiming = asyncio.Lock()
        self._history = DurationHistory(self._journals, dependencies.poll_scheduler)
        self.recent = RecentTasks(self._journals, live=self._live)
        self.kept = KeptRecords(self._journals, live=self._live)
        self.families = Families(
            self._journals, live=self._live, clock=self._clock, is_returned=self._deliveries.is_pending
        )

    async def begin(
        self, account: Account, prepared: Sequence[PreparedRequest], rules: ClaimRules, *, deadline_s: float
    ) -> TaskHandle:
        """Join an earlier equal request or begin this one; the record is on disk when this returns.

        Args:
            account: Pays.
            prepared: The call's pictures, equal but for their ids and keys: all are begun, or none.
            rules: Of the claim.
            deadline_s: Until when to wait for a journal that another process has locked, on the monotonic clock.

        Raises:
            RepeatedRequestError: Too many new equal requests in the window.
            OverBudgetError: It would exceed a cap.
            NotApprovedError: Nobody has agreed to its price.
            JournalUnavailableError: The journal is required and cannot be used; nothing was sent.
        """
        within_s = max(SHORTEST_PATIENCE_S, deadline_s - self._clock.monotonic())
        try:
            async with asyncio.timeout(within_s):
                await self._claiming.acquire()
        except TimeoutError:
            raise unavailable(JournalError("other calls wait for it too", reason="locked", hint="try again")) from None
        # A claim and the image task that follows from it are one step for all calls of this process.
        try:
            return await self._begin(account, prepared, rules, deadline_s=deadline_s)
        finally:
            self._claiming.release()

    async def _begin(
        self, account: Account, prepared: Sequence[PreparedRequest], rules: ClaimRules, *, deadline_s: float
    ) -> TaskHandle:
        intents = [one.intent for one in prepared]
        intent = intents[0]
        self._deliveries.confirm(dedup_key=intent.dedup_key)
        # What has happened to equal requests decides about this one.
        for handle in self._live.of_equal(intent.dedup_key):
            await handle.settled(within_s=max(0.0, deadline_s - self._clock.monotonic()))
        within_s = max(SHORTEST_PATIENCE_S, deadline_s - self._clock.monotonic())
        if not self._journals.is_required:
            within_s = min(within_s, LOCK_PATIENCE_S)
        self._heartbeat.begin()  # also for a claim that is refused while nobody knows whether it was recorded
        async with first_turn(self._deps.create_slots, account.client, intents, rules) as turn:
            claim, journal, warnings = await self._journals.claim(intents, rules, within_s=within_s, creates=turn.limit)
            raise_refusal(claim, rules, intents)
            if claim.outcome == "new":
                begun = TaskHandle(image_tasks=self._begun(account, prepared, claim, journal, turn), warnings=warnings)
        if claim.outcome == "joined":
            joined = [await self._joined(account, journal, record) for record in claim.records]
            return TaskHandle(image_tasks=tuple(joined), joined=True, warnings=warnings)
        try:
            await self._history.learn(account, intent)
        except BaseException:
            begun.drop()
            raise
        return begun

    def _begun(
        self, account: Account, prepared: Sequence[PreparedRequest], claim: Claim, journal: Journal, turn: FirstTurn
    ) -> tuple[ImageTask, ...]:
        """Return the image tasks of what was claimed, which are not sent yet."""
        begun = []
        for one, record in zip(prepared, claim.records, strict=False):  # a trial has no records
            handle = self._record_handle(journal, record, claim=claim)
            image_task = ImageTask(account.client, dependencies=self._deps, request=one.request, record_handle=handle)
            image_task.slot = turn.hand_over()
            self._keep(record.record_id, image_task)
            begun.append(image_task)
        return tuple(begun)

    async def _joined(self, account: Account, journal: Journal, record: Record) -> ImageTask:
        image_task = await self._adopt(account, journal, record)
        shared = image_task.record_handle
        if shared is not None and shared.record.session != record.session:
            await shared.refresh()  # the claim has just moved the record to this session
            self._live.note_moved(record.record_id)
        return image_task

    async def find(self, account: Account, ref: TaskRef, *, caller: CallContext, as_source: bool = False) -> ImageTask:
        """Return a live or recorded image task, or one that looks the task up at RunAPI.

        Args:
            ref: Its name; "task:last" is the newest one of the caller's session that has images.
            as_source: Whether it is to be edited: "task:last" then prefers the last one delivered to the session, so
                that the result of an equal, undelivered edit does not become its own source.

        Raises:
            TaskNotFoundError: The task belongs to another conversation and the caller is not the owner, or there is
                no last task.
            JournalUnavailableError: "task:last", or whose the task is, needs the journal, and it cannot be read.
        """
        if ref.is_last:
            return await self._newest(account, caller, delivered_first=as_source)
        image_task = self._live.of_task_id(ref.task_id, base_url=account.base_url, fingerprint=account.fingerprint)
        if image_task is not None and image_task.record is not None:
            check_belongs(image_task, caller)
            return image_task
        journal = await self._journals.for_reading()
        if journal is not None:
            try:
                record = await journal.find_task(
                    ref.task_id, fingerprint=account.fingerprint, base_url=account.base_url
                )
            except JournalError as exc:
                logger.warning("%s", exc)
            else:
                if record is not None:
                    image_task = await self._adopt(account, journal, record)
                    check_belongs(image_task, caller)
                    return image_task
        if image_task is None:
            image_task = ImageTask(
                account.client, dependencies=self._deps, task_id=ref.task_id, account=account.fingerprint
            )
        await self.check_lookup(image_task, caller)
        # Another call may have begun to look for it meanwhile.
        known = self._live.of_task_id(ref.task_id, base_url=account.base_url, fingerprint=account.fingerprint)
        if known is None:
            self._live.add_lookup(image_task)
        return known or image_task

    async def check_lookup(self, image_task: ImageTask, caller: CallContext) -> None:
        """Refuse a task of another conversation that is only looked up; before the lookup, and again after it.

        Raises:
            TaskNotFoundError: It belongs to another conversation, and the caller is not the owner.
            JournalUnavailableError: The journal, which says whose it is, cannot be read.
        """
        if image_task.record is not None or caller.is_owner:
            return
        handles = self._live.record_handles
        try:
            await self._journals.read(
                lambda journal: check_lookup(ids_of(image_task), caller=caller, journal=journal, record_handles=handles)
            )
        except JournalError as exc:
            raise unavailable(exc) from exc

    async def _newest(self, account: Account, caller: CallContext, *, delivered_first: bool) -> ImageTask:
        # A session that refers to its last image has received what was returned to it.
        for handle in self._deliveries.confirm(session=caller.session):
            await handle.settled()

        async def newest(journal: Journal) -> tuple[Journal, Record | None]:
            return journal, await journal.newest(
                fingerprint=account.fingerprint,
                base_url=account.base_url,
                session=caller.session,
                delivered_first=delivered_first,
                inherited_session_prefix=inherited_session_prefix(caller.session),
            )

        try:
            journal, record = await self._journals.read(newest)
        except JournalError as exc:
            raise unavailable(exc) from exc
        if record is None:
            raise TaskNotFoundError(
                "There is no finished picture of this conversation yet.", hint="Make one first, or name a source."
            )
        return await self._adopt(account, journal, record)

    def resume_soon(self, account: Account) -> None:
        """Resume this account's tasks without a living owner, beside the call that is the occasion for it."""
        self._resumer.resume_soon(account)

    async def resume(
        self, account: Account, *, at_most_every_s: float = RESUME_EVERY_S, include_abandoned: bool = False
    ) -> list[ImageTask]:
        """Resume this account's tasks without a living owner; see `Resumer.resume`."""
        return await self._resumer.resume(account, at_most_every_s=at_most_every_s, include_abandoned=include_abandoned)

    async def resend(self, account: Account, record_id: str) -> ImageTask | None:
        """Return the image task of a request of unknown outcome, allowed to be resent; see `Resumer.find_lost`.

        Raises:
            JournalUnavailableError: The journal cannot be read.
        """
        lost = await self._resumer.find_lost(account, record_id)
        if lost is None:
            return None
        journal, record = lost
        self._live.discard(record.record_id)
        image_task = await self._adopt(account, journal, record)
        image_task.force_resend()
        return image_task

    def received(self, task_ids: Collection[str]) -> None:
        """Mark the returned images of tasks as delivered now: the caller has them."""
        self._deliveries.confirm(task_ids=task_ids)

    async def aclose(self, *, delivered: bool = True) -> None:
        """Stop following all tasks and release their records; another process may resume them.

        Args:
            delivered: Whether the last results have reached the caller; False when the caller is gone.
        """
        self._owner.close()  # at once: what follows may be cut off, by a cancellation or the end of the event loop
        await self._deliveries.aclose(delivered=delivered)  # first: what is pending must not be noted meanwhile
        await self._heartbeat.aclose()
        await self._resumer.aclose()
        await asyncio.gather(*(image_task.stop() for image_task in self._live))
        self._deliveries.confirm()
        await asyncio.gather(*(handle.settled(within_s=LOCK_PATIENCE_S) for handle in self._live.record_handles))
        await self._journals.close()

    async def let_go(self) -> None:
        """Release the records, after the event loop has ended: what followed the tasks ended with it."""
        self._owner.close()
        await self._journals.close()

    # ---- private -----------------------------------------------------------------------------------------------------

    async def _adopt(self, account: Account, journal: Journal, record: Record) -> ImageTask:
        """Return the image task of a record that another process or an earlier call began."""
        await self._history.learn(account, record)
        known = self._live.of_record(record.record_id)
        if known is not None:
            return known
        handle = self._record_handle(journal, record)
        image_task = ImageTask.from_record(account.client, handle, dependencies=self._deps)
        self._keep(record.record_id, image_task)
        return image_task

    def _record_handle(self, journal: Journal, record: Record, *, claim: Claim | None = None) -> RecordHandle:
        return RecordHandle(
            journal,
            record,
            now=self._clock.now,
            moment=self._owner.moment,
            is_ours=claim is not None,
            is_required=self._journals.is_required,
            successor_of=self._journals.successor_of,
            has_turn=claim is not None and claim.has_turn,
        )

    def _keep(self, record_id: str, image_task: ImageTask) -> None:
        self._live.add(record_id, image_task)
        self._heartbeat.begin()
