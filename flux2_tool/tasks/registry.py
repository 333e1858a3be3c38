"""Which image tasks this process takes care of, and their records in the journal.

Decides whether a request is new, joins an earlier one, or repeats too often; takes up what a process that is gone has
left behind; keeps the leases of what is ours.
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
from flux2_tool.journal.handle import unavailable
from flux2_tool.journal.sqlite import LEASE_S
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.settings import JournalMode
from flux2_tool.tasks.budget import budget_error
from flux2_tool.tasks.deduplication import inherited_session_prefix, repeated_error
from flux2_tool.tasks.poll_schedule import TaskKind
from flux2_tool.tasks.submit import CreateRequest
from flux2_tool.tasks.task import ImageTask, TaskDependencies

logger = logging.getLogger(__name__)

KEPT_GENERATIONS: Final = 2000
RESUME_EVERY_S: Final = 30.0
# A result is on its way to who asked for this long before its pictures count as returned: a process that dies in
# between must not leave a paid picture marked as seen, nor one that sees a second later that its peer is gone.
HAND_OVER_S: Final = 2.0
HISTORY_SAMPLES: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One key at one base URL. Tasks of another account are never touched."""

    client: RunapiClient
    fingerprint: str

    @property
    def base_url(self) -> str:
        return self.client.base_url


@dataclass(slots=True, kw_only=True)
class TaskHandle:
    """An image task a call may wait for, and how the call came to it."""

    image_task: ImageTask
    joined: bool = False
    warnings: list[str] = field(default_factory=list)


