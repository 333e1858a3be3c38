"""The life cycle of one image: submitted once, followed to its end, shared by every call that waits for it.

An image task runs in its own asyncio task, so that a call that stops waiting neither interrupts a POST nor loses the
image: the task is still followed, slowly, for a limited time, and a later call gets the result.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from flux2_tool.exceptions import (
    CancelledCallError,
    Flux2Error,
    TaskNotFoundError,
)
from flux2_tool.journal import OwnershipLostError, Queued, RecordHandle, RecordState
from flux2_tool.runapi import contract
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.error_mapping import failure_of
from flux2_tool.runapi.rate_limit import Slot
from flux2_tool.runapi.responses import TaskResponse
from flux2_tool.tasks.acceptance import AcceptedTask
from flux2_tool.tasks.create_request import CreateRequest
from flux2_tool.tasks.dependencies import TaskDependencies
from flux2_tool.tasks.first_turn import create_limit
from flux2_tool.tasks.follow import FollowedTask, Follower
from flux2_tool.tasks.poll_schedule import WATCH_DELAY_S
from flux2_tool.tasks.status import TaskStatus
from flux2_tool.tasks.submit import QueuedFor, Submission, SubmissionCallbacks, SubmissionError
from flux2_tool.tasks.submit_errors import defective, not_resent, task_of_another, vanished
from flux2_tool.tasks.waiters import Waiters

logger = logging.getLogger(__name__)

# How long the next poll waits until the acceptance is on disk.
ACCEPTED_GRACE_S: Final = 1.0


class ImageTask(TaskStatus):
    """One image, from before its POST to its end.

    Takes either `request` and `record_handle`, for a request of this journal, or `task_id` and `account`, for a task
    that was created elsewhere and is only looked up.

    Args:
        client: The account's client.
        dependencies: Shared by all image tasks of the process.
        request: The create request.
        record_handle: Its record in the journal.
        task_id: The accepted task to look up.
        account: The fingerprint of the key for the lookup.

    Attributes:
        slot: The create slot that its first POST is sent in, where its claim has taken one.
    """

    def __init__(
        self,
        client: RunapiClient,
        *,
        dependencies: TaskDependencies,
        request: CreateRequest | None = None,
        record_handle: RecordHandle | None = None,
        task_id: str | None = None,
        account: str = "",
    ) -> None:
        super().__init__(
            client,
            dependencies=dependencies,
            state="processing" if request is None else "sending",
            record_handle=record_handle,
            task_id=task_id,
        )
        self.request = request
        self.account = account if record_handle is None else record_handle.record.fingerprint
        self.waiters = Waiters(dependencies.clock)
        self.slot: Slot | None = None
        self._is_resend_forced = False
        self._submission: Submission | None = None
        self._runner: asyncio.Task[None] | None = None

    @classmethod
    def from_record(
        cls, client: RunapiClient, record_handle: RecordHandle, *, dependencies: TaskDependencies
    ) -> ImageTask:
        """Return the image task of a record that another process or an earlier call began."""
        record = record_handle.record
        request = CreateRequest.of_record(record)
        image_task = cls(client, dependencies=dependencies, request=request, record_handle=record_handle)
        image_task._restore_from_record(record)
        return image_task

    @property
    def is_running(self) -> bool:
        """Whether it is being sent or followed right now."""
        return self._runner is not None and not self._runner.done()

    @property
    def is_unsent(self) -> bool:
        """Whether it certainly has not reached RunAPI, so that it can still be cancelled without cost."""
        if self.request is None or self.request.maybe_sent or self.task_id is not None:
            return False
        is_ours = self.record_handle is None or self.record_handle.is_ours
        return is_ours and (self._submission is None or self._submission.is_unsent)

    @property
    def queued_for(self) -> QueuedFor | None:
        """What its POST is queued for, or None."""
        return None if self._submission is None else self._submission.queued_for

    # ---- for waiting calls -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start or resume it in the background; does nothing when it is running or has ended."""
        if not self.is_running and not self.is_over:
            self.waiters.restart_unattended_time()
            self._runner = asyncio.get_running_loop().create_task(self._run())

    def subscribe(self, listener: asyncio.Event, deadline_s: float) -> None:
        """Set `listener` at every change, until `unsubscribe`; the call waits until `deadline_s`, monotonic."""
        self.waiters.subscribe(listener, deadline_s)

    def unsubscribe(self, listener: asyncio.Event) -> None:
        """Stop waiting; the task continues, unless nothing was sent and no other call waits."""
        self.waiters.unsubscribe(listener)
        is_unattended = not (self.is_over or self.waiters.has_waiters)
        if is_unattended and self.is_unsent and self._runner is not None:
            self._cancel_unsent()
            self._runner.cancel()
            return
        # In a session an equal call joins it anyway; without one, only if it is orphaned.
        if is_unattended and self.record_handle is not None and self.record_handle.record.session is None:
            self.record_handle.orphan()

    def drop(self) -> None:
        """End it, if it was not started and nobody waits for it."""
        if self._runner is None and not self.waiters.has_waiters and self.is_unsent and not self.is_over:
            self._cancel_unsent()

    def force_resend(self) -> None:
        """Allow a request with a lost response to be resent, however old it is, on a person's decision."""
        self._is_resend_forced = True

    async def stop(self) -> None:
        """Stop following it; the task at RunAPI continues."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    # ---- run ---------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._run_owned()
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            if self.is_unsent and not self.is_over:
                self._cancel_unsent()
            elif self.request is not None:
                self.request = replace(self.request, maybe_sent=True)
            raise
        except SubmissionError as exc:
            self._end(exc.state, error=exc.error, conflict=exc.conflict)
        except Flux2Error as exc:
            self._end("unknown", error=exc, abandoned=isinstance(exc, TaskNotFoundError))
        except Exception as exc:
            logger.exception("task %s: following it failed", self.task_id)
            if self.is_over:  # pragma: no cover - a net: only writing its record failed
                self.waiters.notify()
                return
            self._end("unknown", error=defective(exc, task_id=self.task_id))

    async def _run_owned(self) -> None:
        """Submit and follow it whenever this process owns its record, and watch it while another one does."""
        handle, request = self.record_handle, self.request
        while True:
            if handle is not None and not handle.is_ours and not await self._watch(handle):
                return
            accepted: AcceptedTask | None = None
            try:
                if self.task_id is None and request is not None:
                    accepted = await self._submit(request)
            except OwnershipLostError as exc:
                logger.warning("not sent: %s", exc)
                # Its new owner may have sent it.
                request = None if request is None else replace(request, maybe_sent=True)
                self.request, self._submission = request, None
                continue
            if not self.is_over:
                await self._follow(accepted)
            return

    async def _watch(self, handle: RecordHandle) -> bool:
        """Read the record repeatedly while another process owns it; return whether this process must continue it."""
        while not await handle.take_over():
            before = (self.task_id, self._state)
            self._restore_from_record(await handle.refresh())
            self.log.responses += 1
            if handle.is_gone and not self.is_over:
                # Forgotten, or in a damaged file: nobody else follows it. Its id is enough to fetch its image.
                if self.task_id is None:
                    raise vanished(handle.record)
                return True
            if (self.task_id, self._state) != before or self.log.responses == 1:
                self.waiters.notify()
            # A webhook ends one pause only; if this process takes over, the inbox still has it.
            self.waiters.finish_notified.clear()
            if self.is_over or not await self.waiters.pause(WATCH_DELAY_S):
                return False
        self._restore_from_record(handle.record)
        return not self.is_over

    async def _submit(self, request: CreateRequest) -> AcceptedTask:
        callbacks = SubmissionCallbacks(
            can_wait=self._can_wait,
            has_waiters=lambda: self.waiters.has_waiters,
            on_queued=self.waiters.notify,
            before_attempt=self._before_attempt,
            before_pause=self._before_pause,
            take_task=self._take_task,
        )
        slot, self.slot = self.slot, None
        self._submission = Submission(self.client, request, dependencies=self._deps, callbacks=callbacks, slot=slot)
        accepted = await self._submission.run()
        response = accepted.response
        self.task_id = accepted.task_id
        self.submitted_at = self._deps.clock.now()
        self._enter("processing")
        self.log.request_id, self.log.last_raw = accepted.request_id, accepted.raw
        if self.record_handle is not None:
            self.record_handle.accepted(self.task_id, status_url=response.status_url, request_id=accepted.request_id)
            # Nobody is told of a task that a crash would make this machine forget; a locked journal is not waited for.
            await self.record_handle.settled(within_s=ACCEPTED_GRACE_S)
            if await self.record_handle.has_lost(accepted.task_id):
                self.task_id = None
                raise SubmissionError(task_of_another(accepted.request_id), "unknown")
        if self._deps.route == "auto":
            self._deps.route_cache.put(self.client.base_url, "create", accepted.route, service=request.service.name)
        self.log.last_response = response
        if response.phase == "failed" or (response.phase == "completed" and response.images):
            self._finish(response)
        self.waiters.notify()
        return accepted

    def _can_wait(self, delay_s: float) -> bool:
        """Return whether the submission may pause for this long, in seconds, and then send again."""
        is_resend = self._submission is not None and self._submission.maybe_sent
        if is_resend and not self._is_resend_forced and self._is_resend_window_over(delay_s):
            return False
        if self.waiters.has_waiters:
            return self.waiters.has_time_for(delay_s)
        # Without a waiting call it continues only to resolve a POST whose response was lost.
        return is_resend

    async def _before_attempt(self, attempt: int, route: contract.Route) -> Queued | None:
        self._check_resend()
        self.attempt, handle, slots = attempt, self.record_handle, self._deps.create_slots
        limit = create_limit(slots, base_url=self.client.base_url, fingerprint=self.account)
        queued = None if handle is None else await handle.before_post(route, creates=limit)
        self.waiters.notify()
        return queued

    def _before_pause(self) -> None:
        if self.record_handle is not None:
            self.record_handle.give_back_slot()

    async def _take_task(self, task_id: str) -> bool:
        return self.record_handle is None or await self._deps.taken_ids.take(task_id, self.record_handle)

    def _check_resend(self) -> None:
        """Raise when a POST that may have arrived must not be resent.

        Checked before each POST, because a machine may be suspended for hours in any pause.

        Raises:
            SubmissionError: RunAPI has other input under its key, or the resend window is over.
        """
        is_resend = self._submission is not None and self._submission.maybe_sent
        record = self.record
        if not is_resend or record is None or self._is_resend_forced:
            return
        if record.conflict or self._is_resend_window_over():
            raise SubmissionError(not_resent(record), "unknown", conflict=record.conflict)

    def _is_resend_window_over(self, in_s: float = 0.0) -> bool:
        handle = self.record_handle
        return handle is not None and handle.age_s() + in_s >= self._deps.resend_window_s

    async def _follow(self, accepted: AcceptedTask | None) -> None:
        record = self.record
        status_url = None if record is None else record.status_url
        if accepted is not None:
            status_url = accepted.response.status_url
        followed = FollowedTask(
            task_id=self.task_id,
            record=record,
            status_url=status_url,
            submitted_at=self.submitted_at,
            is_submitted_here=self.attempt > 0 and not (accepted is not None and accepted.response.is_replay),
            retry_after_s=None if accepted is None else accepted.retry_after_s,
        )
        end = await Follower(self.client, followed, dependencies=self._deps, log=self.log, waiters=self.waiters).run()
        if end is not None:
            self._finish(end.response, duration_s=end.duration_s)
        elif self.record_handle is not None:
            self.record_handle.release(abandoned=True)

    # ---- end ---------------------------------------------------------------------------------------------------------

    def _cancel_unsent(self) -> None:
        """End a task that was never sent, at once, so that no equal call can join it."""
        error = CancelledCallError("The wait ended before the image was requested.", charged="no")
        self._end("not_created", error=error)

    def _finish(self, response: TaskResponse, *, duration_s: float | None = None) -> None:
        """End with the final response."""
        self.final = response
        error = failure_of(response, task_id=self.task_id, request_id=self.log.request_id)
        if error is None:
            if duration_s is not None:
                self._deps.poll_scheduler.learn(self.kind, duration_s)
            self._end("completed", duration_s=duration_s)
        elif response.phase == "failed":
            self._end("failed", error=error)
        else:
            # "Completed" without an image may have been charged: a later call can resume it.
            self._end("unknown", error=error, abandoned=True)

    def _end(
        self,
        state: RecordState,
        *,
        error: Flux2Error | None = None,
        conflict: bool = False,
        abandoned: bool = False,
        duration_s: float | None = None,
    ) -> None:
        self._enter(state)
        if self.slot is not None:
            self.slot.give_back()
        self.error = error
        self.finished_at = self._deps.clock.now()
        logger.info("task %s: %s after %d polls", self.task_id, error.code if error else state, self.log.polls)
        if self.record_handle is not None:
            self.record_handle.ended(self._outcome(conflict=conflict, abandoned=abandoned, duration_s=duration_s))
        self.waiters.notify()
