"""Follow an accepted task to its end: poll its status, pause, and poll at once when a webhook arrives."""

from __future__ import annotations

from dataclasses import dataclass

from flux2_tool.journal import Record
from flux2_tool.runapi import contract
from flux2_tool.runapi.backoff import RETRY_AFTER_CEILING_S
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.responses import TaskResponse
from flux2_tool.runapi.services import service_of
from flux2_tool.tasks.dependencies import TaskDependencies
from flux2_tool.tasks.poll import Poller, PollFailure, PollLog
from flux2_tool.tasks.poll_ends import EarlyEnd, lookup_failure
from flux2_tool.tasks.poll_paths import poll_paths
from flux2_tool.tasks.poll_schedule import EARLY_WEBHOOK_DELAY_S, MAX_GAP_S, PollSchedule
from flux2_tool.tasks.poll_scheduler import TaskKind, kind_of
from flux2_tool.tasks.waiters import Waiters


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedTask:
    """The task to follow.

    Attributes:
        task_id: None when RunAPI returned no id; then only its status URL is polled.
        record: Its record; None when it was created elsewhere and is only looked up.
        status_url: The status URL from the create response.
        submitted_at: When RunAPI accepted it, on the wall clock, if known.
        is_submitted_here: Whether this process sent its POST, so that its duration can be measured.
        retry_after_s: The create response's Retry-After, in seconds.
    """

    task_id: str | None
    record: Record | None
    status_url: str | None = None
    submitted_at: float | None = None
    is_submitted_here: bool = False
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnd:
    """The response that ended a task, and the task's duration in seconds, if polling can measure it."""

    response: TaskResponse
    duration_s: float | None


