"""Follow one task to its end: where to ask, when to ask again, and what never ends it.

Once a task was accepted, only its own "failed" or a "completed" without any picture ends it; unknown paths, statuses
and fields and every passing trouble only mean "ask again", until whoever waits stops waiting. The order of paths and
the words for statuses stand in `wire.py`.
"""

from __future__ import annotations

import logging
import math
import random as random_module
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import quote

from flux2_tool._clock import Clock
from flux2_tool._net import is_loopback_url
from flux2_tool.exceptions import Flux2Error, TaskNotFoundError
from flux2_tool.runapi import contract
from flux2_tool.runapi.backoff import RETRY_AFTER_CEILING_S, backoff_s, parse_retry_after
from flux2_tool.runapi.client import CrossOriginRedirectError, HttpResponse, MaybeSentError, NotSentError, RunapiClient
from flux2_tool.runapi.error_mapping import key_refused, quoted_status
from flux2_tool.runapi.responses import TaskResponse, UnreadableResponseError, decode_json, read_task
from flux2_tool.tasks.poll_schedule import PollSchedule

logger = logging.getLogger(__name__)

VISIBILITY_GRACE_S: Final = 3.0
GRACE_DELAY_S: Final = 0.75
NEXT_PATH_DELAY_S: Final = 0.1
# A server that says "ask again at once" is not asked more often than this.
SHORTEST_HINT_S: Final = 0.5
EMPTY_PATIENCE_S: Final = 15.0
UNATTENDED_DELAY_S: Final = 8.0
FAILURES_BEFORE_NEXT_PATH: Final = 2
FAILURES_BEFORE_LEAVING_PROVEN_PATH: Final = 5