class Registry:
    """The image tasks of one process.

    Args:
        folder: The data folder that holds the journal.
        mode: Whether money may be spent without a usable journal file.
        owner: This process, as a name for leases.
        dependencies: Clock, chance, memory of routes.
        opener: Opens the journal.
        is_peer_in_process: Whether whoever gets the results is this very process, so that none is lost on the way.
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
        self._is_peer_in_process = is_peer_in_process
        self._clock = dependencies.clock
        self._journals = JournalWithFallback(
            folder=folder,
            mode=mode,
            owner=owner,
            now=self._clock.now,
            opener=opener,
            entries=lambda: [one.entry for one in self._live.values() if one.entry is not None],
        )
        self._live: dict[str, ImageTask] = {}
        self._handed_over: dict[str, RecordHandle] = {}
        self._hand_over: asyncio.Task[None] | None = None
        self._lookups: set[ImageTask] = set()
        self._resumed_at_s: dict[tuple[str, str], float] = {}
        self._heart: asyncio.Task[None] | None = None

    def begin(self, account: Account, intent: Intent, request: CreateRequest, rules: ClaimRules) -> TaskHandle:
        """Join an earlier equal request or begin this one; its record is on disk when this returns.

        Raises:
            RepeatedRequestError: Too many new equal ones in the window.
            BudgetExceededError: It would pass a cap.
            JournalUnavailableError: The journal is required and cannot be used; nothing was sent.
        """
        self._note_delivered(dedup_key=intent.dedup_key)
        journal, warnings = self._journals.for_spending()
        try:
            claim = journal.claim(intent, rules, now=self._clock.now())
        except JournalError as exc:
            journal, warnings = self._journals.without_file(exc)
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
            if image_task.entry is not None and image_task.entry.record.session != claim.record.session:
                image_task.entry.refresh()  # it was taken up before it was inherited
            return TaskHandle(image_task=image_task, joined=True, warnings=warnings)
        entry = self._entry(journal, claim.record, is_ours=True)
        image_task = ImageTask(
            account.client,
            dependencies=self._deps,
            request=request,
            tool=intent.tool,
            model=intent.model,
            resolution=intent.resolution,
            label=intent.label,
            entry=entry,
        )
        self._keep(intent.record_id, image_task)
        self._beat()
        return TaskHandle(image_task=image_task, warnings=warnings)

    def find(self, account: Account, ref: TaskRef, *, caller: CallContext, as_source: bool = False) -> ImageTask:
        """Return the image task of a task: a live one, a recorded one, or one to be looked up at RunAPI.

        Args:
            ref: Its name; "task:last" is the newest one of the caller's session that brought pictures.
            as_source: Whether it is to be edited: then the last one is the last that the session was shown. The result
                of an equal edit, finished in the meantime, must not become its own source.

        Raises:
            TaskNotFoundError: The task belongs to another conversation and the caller is not the owner, or there is
                no last one.
            JournalUnavailableError: Which one is the last cannot be read.
        """
        if ref.is_last:
            return self._newest(account, caller, shown_first=as_source)
        task_id = ref.task_id
        for image_task in [*self._live.values(), *self._lookups]:
            mine = image_task.client.base_url == account.base_url and image_task.account == account.fingerprint
            if image_task.task_id == task_id and mine and image_task.error is None:
                _check_belongs(image_task.entry, caller)
                return image_task
        journal = self._journals.for_reading()
        if journal is not None:
            try:
                record = journal.find_task(task_id, fingerprint=account.fingerprint, base_url=account.base_url)
            except JournalError as exc:
                logger.warning("%s", exc)
            else:
                if record is not None:
                    image_task = self._adopt(account, journal, record)
                    _check_belongs(image_task.entry, caller)
                    return image_task
        image_task = ImageTask(account.client, dependencies=self._deps, task_id=task_id, account=account.fingerprint)
        self._lookups = {known for known in self._lookups if not known.is_over}
        self._lookups.add(image_task)
        return image_task

    def _newest(self, account: Account, caller: CallContext, *, shown_first: bool) -> ImageTask:
        # A session that speaks of its last picture has got what was handed over to it.
        self._note_delivered(session=caller.session)
        try:
            journal = self._journals.for_reading_at_all()
            record = journal.newest(
                fingerprint=account.fingerprint,
                base_url=account.base_url,
                session=caller.session,
                shown_first=shown_first,
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
        self, account: Account, *, at_most_every_s: float = RESUME_EVERY_S, abandoned_too: bool = False
    ) -> list[ImageTask]:
        """Take up in the background what a process that is gone has left of this account; returns what was begun.

        Args:
            at_most_every_s: Does nothing when this was done less than so many seconds ago.
            abandoned_too: Whether to follow again what was followed in vain.
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
            left = journal.abandoned(
                fingerprint=account.fingerprint,
                base_url=account.base_url,
                now=now,
                resend_since=resend_since,
                abandoned_too=abandoned_too,
            )
        except JournalError as exc:
            logger.warning("%s", exc)
            return []
        begun = []
        for record in left:
            image_task = self._adopt(account, journal, record)
            if not image_task.is_over and not image_task.is_running:
                logger.info("taking up %s, left behind by a process that is gone", record.task_id or record.record_id)
                image_task.start()
                begun.append(image_task)
        return begun

    def resend(self, account: Account, record_id: str) -> ImageTask | None:
        """Return the image task of a record whose outcome is unknown, allowed to be sent once more; None if there is
        no such record of this account. `record_id` may be its beginning.

        Raises:
            JournalUnavailableError: The journal cannot be read.
        """
        try:
            journal = self._journals.for_reading_at_all()
            records = journal.records(states=("unknown", "sending"))
        except JournalError as exc:
            raise unavailable(exc) from exc
        for record in records:
            mine = (record.fingerprint, record.base_url) == (account.fingerprint, account.base_url)
            if mine and record.task_id is None and record.record_id.startswith(record_id):
                self._live.pop(record.record_id, None)
                image_task = self._adopt(account, journal, record)
                image_task.force_resend()
                return image_task
        return None

    def durations(self, kind: TaskKind) -> Sequence[float]:
        """Return how long the last tasks of a kind took, oldest first, in seconds."""
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
        """Have a task that is followed here asked for now: RunAPI says that it is over."""
        for image_task in [*self._live.values(), *self._lookups]:
            if image_task.task_id == task_id and not image_task.is_over:
                image_task.notify_finished()

    def delivered(self, image_task: ImageTask, session: str | None) -> None:
        """Have it written down, in a moment, that a call of this session got the pictures."""
        entry = image_task.entry
        if entry is not None and (entry.record.session is None or entry.record.session == session):
            self._handed_over[entry.record.record_id] = entry
            if self._hand_over is None or self._hand_over.done():
                self._hand_over = asyncio.get_running_loop().create_task(self._finish_hand_over())

    async def aclose(self, *, delivered: bool = True) -> None:
        """Stop following everything and let go of it; another process may take it up.

        Args:
            delivered: Whether the results of the last moments have reached who asked; False when that peer is gone.
        """
        if not delivered:
            self._handed_over.clear()
        own = [task for task in (self._heart, self._hand_over) if task is not None]
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)
        await asyncio.gather(*(image_task.stop() for image_task in [*self._live.values(), *self._lookups]))
        self._note_delivered()
        self._journals.close()

    # ---- private -----------------------------------------------------------------------------------------------------

    def _adopt(self, account: Account, journal: Journal, record: Record) -> ImageTask:
        known = self._live.get(record.record_id)
        if known is not None and known.stage != "failed":
            return known
        entry = self._entry(journal, record, is_ours=False)
        image_task = ImageTask.of_record(account.client, entry, dependencies=self._deps)
        self._keep(record.record_id, image_task)
        self._beat()
        return image_task

    def _entry(self, journal: Journal, record: Record, *, is_ours: bool) -> RecordHandle:
        return RecordHandle(
            journal, record, now=self._clock.now, is_ours=is_ours, is_required=self._journals.is_required
        )

    async def _finish_hand_over(self) -> None:
        try:
            while self._handed_over:
                await self._clock.sleep(HAND_OVER_S)
                self._note_delivered()
        finally:
            # A script that closes nothing has had them all the same when its event loop ends in good order.
            if self._is_peer_in_process:
                self._note_delivered()

    def _note_delivered(self, *, dedup_key: str | None = None, session: str | None = None) -> None:
        """Write down what was handed over: all of it, or what a call that has come after it shows to have arrived."""
        for record_id, entry in list(self._handed_over.items()):
            if dedup_key in (None, entry.record.dedup_key) and session in (None, entry.record.session):
                del self._handed_over[record_id]
                entry.delivered()

    def _keep(self, record_id: str, image_task: ImageTask) -> None:
        self._live[record_id] = image_task
        if len(self._live) > KEPT_GENERATIONS:
            for known in [key for key, one in self._live.items() if one.is_over][: KEPT_GENERATIONS // 4]:
                del self._live[known]

    def _beat(self) -> None:
        if self._heart is None or self._heart.done():
            self._heart = asyncio.get_running_loop().create_task(self._keep_leases())

    async def _keep_leases(self) -> None:
        while True:
            await self._clock.sleep(LEASE_S / 3)
            self._journals.beat()


def _check_belongs(entry: RecordHandle | None, caller: CallContext) -> None:
    """Raise unless a task is the caller's own; what nobody here has begun belongs to nobody."""
    if entry is None or caller.may_use(entry.record.session):
        return
    raise TaskNotFoundError(
        f"Task {entry.record.task_id} belongs to another conversation.",
        hint="Use a task of this conversation, or ask the owner.",
    )
