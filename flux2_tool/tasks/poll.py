"""Poll one task's status: choose the path, interpret the response or failure, and choose the pause.

Only the task's own "failed" or "completed" ends an accepted task, and what `poll_ends.py` lists; after unknown paths,
statuses and fields, a response about another task and every transient failure it is polled again. Paths and statuses
are defined in `runapi/contract.py`, intervals in `poll_schedule.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from flux2_tool._net import is_loopback_url
from flux2_tool.runapi import contract
from flux2_tool.runapi.backoff import RETRY_AFTER_CEILING_S, backoff_s, parse_retry_after
from flux2_tool.runapi.client import HttpResponse, RunapiClient
from flux2_tool.runapi.error_mapping import is_key_refused, quoted_status
from flux2_tool.runapi.responses import (
    TaskResponse,
    UnreadableResponseError,
    decode_json,
    read_task,
    read_task_id,
    says_no_such_task,
)
from flux2_tool.runapi.send_errors import CrossOriginRedirectError, MaybeSentError, NotSentError, UnusableNetworkError
from flux2_tool.runapi.text import quoted
from flux2_tool.tasks.dependencies import TaskDependencies
from flux2_tool.tasks.poll_paths import PollPath
from flux2_tool.tasks.poll_schedule import (
    EMPTY_PATIENCE_S,
    FAILURES_BEFORE_LEAVING_PROVEN_PATH,
    FAILURES_BEFORE_NEXT_PATH,
    FIXED_DELAY_S,
    GRACE_DELAY_S,
    MIN_RETRY_AFTER_S,
    NEXT_PATH_DELAY_S,
    UNATTENDED_DELAY_S,
    VISIBILITY_GRACE_S,
    PollSchedule,
)

# not_found     this path has no such task
# unauthorized  RunAPI refused the key
# no_network    the machine's set-up leads nowhere, so nothing was sent
# transient     anything else; the next poll may succeed
PollFailureKind = Literal["not_found", "unauthorized", "no_network", "transient"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PollFailure:
    """Why a poll gave no status of the task.

    Attributes:
        is_denial: For not_found: a status says that there is no such task, and not only a missing page.
        hint: For no_network: what to do.
    """

    kind: PollFailureKind
    message: str
    request_id: str | None = None
    is_denial: bool = False
    hint: str = ""


@dataclass(slots=True)
class PollLog:
    """The results of polling so far; shared with the ImageTask and the result builder.

    Attributes:
        polls: The number of polls sent.
        responses: The number of polls that have ended, with a status or a failure.
        action: The action in the path that has the task, if it has one.
        model: The model in RunAPI's response.
        last_raw: The last response as decoded JSON.
    """

    polls: int = 0
    responses: int = 0
    action: contract.Action | None = None
    model: str | None = None
    last_response: TaskResponse | None = None
    last_raw: Any = None
    last_failure: PollFailure | None = None
    request_id: str | None = None
    unknown_statuses: list[str] = field(default_factory=list)


class Poller:
    """Polls one task.

    Args:
        client: The account's client.
        paths: The possible paths of its status, the likeliest first; at least one.
        dependencies: Clock, jitter, and the cache of paths that worked.
        log: Updated by each poll.
        schedule: Returns when to poll by what is known now, unless a Retry-After or a failure decides it.
        task_id: The task's id, None when it has none.
        accepted_at_s: When the task was accepted, on the monotonic clock; a 404 soon after may mean "not visible yet".
    """

    def __init__(
        self,
        client: RunapiClient,
        paths: Sequence[PollPath],
        *,
        dependencies: TaskDependencies,
        log: PollLog,
        schedule: Callable[[], PollSchedule],
        task_id: str | None,
        accepted_at_s: float,
    ) -> None:
        self._client = client
        self._paths = list(paths)
        self._clock = dependencies.clock
        self._random = dependencies.random
        self._route_cache = dependencies.route_cache
        self._log = log
        self._schedule = schedule
        self._task_id = task_id
        self._accepted_at_s = accepted_at_s
        self._started_s = self._clock.monotonic()
        self._index = 0
        self._is_path_proven = False
        self._path_failures = 0
        self._failures = 0
        self._moves = 0
        self._empty_since_s: float | None = None
        self._retry_after_s: float | None = None
        self._path_verdicts: dict[int, PollFailureKind] = {}

    @property
    def is_path_proven(self) -> bool:
        """Whether the path to poll next has returned this task's status before."""
        return self._is_path_proven

    @property
    def verdict_of_all_paths(self) -> PollFailureKind | None:
        """How polling failed at all paths: "unauthorized" if any refused the key, else "not_found"; None while one was
        not polled yet or failed transiently."""
        kinds = set(self._path_verdicts.values())
        if len(self._path_verdicts) < len(self._paths) or not kinds <= {"unauthorized", "not_found"}:
            return None
        return "unauthorized" if "unauthorized" in kinds else "not_found"

    @property
    def has_retry_after(self) -> bool:
        """Whether the last response had a Retry-After."""
        return self._retry_after_s is not None

    async def poll(self) -> TaskResponse | PollFailure:
        """Poll once and log the result; after a failure the next poll may use another path."""
        self._log.polls += 1
        path = self._paths[self._index]
        outcome = await self._request(path)
        if isinstance(outcome, TaskResponse) and self._is_doubtful(outcome, path):
            # It proves nothing, so that a lookup comes back to it before it calls the task unknown.
            outcome = PollFailure(
                kind="transient",
                message=f"another page's {quoted(outcome.status or '', 60)}",
                request_id=self._log.request_id,
            )
        self._log.responses += 1
        if isinstance(outcome, PollFailure):
            self._log.last_failure = outcome
            self._log.request_id = outcome.request_id or self._log.request_id
            self._choose_next_path(outcome)
            return outcome
        self._failures = self._path_failures = self._moves = 0
        self._log.last_response, self._log.last_failure = outcome, None
        self._log.action = self._log.action or path.action
        self._log.model = self._log.model or outcome.model
        if outcome.phase == "unknown" and outcome.status and outcome.status not in self._log.unknown_statuses:
            self._log.unknown_statuses.append(outcome.status)
        if not self._is_path_proven:
            self._is_path_proven = True
            if path.template is not None:
                self._route_cache.put(self._client.base_url, "poll", path.template, service=path.service)
        return outcome

    def _is_doubtful(self, response: TaskResponse, path: PollPath) -> bool:
        """Whether a final status without images may be the request's rather than the task's: it is from a guessed path
        and does not name the task, and another path may have the task.

        The first path is a guess as well, until it has had a task here: nobody documents the guide route's.
        """
        known = self._route_cache.get(self._client.base_url, "poll", service=path.service)
        is_guess = not self._is_path_proven and path.template not in (None, known)
        is_end = response.phase in ("failed", "completed") and not response.images
        names_task = response.task_id is not None and response.task_id == self._task_id
        polled = set(self._path_verdicts) | {self._index}
        return is_guess and is_end and not names_task and len(polled) < len(self._paths)

    def is_terminal(self, response: TaskResponse) -> bool:
        """Return whether a response ends the task; "completed" without an image only after EMPTY_PATIENCE_S."""
        if response.phase == "failed" or (response.phase == "completed" and response.images):
            return True
        if response.phase != "completed":
            self._empty_since_s = None
            return False
        now_s = self._clock.monotonic()
        self._empty_since_s = now_s if self._empty_since_s is None else self._empty_since_s
        return now_s - self._empty_since_s >= EMPTY_PATIENCE_S

    def delay_s(self, outcome: TaskResponse | PollFailure, *, attended: bool) -> float:
        """Return the pause before the next poll, in seconds; Retry-After takes precedence, up to its ceiling.

        Args:
            attended: Whether any call waits for the task.
        """
        elapsed_s = self._clock.monotonic() - self._accepted_at_s
        retry_after_s = self._retry_after_s
        if isinstance(outcome, TaskResponse):
            if retry_after_s is None:
                return self._scheduled_s(elapsed_s) if attended else UNATTENDED_DELAY_S
            return min(max(retry_after_s, MIN_RETRY_AFTER_S), RETRY_AFTER_CEILING_S)
        own_s = self._failure_delay_s(outcome, elapsed_s) if attended else UNATTENDED_DELAY_S
        return max(own_s, min(retry_after_s or 0.0, RETRY_AFTER_CEILING_S))

    def replanned_delay_s(self) -> float:
        """Return the pause from now, in seconds, when the schedule has changed: any part of the fixed interval, so that
        the tasks that it concerns are not polled together."""
        return FIXED_DELAY_S * self._random.random()

    def _scheduled_s(self, elapsed_s: float) -> float:
        if not math.isfinite(elapsed_s):
            # The age of a task that was created elsewhere is unknown: count from the first poll.
            elapsed_s = self._clock.monotonic() - self._started_s
        return self._schedule().delay_s(elapsed_s, jitter=2.0 * self._random.random() - 1.0)

    def _failure_delay_s(self, failure: PollFailure, elapsed_s: float) -> float:
        """Return a short pause before the next path, and back off after each round in which all paths failed."""
        rounds, index_in_round = divmod(self._moves, len(self._paths))
        if self._path_failures == 0 and index_in_round > 0:
            return NEXT_PATH_DELAY_S
        if failure.kind == "not_found":
            if elapsed_s < VISIBILITY_GRACE_S:
                return GRACE_DELAY_S
            return backoff_s(max(1, rounds), random=self._random)
        if failure.kind in ("unauthorized", "no_network"):
            return backoff_s(max(1, self._path_failures), random=self._random)
        return backoff_s(max(1, self._failures - len(self._paths)), random=self._random)

    async def _request(self, path: PollPath) -> TaskResponse | PollFailure:
        self._retry_after_s = None
        try:
            response = await self._client.send("GET", path.reference)
        except UnusableNetworkError as exc:
            return PollFailure(kind="no_network", message=str(exc), hint=exc.hint)
        except (NotSentError, MaybeSentError) as exc:
            return PollFailure(kind="transient", message=str(exc))
        except CrossOriginRedirectError as exc:
            return PollFailure(kind="not_found", message=str(exc))
        if "retry-after" in response.headers:
            now = datetime.fromtimestamp(self._clock.now(), tz=UTC)
            self._retry_after_s = parse_retry_after(response.headers["retry-after"], now=now)
        if not 200 <= response.status_code < 300:
            return self._failure_of(response)
        status, request_id = f"HTTP {response.status_code}", response.request_id
        try:
            body = decode_json(response.body, response.content_type)
        except UnreadableResponseError as exc:
            return PollFailure(kind="transient", message=f"{status} with {exc}", request_id=request_id)
        task = read_task(body, https_only=not is_loopback_url(self._client.base_url))
        if not task.is_about_a_task:
            message = f"{status} with JSON that names neither a status nor a task"
            return PollFailure(kind="transient", message=message, request_id=request_id)
        named = read_task_id({}, response.headers.get(contract.TASK_ID_HEADER))
        ids = task.ids if named is None else task.ids | {named}
        if self._task_id is not None and ids and self._task_id.lower() not in {one.lower() for one in ids}:
            return PollFailure(kind="transient", message=f"{status} about another task", request_id=request_id)
        if says_no_such_task(task):
            message = f'the status "{task.status}"'
            return PollFailure(kind="not_found", message=message, request_id=request_id, is_denial=True)
        self._log.last_raw, self._log.request_id = body, request_id
        return task

    def _failure_of(self, response: HttpResponse) -> PollFailure:
        kind: PollFailureKind = "transient"
        if response.status_code in contract.ROUTE_MISSING_CODES:
            kind = "not_found"
        elif is_key_refused(response):
            kind = "unauthorized"
        return PollFailure(kind=kind, message=quoted_status(response), request_id=response.request_id)

    def _choose_next_path(self, failure: PollFailure) -> None:
        """Leave a path after several failures if it is proven or the task is new, else after few."""
        self._failures += 1
        self._path_failures += 1
        self._path_verdicts[self._index] = failure.kind
        if len(self._paths) > 1 and self._path_failures >= self._failures_allowed(failure):
            self._index = (self._index + 1) % len(self._paths)
            self._moves += 1
            self._path_failures = 0
            self._is_path_proven = False

    def _failures_allowed(self, failure: PollFailure) -> int:
        if self._is_path_proven:
            return FAILURES_BEFORE_LEAVING_PROVEN_PATH
        if failure.kind == "not_found":
            is_new = self._clock.monotonic() - self._accepted_at_s < VISIBILITY_GRACE_S
            return FAILURES_BEFORE_LEAVING_PROVEN_PATH if is_new else 1
        # A path that returns Retry-After is likely to be the right one.
        return FAILURES_BEFORE_NEXT_PATH if self._retry_after_s is None else FAILURES_BEFORE_LEAVING_PROVEN_PATH