PollFailureKind = Literal["missing", "refused", "passing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPath:
    """One place where a task's status may be.

    Attributes:
        template: As in `wire.py`, with the action filled in; None for a status URL the service gave.
        action: The action the path names, if it names one.
        reference: What is asked: a path, or a URL of the same origin.
    """

    template: str | None
    action: contract.Action | None
    reference: str


def poll_paths(
    task_id: str | None,
    *,
    actions: Sequence[contract.Action],
    routes: Sequence[contract.Route],
    status_url: str | None = None,
    remembered: str | None = None,
) -> tuple[PollPath, ...]:
    """Return every place to ask for a task, best first.

    Args:
        task_id: The task; None leaves only the status URL.
        actions: The action that made it, or both when that is not known.
        routes: The route that accepted it first.
        status_url: A same-origin status URL from the create answer.
        remembered: The template that answered for this base URL before.
    """
    found = [] if status_url is None else [PollPath(template=None, action=None, reference=status_url)]
    if task_id is None:
        return tuple(found)
    segment = quote(task_id, safe="")
    templates: list[tuple[str, contract.Action | None]] = [
        (contract.CREATE_PATHS[route] + "/{id}", action) for route in routes for action in actions
    ]
    templates += [(template, None) for template in contract.TASK_PATHS]
    if remembered is not None:
        templates.sort(key=lambda item: item[0] != remembered)
    for template, action in templates:
        reference = template.replace("{action}", action or "").replace("{id}", segment)
        found.append(PollPath(template=template, action=action, reference=reference))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class PollFailure:
    """Why a poll told nothing about the task."""

    kind: PollFailureKind
    said: str
    request_id: str | None = None


@dataclass(slots=True)
class PollLog:
    """What polling has seen so far; shared with whoever reports on the task. `heard` counts the polls that ended."""

    polls: int = 0
    heard: int = 0
    last_response: TaskResponse | None = None
    last_raw: Any = None
    last_failure: PollFailure | None = None
    request_id: str | None = None
    unknown_statuses: list[str] = field(default_factory=list)


class Poller:
    """Asks for one task until it ends.

    Args:
        client: Where to ask.
        paths: Places to ask, best first; at least one.
        clock: Measures.
        random: Jitter.
        log: Filled as polling goes on.
        accepted_at_s: When the task was accepted, on the monotonic clock; a 404 soon after means "not visible yet".
        plan: When to ask, as far as nothing else decides it.
        task_id: The task asked for, as far as it has an id.
        on_path_proven: Told the template that answered, to remember it.
    """

    def __init__(
        self,
        client: RunapiClient,
        paths: Sequence[PollPath],
        *,
        clock: Clock,
        random: random_module.Random,
        log: PollLog,
        accepted_at_s: float,
        plan: PollSchedule,
        task_id: str | None = None,
        on_path_proven: Callable[[PollPath], None] = lambda _path: None,
    ) -> None:
        self._client = client
        self._paths = list(paths)
        self._clock = clock
        self._random = random
        self._log = log
        self._accepted_at_s = accepted_at_s
        self._asked_since_s = clock.monotonic()
        self._on_path_proven = on_path_proven
        self._plan = plan
        self._task_id = task_id
        self._index = 0
        self._proven = False
        self._failures_here = 0
        self._failures = 0
        self._moves = 0
        self._empty_since_s: float | None = None
        self._retry_after_s: float | None = None
        self._seen: dict[int, PollFailureKind] = {}

    @property
    def proven(self) -> bool:
        """Whether the place asked next has told about this task."""
        return self._proven

    @property
    def verdict_of_all_paths(self) -> PollFailureKind | None:
        """What every place said when each was asked in vain: "missing", "refused" where any refused the key, or
        None while one was not asked yet or had a passing trouble."""
        kinds = set(self._seen.values())
        if len(self._seen) < len(self._paths) or "passing" in kinds:
            return None
        return "refused" if "refused" in kinds else "missing"

    @property
    def has_retry_after(self) -> bool:
        """Whether the server itself said when to ask again."""
        return self._retry_after_s is not None

    @property
    def path(self) -> PollPath:
        """The place that is asked next."""
        return self._paths[self._index]

    async def poll(self) -> TaskResponse | PollFailure:
        """Ask once. The answer is also kept in the log; a trouble moves on to the next place when this one fails."""
        self._log.polls += 1
        path = self.path
        outcome = await self._ask(path)
        if isinstance(outcome, TaskResponse) and self._is_doubtful(outcome):
            outcome = PollFailure(
                kind="missing", said=f'another page\'s "{outcome.status}"', request_id=self._log.request_id
            )
        self._log.heard += 1
        if isinstance(outcome, PollFailure):
            self._log.last_failure = outcome
            self._log.request_id = outcome.request_id or self._log.request_id
            self._move_on(outcome)
            return outcome
        self._failures = self._failures_here = self._moves = 0
        self._log.last_response, self._log.last_failure = outcome, None
        if outcome.phase == "unknown" and outcome.status and outcome.status not in self._log.unknown_statuses:
            self._log.unknown_statuses.append(outcome.status)
        if not self._proven:
            self._proven = True
            self._on_path_proven(path)
        return outcome

    def _is_doubtful(self, answer: TaskResponse) -> bool:
        """Whether an end without pictures may be about the request rather than the task: an answer that names no task,
        at a place that is only a guess, while another place may still have it."""
        is_guess = self._index > 0 and not self._proven and self.path.template is not None
        is_end = answer.phase in ("failed", "completed") and not answer.images
        names_task = answer.task_id is not None and answer.task_id == self._task_id
        seen_elsewhere = set(self._seen) | {self._index}
        return is_guess and is_end and not names_task and len(seen_elsewhere) < len(self._paths)

    def is_terminal(self, answer: TaskResponse) -> bool:
        """Return whether an answer ends the task; "completed" without a picture does so only after some patience."""
        if answer.phase == "failed" or (answer.phase == "completed" and answer.images):
            return True
        if answer.phase != "completed":
            self._empty_since_s = None
            return False
        now_s = self._clock.monotonic()
        self._empty_since_s = now_s if self._empty_since_s is None else self._empty_since_s
        return now_s - self._empty_since_s >= EMPTY_PATIENCE_S

    def delay_s(self, outcome: TaskResponse | PollFailure, *, attended: bool) -> float:
        """Return the pause before the next poll, in seconds; the server's own hint wins, within a ceiling."""
        elapsed_s = self._clock.monotonic() - self._accepted_at_s
        asked_s = self._retry_after_s
        if isinstance(outcome, TaskResponse):
            if asked_s is None:
                return self._planned_s(elapsed_s) if attended else UNATTENDED_DELAY_S
            return min(max(asked_s, SHORTEST_HINT_S), RETRY_AFTER_CEILING_S)
        own_s = self._delay_after_trouble_s(outcome, elapsed_s) if attended else UNATTENDED_DELAY_S
        return max(own_s, min(asked_s or 0.0, RETRY_AFTER_CEILING_S))

    def _planned_s(self, elapsed_s: float) -> float:
        if not math.isfinite(elapsed_s):
            # Of a task begun elsewhere nobody knows the age: it counts from the first question.
            elapsed_s = self._clock.monotonic() - self._asked_since_s
        # So that many tasks that were begun together do not ask together.
        return self._plan.delay_s(elapsed_s) * (0.95 + 0.1 * self._random.random())

    def _delay_after_trouble_s(self, trouble: PollFailure, elapsed_s: float) -> float:
        """Go through the places quickly, and back off after each full round in vain."""
        rounds, place = divmod(self._moves, len(self._paths))
        if self._failures_here == 0 and place > 0:
            return NEXT_PATH_DELAY_S
        if trouble.kind == "missing":
            if elapsed_s < VISIBILITY_GRACE_S:
                return GRACE_DELAY_S
            return backoff_s(max(1, rounds), random=self._random)
        return backoff_s(max(1, self._failures - len(self._paths)), random=self._random)

    async def _ask(self, path: PollPath) -> TaskResponse | PollFailure:
        self._retry_after_s = None
        try:
            answer = await self._client.send("GET", path.reference)
        except (NotSentError, MaybeSentError) as exc:
            return PollFailure(kind="passing", said=str(exc))
        except CrossOriginRedirectError as exc:
            return PollFailure(kind="missing", said=str(exc))
        now = datetime.fromtimestamp(self._clock.now(), tz=UTC)
        self._retry_after_s = parse_retry_after(answer.headers.get("retry-after"), now=now)
        if not 200 <= answer.status_code < 300:
            return self._trouble_of(answer)
        try:
            body = decode_json(answer.body, answer.content_type)
        except UnreadableResponseError as exc:
            return PollFailure(
                kind="passing", said=f"HTTP {answer.status_code} with {exc}", request_id=answer.request_id
            )
        task = read_task(body, https_only=not is_loopback_url(self._client.base_url))
        if not task.is_about_a_task:
            return PollFailure(
                kind="passing",
                said=f"HTTP {answer.status_code} with JSON that names neither a status nor a task",
                request_id=answer.request_id,
            )
        self._log.last_raw, self._log.request_id = body, answer.request_id
        return task

    def _trouble_of(self, answer: HttpResponse) -> PollFailure:
        kind: PollFailureKind = "passing"
        if answer.status_code in contract.ROUTE_MISSING_CODES:
            kind = "missing"
        elif answer.status_code in contract.KEY_REFUSED_CODES:
            kind = "refused"
        return PollFailure(kind=kind, said=quoted_status(answer), request_id=answer.request_id)

    def _move_on(self, trouble: PollFailure) -> None:
        """Choose the next place: a proven one is left late, an unproven one soon, a new task's 404 not at once."""
        self._failures += 1
        self._failures_here += 1
        self._seen[self._index] = trouble.kind
        if len(self._paths) > 1 and self._failures_here >= self._patience_with(trouble):
            self._index = (self._index + 1) % len(self._paths)
            self._moves += 1
            self._failures_here = 0
            self._proven = False

    def _patience_with(self, trouble: PollFailure) -> int:
        if self._proven:
            return FAILURES_BEFORE_LEAVING_PROVEN_PATH
        if trouble.kind == "missing":
            is_new = self._clock.monotonic() - self._accepted_at_s < VISIBILITY_GRACE_S
            return FAILURES_BEFORE_LEAVING_PROVEN_PATH if is_new else 1
        # Whoever says when to come back is likely to be the right place.
        return FAILURES_BEFORE_NEXT_PATH if self._retry_after_s is None else FAILURES_BEFORE_LEAVING_PROVEN_PATH


def lookup_failure(verdict: PollFailureKind | None, trouble: PollFailure, *, task_id: str) -> Flux2Error | None:
    """Return why a task nobody here has begun cannot be found, or None while it may still turn up.

    Args:
        verdict: What all places together said, from `Poller.verdict_of_all_paths`.
        trouble: The last of it.
        task_id: The task that is looked for.
    """
    if verdict == "missing":
        return TaskNotFoundError(
            f"RunAPI knows no task {task_id} under this key: no status path has it.",
            hint="Check the task id; it is in the result of the call that made the image.",
            request_id=trouble.request_id,
        )
    if verdict == "refused":
        error = key_refused(trouble.said, account="the account that made the task")
        error.task_id, error.request_id, error.charged = task_id, trouble.request_id, "unknown"
        return error
    return None
