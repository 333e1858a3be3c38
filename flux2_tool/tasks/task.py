"""The life of one image: submitted once, followed to its end, shared by every call that waits for it.

An image task runs in a task of its own, so that a caller who stops waiting neither cuts a POST in two nor loses the
picture: it is followed on, slowly, for a while, and the result is there when somebody asks again.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from flux2_tool._clock import Clock, iso_utc
from flux2_tool._redaction import redact
from flux2_tool.exceptions import CancelledCallError, Flux2Error, InternalError, UnexpectedAnswerError, error_from_code
from flux2_tool.journal import Record, RecordHandle, RecordState, SavedCopy
from flux2_tool.runapi import contract
from flux2_tool.runapi.backoff import RETRY_AFTER_CEILING_S
from flux2_tool.runapi.cache import RouteCache
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.error_mapping import failure_of
from flux2_tool.runapi.rate_limit import ConcurrencyLimiter
from flux2_tool.runapi.responses import ImageLink, TaskResponse, url_expiry
from flux2_tool.tasks.poll import Poller, PollLog, lookup_failure, poll_paths
from flux2_tool.tasks.poll_schedule import MAX_GAP_S, PollSchedule, PollScheduler
from flux2_tool.tasks.submit import AcceptedTask, CreateRequest, Outcome, QueuedFor, Submission, SubmissionError
from flux2_tool.tasks.waiters import Waiters
from flux2_tool.tasks.webhook_inbox import WebhookInbox

logger = logging.getLogger(__name__)

UNATTENDED_LIFE_S: Final = 15 * 60.0
WATCH_DELAY_S: Final = 0.4
EARLY_DELAY_S: Final = 0.125
RESEND_WINDOW_S: Final = 10 * 60.0

Stage = Literal["submitting", "processing", "completed", "failed"]
_RECORD_AS: Final[dict[Outcome, RecordState]] = {"not created": "not_created", "unknown": "unknown"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDependencies:
    """What an image task needs of its process: time, chance, limits, and what is known of RunAPI and of durations.

    Attributes:
        resend_window_s: For how long after its first POST a request whose response was lost may be sent again.
    """

    clock: Clock
    random: random_module.Random
    memory: RouteCache
    poll_scheduler: PollScheduler
    create_slots: ConcurrencyLimiter
    webhook_inbox: WebhookInbox | None = None
    route: Literal["auto", "guide", "service"]
    resend_window_s: float = RESEND_WINDOW_S


class ImageTask:
    """One task on RunAPI, from before its POST to its end.

    Exactly one of `request` (a new image) and `task_id` (one that was accepted earlier) is given.

    Args:
        client: The account it belongs to.
        request: The create request of a new image.
        task_id: An accepted task to follow.
        tool: The tool that asked, when known.
        model: The model asked for, when known.
        resolution: The output resolution asked for, when known; prices depend on it.
        label: A short text for file names; never sent.
        entry: Its place in the journal; None for a task that was begun elsewhere.
        account: The key's fingerprint, where no entry has it.
        dependencies: Clock, chance, memory.
    """

    def __init__(
        self,
        client: RunapiClient,
        *,
        dependencies: TaskDependencies,
        request: CreateRequest | None = None,
        task_id: str | None = None,
        tool: contract.Action | None = None,
        model: str | None = None,
        resolution: str | None = None,
        label: str = "",
        entry: RecordHandle | None = None,
        account: str = "",
    ) -> None:
        self.client = client
        self.account = account if entry is None else entry.record.fingerprint
        self.request = request
        self.task_id = task_id
        self.tool = tool
        self.model = model
        self.resolution = resolution
        self.label = label
        self.entry = entry
        self.stage: Stage = "submitting" if request is not None else "processing"
        self.log = PollLog()
        self.final: TaskResponse | None = None
        self.error: Flux2Error | None = None
        self.attempt = 0
        self.started_at = dependencies.clock.now()
        self.submitted_at: float | None = None
        self.finished_at: float | None = None
        self._deps = dependencies
        self.waiters = Waiters(dependencies.clock)
        self._finish_notified = asyncio.Event()
        self._force_resend = False
        self._submission: Submission | None = None
        self._runner: asyncio.Task[None] | None = None

    @classmethod
    def of_record(cls, client: RunapiClient, entry: RecordHandle, *, dependencies: TaskDependencies) -> ImageTask:
        """Return the image task of a record that an earlier process or another call has begun."""
        record = entry.record
        image_task = cls(
            client,
            dependencies=dependencies,
            request=CreateRequest(
                action=record.tool,
                body=record.body,
                idempotency_key=record.idempotency_key,
                client_request_id=record.client_request_id,
                routes=(record.route,),
                maybe_sent=True,
            ),
            tool=record.tool,
            model=record.model,
            resolution=record.resolution,
            label=record.label,
            entry=entry,
        )
        image_task.restore_from_record(record)
        return image_task

    # ---- for those who wait ------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the task has ended, well or badly."""
        return self.stage in ("completed", "failed")

    @property
    def is_running(self) -> bool:
        """Whether it is being followed right now."""
        return self._runner is not None and not self._runner.done()

    def start(self) -> None:
        """Run, or run on, in the background; does nothing when it runs already or is over."""
        if not self.is_running and not self.is_over:
            self.waiters.restart()
            self._runner = asyncio.get_running_loop().create_task(self._run())

    def subscribe(self, listener: asyncio.Event, deadline_s: float) -> None:
        """Join those who wait: `listener` is set at every change, until `leave`."""
        self.waiters.subscribe(listener, deadline_s)

    @property
    def is_unsent(self) -> bool:
        """Whether surely nothing of it has reached RunAPI, so that it can still be given up without cost."""
        if self.request is None or self.request.maybe_sent or self.task_id is not None:
            return False
        is_ours = self.entry is None or self.entry.is_ours
        return is_ours and (self._submission is None or self._submission.is_unsent)

    @property
    def queued_for(self) -> QueuedFor | None:
        """What its POST waits for before it is sent, if it does."""
        return None if self._submission is None else self._submission.queued_for

    def unsubscribe(self, listener: asyncio.Event) -> None:
        """Stop waiting; the task itself goes on, unless nothing of it was sent and nobody else waits."""
        self.waiters.unsubscribe(listener)
        is_alone = not (self.is_over or self.waiters.is_waited_for)
        if is_alone and self.is_unsent and self._runner is not None:
            self._abandon_unsent()
            self._runner.cancel()
            return
        # In a session an equal call joins it anyway; without one, only because of this.
        if is_alone and self.entry is not None and self.entry.record.session is None:
            self.entry.orphan()

    def notify_finished(self) -> None:
        """Ask now: RunAPI's webhook says that the task is over."""
        self._finish_notified.set()
        self.waiters.wake()

    def force_resend(self) -> None:
        """Let a request whose answer was lost be sent once more, however long ago that was; the owner asked for it."""
        self._force_resend = True
        if self.request is not None:
            self.request = replace(self.request, maybe_sent=True)
        self.stage, self.error = "submitting", None

    async def stop(self) -> None:
        """Stop following; what RunAPI does is not changed by that."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    # ---- its own run -------------------------------------------------------------------------------------------------

    def _may_wait(self, delay_s: float) -> bool:
        is_resend = self._submission is not None and self._submission.maybe_sent
        if is_resend and not self._force_resend and self._deps.clock.now() + delay_s >= self._resend_until:
            return False
        if self.waiters.is_waited_for:
            return self.waiters.has_time_for(delay_s)
        # Nobody waits: go on only to find out what became of a POST whose answer was lost.
        return is_resend

    @property
    def _resend_until(self) -> float:
        begun = self.started_at if self.entry is None else self.entry.record.created_at
        return begun + self._deps.resend_window_s

    async def _run(self) -> None:
        try:
            if self.entry is not None and not self.entry.is_ours and not await self._watch(self.entry):
                return
            status_url = None if self.entry is None else self.entry.record.status_url
            retry_after_s: float | None = None
            if self.task_id is None and self.request is not None:
                accepted = await self._submit(self.request)
                if self.is_over:
                    return
                status_url, retry_after_s = accepted.answer.status_url, accepted.retry_after_s
            await self._follow(status_url, retry_after_s)
            if self.entry is not None and not self.is_over:
                self.entry.release(abandoned=True)
        except asyncio.CancelledError:
            if self.is_unsent and not self.is_over:
                self._abandon_unsent()
            raise
        except SubmissionError as exc:
            self._end("failed", error=exc.error, record_as=_RECORD_AS[exc.outcome], conflict=exc.conflict)
        except Flux2Error as exc:
            self._end("failed", error=exc)
        except Exception as exc:
            logger.exception("task %s: following it failed", self.task_id)
            self._end(
                "failed",
                error=InternalError(
                    f"following the task failed: {type(exc).__name__}",
                    hint="Please report this; get_image_task may still bring the image.",
                    task_id=self.task_id,
                    charged="unknown",
                ),
                record_as="unknown",
            )

    def _abandon_unsent(self) -> None:
        """End what was never sent, at once, so that no equal call can join it any more."""
        gone = CancelledCallError("The wait ended before the image was requested.", charged="no")
        self._end("failed", error=gone, record_as="not_created")

    async def _watch(self, entry: RecordHandle) -> bool:
        """Look on while another process takes care of the record; True once it is ours, False when it is over."""
        while not entry.take_over():
            before = (self.task_id, self.stage)
            self.restore_from_record(entry.refresh())
            self.log.heard += 1
            if (self.task_id, self.stage) != before or self.log.heard == 1:
                self.waiters.notify()
            if self.is_over or not await self._pause(WATCH_DELAY_S):
                return False
        self.restore_from_record(entry.record)
        return not self.is_over

    def restore_from_record(self, record: Record) -> None:
        """Bring this image task to where its record stands."""
        if record.task_id is not None and self.task_id is None:
            self.stage = "processing"
        self.task_id = record.task_id or self.task_id
        self.submitted_at = record.accepted_at
        self.finished_at = record.finished_at
        self.log.polls = max(self.log.polls, record.polls)
        self.log.request_id = record.request_id
        if record.task_id is not None and self.log.last_response is None:
            self.log.last_response = TaskResponse(phase="active", task_id=record.task_id)
        if record.state == "completed":
            links = tuple(ImageLink(url=url, expires_at=expires_at) for url, expires_at in record.images)
            self.final = TaskResponse(phase="completed", task_id=record.task_id, images=links, cost_usd=record.cost_usd)
            self.stage = "completed"
        elif record.state in ("failed", "not_created") and record.error is not None:
            self.error = error_from_code(*record.error, task_id=record.task_id, request_id=record.request_id)
            self.error.charged = "yes" if record.cost_usd else "no"
            self.stage = "failed"

    def _check_may_send(self) -> None:
        """Raise when an earlier POST of this request must not be repeated any more; asked before each one, because a
        machine may sleep for hours in any pause."""
        is_resend = self._submission is not None and self._submission.maybe_sent
        if not is_resend or self.entry is None or self._force_resend:
            return
        record = self.entry.record
        if record.conflict or self._deps.clock.now() >= self._resend_until:
            reason = "RunAPI answered 409 to it" if record.conflict else "too much time has passed to send it again"
            raise SubmissionError(
                UnexpectedAnswerError(
                    f"An equal request was sent at {iso_utc(record.created_at)} and its answer was lost; {reason}, so "
                    "whether its image was made and charged is not known.",
                    hint="Tell the user to look at the RunAPI dashboard. The operator can send it again with "
                    f"`flux2-tool resume --resend {record.record_id[:8]}`, or settle it with `flux2-tool tasks forget "
                    f"{record.record_id[:8]}`; another prompt makes a new image.",
                    charged="unknown",
                ),
                "unknown",
                conflict=record.conflict,
            )

    async def _submit(self, request: CreateRequest) -> AcceptedTask:
        submission = Submission(
            self.client,
            request,
            clock=self._deps.clock,
            random=self._deps.random,
            create_slots=self._deps.create_slots,
            may_wait=self._may_wait,
            is_wanted=lambda: self.waiters.is_waited_for,
            on_queued=self.waiters.notify,
            on_attempt=self._note_attempt,
        )
        self._submission = submission
        accepted = await submission.run()
        self.task_id = accepted.task_id
        self.submitted_at = self._deps.clock.now()
        self.stage = "processing"
        self.log.request_id, self.log.last_raw = accepted.request_id, accepted.raw
        if self.entry is not None:
            self.entry.accepted(accepted.task_id, status_url=accepted.answer.status_url, request_id=accepted.request_id)
        if self._deps.route == "auto":
            self._deps.memory.put(self.client.base_url, "create", accepted.route)
        self.log.last_response = accepted.answer
        if accepted.answer.phase == "failed" or (accepted.answer.phase == "completed" and accepted.answer.images):
            self._finish(accepted.answer)
        self.waiters.notify()
        return accepted

    def _note_attempt(self, attempt: int, route: contract.Route) -> None:
        self._check_may_send()
        self.attempt = attempt
        if self.entry is not None:
            self.entry.before_post(route)
        self.waiters.notify()

    async def _follow(self, status_url: str | None, retry_after_s: float | None) -> None:
        is_lookup = self.request is None
        poller = self._poller(status_url, is_lookup=is_lookup)
        is_fresh = self.attempt > 0
        asked_s = min(retry_after_s or 0.0, RETRY_AFTER_CEILING_S)
        delay_s = max(self.plan.delay_s(0.0), asked_s) if is_fresh else 0.0
        seen_running_s = self._deps.clock.monotonic()
        has_retry_after = asked_s > 0
        inbox, quick_polls = self._deps.webhook_inbox, 0
        said_before: str | None = None
        if inbox is not None and inbox.was_notified_of(self.task_id):
            self.notify_finished()
        while await self._pause(delay_s, has_retry_after=has_retry_after):
            is_notified, was_expected = self._finish_notified.is_set(), self._webhook_expected
            self._finish_notified.clear()
            outcome = await poller.poll()
            if isinstance(outcome, TaskResponse):
                if poller.path.action is not None and self.tool is None:
                    self.tool = poller.path.action
                self.model = self.model or outcome.model
                now_s = self._deps.clock.monotonic()
                if poller.is_terminal(outcome):
                    if inbox is not None and was_expected:
                        inbox.note_end(was_notified=is_notified or quick_polls > 0)
                    # It ended somewhere between the last two polls, or just now.
                    ended_ago_s = 0.0 if is_notified else (now_s - seen_running_s) / 2.0
                    is_known = is_fresh and ended_ago_s < MAX_GAP_S
                    self._finish(outcome, duration_s=max(0.0, self._age_s() - ended_ago_s) if is_known else None)
                    return
                seen_running_s = now_s
            elif is_lookup and not poller.proven and self.task_id is not None:
                lost = lookup_failure(poller.verdict_of_all_paths, outcome, task_id=self.task_id)
                if lost is not None:
                    raise lost
            said = outcome.status if isinstance(outcome, TaskResponse) else outcome.said
            self.waiters.notify(is_news=said != said_before)
            said_before = said
            delay_s = poller.delay_s(outcome, attended=self.waiters.is_waited_for)
            has_retry_after = poller.has_retry_after
            if (is_notified or quick_polls) and not has_retry_after:
                # The webhook was quicker than the service's own books.
                quick_s = EARLY_DELAY_S * 2.0**quick_polls
                delay_s, quick_polls = min(delay_s, quick_s), quick_polls + 1

    def _poller(self, status_url: str | None, *, is_lookup: bool) -> Poller:
        memory, base_url = self._deps.memory, self.client.base_url
        first = self._deps.route if self._deps.route != "auto" else memory.get(base_url, "create")
        if self.entry is not None:
            first = self.entry.record.route
        paths = poll_paths(
            self.task_id,
            actions=contract.ACTIONS if self.tool is None else (self.tool,),
            routes=sorted(contract.ROUTES, key=lambda route: route != first),  # the guide's first when none is known
            status_url=None if status_url is None else self.client.same_origin_url(status_url),
            remembered=memory.get(base_url, "poll"),
        )
        clock = self._deps.clock
        return Poller(
            self.client,
            paths,
            clock=clock,
            random=self._deps.random,
            log=self.log,
            plan=self.plan,
            task_id=self.task_id,
            accepted_at_s=float("-inf") if is_lookup else clock.monotonic() - self._age_s(),
            on_path_proven=lambda path: memory.put(base_url, "poll", path.template) if path.template else None,
        )

    def _age_s(self) -> float:
        return 0.0 if self.submitted_at is None else max(0.0, self._deps.clock.now() - self.submitted_at)

    async def _pause(self, delay_s: float, *, has_retry_after: bool = False) -> bool:
        """Wait before the next poll; False when nobody has waited for too long."""
        await self.waiters.pause(delay_s, unless=self._finish_notified, can_be_woken=not has_retry_after)
        return self.waiters.alone_s < UNATTENDED_LIFE_S

    @property
    def plan(self) -> PollSchedule:
        """When this task is polled."""
        return self._deps.poll_scheduler.plan(
            self.client.base_url, self.model, self.resolution, webhook_expected=self._webhook_expected
        )

    @property
    def _webhook_expected(self) -> bool:
        """Whether RunAPI will tell us of this task's end, as far as is known."""
        inbox = self._deps.webhook_inbox
        if inbox is None or not inbox.is_trusted:
            return False
        body = self.entry.record.body if self.entry is not None else self.request.body if self.request else b""
        return inbox.covers(body)

    @property
    def left_s(self) -> float | None:
        """How much longer it will probably take, in seconds; None when nobody can say."""
        expectation = self.plan.expectation
        return None if expectation is None or self.submitted_at is None else expectation.left_s(self._age_s())

    def _finish(self, answer: TaskResponse, *, duration_s: float | None = None) -> None:
        self.final = answer
        error = failure_of(answer, task_id=self.task_id, request_id=self.log.request_id)
        if error is None:
            if duration_s is not None:
                self._deps.poll_scheduler.learn(self.client.base_url, self.model, self.resolution, duration_s)
            self._end("completed", record_as="completed", duration_s=duration_s)
        else:
            # "Completed" without a picture may have been paid: it stays open to whoever asks again.
            is_failure = answer.phase == "failed"
            self._end("failed", error=error, record_as="failed" if is_failure else "unknown", abandoned=not is_failure)

    def _end(
        self,
        stage: Literal["completed", "failed"],
        *,
        error: Flux2Error | None = None,
        record_as: RecordState | None = None,
        conflict: bool = False,
        abandoned: bool = False,
        duration_s: float | None = None,
    ) -> None:
        self.stage = stage
        self.error = error
        self.finished_at = self._deps.clock.now()
        logger.info("task %s: %s after %d polls", self.task_id, error.code if error else stage, self.log.polls)
        if self.entry is not None and record_as is not None:
            answer = self.final
            self.entry.ended(
                record_as,
                images=[
                    (link.url, link.expires_at or url_expiry(link.url, self.finished_at))
                    for link in (() if answer is None else answer.images)
                ],
                cost_usd=None if answer is None else answer.cost_usd,
                error=None if error is None else (error.code, error.message),
                conflict=conflict,
                abandoned=abandoned,
                raw=self.raw_response,
                request_id=self.log.request_id,
                polls=self.log.polls,
                duration_s=duration_s,
            )
        self.waiters.notify()

    def expires_at(self, link: ImageLink) -> str | None:
        """Return when a link of this image task ends, in UTC; None while the image task is not over."""
        if self.finished_at is None:
            return link.expires_at
        return link.expires_at or url_expiry(link.url, self.finished_at)

    @property
    def saved(self) -> tuple[SavedCopy, ...]:
        """Copies of its pictures that are still on this machine."""
        copies = () if self.entry is None else self.entry.record.saved
        return tuple(copy for copy in copies if Path(copy.path).is_file())

    @property
    def raw_response(self) -> str | None:
        """RunAPI's last answer about the task as redacted JSON text, if there was one."""
        if self.log.last_raw is not None:
            return redact(self.log.last_raw, secrets=self.client.secrets)
        return None if self.entry is None else self.entry.record.raw