class Follower:
    """Polls one task until it ends or has been unattended for too long.

    Args:
        client: The account's client.
        task: The task to follow.
        dependencies: Clock, schedules, webhooks, and the cache of paths that worked.
        log: Updated by each poll.
        waiters: The waiting calls, notified of each change; without any, polling is slow and limited in time.
    """

    def __init__(
        self,
        client: RunapiClient,
        task: FollowedTask,
        *,
        dependencies: TaskDependencies,
        log: PollLog,
        waiters: Waiters,
    ) -> None:
        self._client = client
        self._task = task
        self._deps = dependencies
        self._log = log
        self._waiters = waiters
        self._body = b"" if task.record is None else task.record.body
        self._seen_running_s = dependencies.clock.monotonic()
        self._polls_since_webhook = 0
        self._last_status: str | None = None
        record = task.record
        self._kind: TaskKind | None = None
        if record is not None:
            self._kind = kind_of(client.base_url, record.model, record.resolution)
        self._planned = dependencies.poll_scheduler.begun(self._kind)
        self._is_replanned = False
        self._has_outlived = False

    async def run(self) -> TaskEnd | None:
        """Poll until the task ends; return None when no call has waited for UNATTENDED_LIFE_S.

        Raises:
            TaskNotFoundError: The task was created elsewhere, and no path has it; or RunAPI denies it again and again.
            AuthenticationError: RunAPI refuses the key again and again.
            ConfigurationError: The network's settings or certificates lead nowhere, again and again.
        """
        with self._deps.poll_scheduler.told(self._kind, self._replan):
            return await self._poll_to_the_end(self._poller())

    async def _poll_to_the_end(self, poller: Poller) -> TaskEnd | None:
        retry_after_s = min(self._task.retry_after_s or 0.0, RETRY_AFTER_CEILING_S)
        delay_s = max(self._schedule().delay_s(0.0), retry_after_s) if self._task.is_submitted_here else 0.0
        has_retry_after = retry_after_s > 0
        early_end = EarlyEnd(self._task.task_id)
        inbox = self._deps.webhook_inbox
        if inbox is not None and inbox.was_notified_of(self._task.task_id):
            self._waiters.notify_finished()
        while await self._pause(poller, delay_s, can_be_woken=not has_retry_after):
            is_notified = self._waiters.finish_notified.is_set()
            was_webhook_expected = self._deps.webhook_trust(self._body) != "none"
            self._waiters.finish_notified.clear()
            was_path_proven = poller.is_path_proven
            outcome = await poller.poll()
            if isinstance(outcome, TaskResponse):
                if poller.is_terminal(outcome):
                    if inbox is not None and was_webhook_expected:
                        inbox.note_end(was_notified=is_notified or self._polls_since_webhook > 0)
                    return TaskEnd(response=outcome, duration_s=self._duration_s(is_notified=is_notified))
                self._seen_running_s = self._deps.clock.monotonic()
                self._note_outlived()
            else:
                self._check_lookup(poller, outcome)
            self._notify(outcome)
            error = early_end.error_after(
                outcome, was_path_proven=was_path_proven, verdict=poller.verdict_of_all_paths, age_s=self._age_s()
            )
            if error is not None:
                raise error
            delay_s = poller.delay_s(outcome, attended=self._waiters.has_waiters)
            has_retry_after = poller.has_retry_after
            if (is_notified or self._polls_since_webhook) and not has_retry_after:
                # The webhook arrived before the status changed.
                delay_s = min(delay_s, EARLY_WEBHOOK_DELAY_S * 2.0**self._polls_since_webhook)
                self._polls_since_webhook += 1
        return None

    async def _pause(self, poller: Poller, delay_s: float, *, can_be_woken: bool) -> bool:
        """Pause, for less when the schedule is put in doubt meanwhile, for more when webhooks prove to arrive; see
        `Waiters.pause`."""
        self._is_replanned = False
        was_webhook_unproven = self._deps.webhook_trust(self._body) == "expected"
        due_s = self._deps.clock.monotonic() + delay_s
        goes_on = await self._waiters.pause(delay_s, can_be_woken=can_be_woken)
        left_s = due_s - self._deps.clock.monotonic()
        if self._is_replanned and can_be_woken and goes_on and left_s > 0:
            return await self._waiters.pause(min(left_s, poller.replanned_delay_s()))
        if was_webhook_unproven and can_be_woken and goes_on and left_s <= 0:
            overdue_in_s = self._schedule().overdue_in_s(self._age_s())
            if overdue_in_s > 0:
                # Another task's webhook was the first to arrive, so this one's can be waited for.
                return await self._waiters.pause(overdue_in_s)
        return goes_on

    def _replan(self) -> None:
        """End the pause: what it was planned by is in doubt."""
        if self._waiters.has_waiters and self._deps.webhook_trust(self._body) == "none":
            self._is_replanned = True
            self._waiters.wake()

    def _note_outlived(self) -> None:
        """Tell the others of its kind, once, that this task outlives what was expected of them."""
        if self._task.is_submitted_here and not self._has_outlived:
            self._has_outlived = self._deps.poll_scheduler.outlived(self._kind, self._age_s())

    def _schedule(self) -> PollSchedule:
        return self._deps.following(self._planned(), self._body)

    def _poller(self) -> Poller:
        task, deps, base_url = self._task, self._deps, self._client.base_url
        services = contract.SERVICES if task.record is None else (service_of(task.record.model),)
        first_route = deps.route if deps.route != "auto" else deps.route_cache.get(base_url, "create")
        action = self._log.action
        if task.record is not None:
            first_route, action = task.record.route, task.record.tool
        paths = poll_paths(
            task.task_id,
            services=services,
            actions=contract.ACTIONS if action is None else (action,),
            # The guide's route is first when none is known.
            routes=sorted(contract.ROUTES, key=lambda route: route != first_route),
            status_url=None if task.status_url is None else self._client.same_origin_url(task.status_url),
            remembered=deps.route_cache.get(base_url, "poll", service=services[0].name),
        )
        return Poller(
            self._client,
            paths,
            dependencies=deps,
            log=self._log,
            schedule=self._schedule,
            task_id=task.task_id,
            accepted_at_s=float("-inf") if task.record is None else deps.clock.monotonic() - self._age_s(),
        )

    def _age_s(self) -> float:
        submitted_at = self._task.submitted_at
        return 0.0 if submitted_at is None else max(0.0, self._deps.clock.now() - submitted_at)

    def _duration_s(self, *, is_notified: bool) -> float | None:
        gap_s = self._deps.clock.monotonic() - self._seen_running_s
        if not self._task.is_submitted_here:
            return None
        latest_s = self._age_s()
        if is_notified:
            return latest_s
        # It ended between the last two polls, which were far apart where no call waited.
        if gap_s >= 2.0 * MAX_GAP_S:
            return None
        earliest_s = max(0.0, latest_s - gap_s)
        expectation = self._schedule().expectation
        return (earliest_s + latest_s) / 2.0 if expectation is None else expectation.within_s(earliest_s, latest_s)

    def _check_lookup(self, poller: Poller, failure: PollFailure) -> None:
        """Raise when a task that was created elsewhere cannot be found at any path."""
        task_id = self._task.task_id
        if self._task.record is not None or poller.is_path_proven or task_id is None:
            return
        error = lookup_failure(poller.verdict_of_all_paths, failure, task_id=task_id)
        if error is not None:
            raise error

    def _notify(self, outcome: TaskResponse | PollFailure) -> None:
        status = outcome.status if isinstance(outcome, TaskResponse) else outcome.message
        self._waiters.notify(has_changed=status != self._last_status)
        self._last_status = status
