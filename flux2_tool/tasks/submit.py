"""Get one image task accepted by RunAPI, once.

A POST is repeated only byte-identical and under its first Idempotency-Key. The other route is tried only after an
answer that means "no such route", and never while an earlier attempt may have arrived. Every way out says whether
something may have been created, because that decides whether money may have been spent.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from flux2_tool._clock import Clock
from flux2_tool._net import is_loopback_url
from flux2_tool.exceptions import (
    PROBE_HINT,
    CancelledCallError,
    Charged,
    Flux2Error,
    InvalidArgumentsError,
    ServiceUnavailableError,
    UnexpectedAnswerError,
)
from flux2_tool.runapi import contract
from flux2_tool.runapi.backoff import RETRY_AFTER_CEILING_S, backoff_s, parse_retry_after
from flux2_tool.runapi.client import CrossOriginRedirectError, HttpResponse, MaybeSentError, NotSentError, RunapiClient
from flux2_tool.runapi.error_mapping import SAFE_AGAIN, error_from_response, quoted_status
from flux2_tool.runapi.rate_limit import ConcurrencyLimiter
from flux2_tool.runapi.responses import (
    TaskResponse,
    UnreadableResponseError,
    decode_json,
    is_task_id,
    read_task,
    read_task_id,
)
from flux2_tool.runapi.text import printable

logger = logging.getLogger(__name__)

MAX_FAILURES: Final = 6
MAX_UNREADABLE: Final = 3

# What a POST waits for before it is sent: one of the places, or the account's turn after a 429.
QueuedFor = Literal["place", "rate"]
# What is known of the task when a submission fails: surely none, or perhaps one.
Outcome = Literal["not created", "unknown"]

_CHECK_BASE_URL: Final = f"Check the base URL. {PROBE_HINT}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """Everything a create POST is made of, fixed before the first attempt.

    Attributes:
        action: The RunAPI action.
        body: The exact bytes of every attempt.
        idempotency_key: Opaque, one per image_task.
        client_request_id: Echoed and stored by the service, for its support.
        routes: The routes that may be tried, in order.
        maybe_sent: Whether an earlier process may already have delivered this very request.
    """

    action: contract.Action
    body: bytes
    idempotency_key: str
    client_request_id: str
    routes: Sequence[contract.Route]
    maybe_sent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedTask:
    """RunAPI took the task. `task_id` is None only when it answered the finished pictures at once without an id."""

    task_id: str | None
    route: contract.Route
    answer: TaskResponse
    raw: Any
    request_id: str | None
    retry_after_s: float | None


class SubmissionError(Exception):
    """No task was accepted as far as we know; `error` is for the caller, `outcome` for the books.

    `conflict` says that RunAPI answered 409, so that sending it again cannot clear up what happened.
    """

    def __init__(self, error: Flux2Error, outcome: Outcome, *, conflict: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.outcome: Outcome = outcome
        self.conflict = conflict


class Submission:
    """One create request on its way.

    Args:
        client: Where it goes.
        request: What goes.
        clock: Measures and waits.
        random: Jitter of the back-off.
        create_slots: Each POST takes one while it is in flight.
        may_wait: Asked before each pause with its length in seconds; False ends the submission.
        is_wanted: Asked before each POST; False ends a submission of which nothing can have arrived.
        on_queued: Told when a POST has to wait for its turn.
        on_attempt: Told the attempt's number before each POST, for progress and the books; a Flux2Error it raises
            stops the POST.
    """

    def __init__(
        self,
        client: RunapiClient,
        request: CreateRequest,
        *,
        clock: Clock,
        random: random_module.Random,
        create_slots: ConcurrencyLimiter,
        may_wait: Callable[[float], bool],
        is_wanted: Callable[[], bool] = lambda: True,
        on_queued: Callable[[], None] = lambda: None,
        on_attempt: Callable[[int, contract.Route], None] = lambda _attempt, _route: None,
    ) -> None:
        self._client = client
        self._request = request
        self._clock = clock
        self._random = random
        self._create_slots = create_slots
        self._may_wait = may_wait
        self._is_wanted = is_wanted
        self._on_queued = on_queued
        self._on_attempt = on_attempt
        self._attempts = 0
        self._failures = 0
        self._unreadable = 0
        self._maybe_sent = request.maybe_sent
        self._is_sending = False
        self.queued_for: QueuedFor | None = None
        self._missing: list[str] = []
        self._conflict = False

    @property
    def maybe_sent(self) -> bool:
        """Whether an attempt may have arrived whose answer is not known."""
        return self._maybe_sent

    @property
    def is_unsent(self) -> bool:
        """Whether surely nothing of it has arrived, and nothing is on its way."""
        return not (self._maybe_sent or self._is_sending)

    async def run(self) -> AcceptedTask:
        """Send until the task is accepted or surely refused.

        Raises:
            SubmissionError: With the error for the caller and whether a task may exist all the same.
        """
        for route in self._request.routes:
            accepted = await self._try_route(route)
            if accepted is not None:
                return accepted
        raise self._failed(
            UnexpectedAnswerError(
                f"RunAPI has no route for this action: {'; '.join(self._missing)}.", hint=_CHECK_BASE_URL, charged="no"
            )
        )

    async def _try_route(self, route: contract.Route) -> AcceptedTask | None:
        """Return the accepted task, or None when this route does not exist and nothing was created."""
        path = contract.CREATE_PATHS[route].format(action=self._request.action)
        headers = {
            contract.IDEMPOTENCY_HEADER: self._request.idempotency_key,
            contract.CLIENT_REQUEST_HEADER: self._request.client_request_id,
        }
        while True:
            try:
                answer = await self._post(path, headers, route)
            except NotSentError as exc:
                await self._pause(self._unavailable(f"RunAPI could not be reached: {exc}."))
                continue
            except MaybeSentError as exc:
                self._maybe_sent = True
                await self._pause(self._unavailable(f"RunAPI did not answer: {exc}."))
                continue
            except CrossOriginRedirectError as exc:
                raise self._failed(self._elsewhere(path, str(exc))) from exc
            if answer.status_code in contract.ROUTE_MISSING_CODES:
                self._missing.append(f"POST {path} answered {quoted_status(answer)}")
                if self._maybe_sent:
                    raise self._failed(
                        self._unavailable(f"{self._missing[-1]} after an attempt whose answer was lost.")
                    )
                return None
            accepted = await self._judge(answer, route, path)
            if accepted is not None:
                return accepted

    async def _post(self, path: str, headers: Mapping[str, str], route: contract.Route) -> HttpResponse:
        """Send once, when its turn has come."""
        self._queue("place" if self._create_slots.is_full else None)
        async with self._create_slots:
            self._queue("rate" if self._client.is_slowed else None)
            permit = await self._client.acquire_permit()
            self._queue(None)
            if not (self._maybe_sent or self._is_wanted()):
                raise self._failed(
                    CancelledCallError("Nobody waits for this image any more, so it was not requested.", charged="no")
                )
            self._attempts += 1
            try:
                self._on_attempt(self._attempts, route)
            except Flux2Error as exc:
                exc.charged = self._charged
                raise self._failed(exc) from exc
            self._is_sending = True
            try:
                return await self._client.send("POST", path, body=self._request.body, headers=headers, permit=permit)
            except asyncio.CancelledError:
                self._maybe_sent = True
                raise
            finally:
                self._is_sending = False

    def _queue(self, what_for: QueuedFor | None) -> None:
        if what_for != self.queued_for:
            self.queued_for = what_for
            self._on_queued()

    async def _judge(self, answer: HttpResponse, route: contract.Route, path: str) -> AcceptedTask | None:
        """Return the accepted task, or None to send again after the pause already made; raise what is final."""
        code = answer.status_code
        wait_s = parse_retry_after(answer.headers.get("retry-after"), now=self._wall())
        if 200 <= code < 300 or code == 303:
            accepted = self._read_accepted(answer, route, wait_s)
            if accepted is not None:
                return accepted
            self._maybe_sent = True
            if code == 303 and "location" in answer.headers:
                where = printable(answer.headers["location"].partition("?")[0], 100)
                raise self._failed(self._elsewhere(path, f"HTTP 303 to {where!r}, which is no task of RunAPI's"))
            self._unreadable += 1
            error = UnexpectedAnswerError(
                f"RunAPI answered POST {path} without a task id ({quoted_status(answer)}). "
                "The image may have been accepted.",
                hint=f"{SAFE_AGAIN} {PROBE_HINT}",
                request_id=answer.request_id,
                charged="unknown",
                retryable=True,
            )
            if self._unreadable >= MAX_UNREADABLE:
                raise self._failed(error)
            await self._pause(error)
            return None
        if code == contract.RATE_LIMIT_CODE:
            await self._pause(self._refused(answer, path, wait_s), wait_s)
            return None
        if code in contract.RETRYABLE_CODES or code >= 500:
            self._maybe_sent = True
            await self._pause(self._refused(answer, path), wait_s)
            return None
        raise self._failed(self._refused(answer, path))

    def _read_accepted(
        self, answer: HttpResponse, route: contract.Route, retry_after_s: float | None
    ) -> AcceptedTask | None:
        try:
            body = decode_json(answer.body, answer.content_type)
        except UnreadableResponseError:
            body = None
        task = read_task(body, https_only=not is_loopback_url(self._client.base_url))
        location = answer.headers.get("location")
        link = self._client.same_origin_url(location) if location else None
        status_url = link or task.status_url
        task_id = task.task_id or read_task_id({}, answer.headers.get(contract.TASK_ID_HEADER)) or _task_id_in(link)
        if task_id is None and not (task.phase == "completed" and task.images):
            return None
        return AcceptedTask(
            task_id=task_id,
            route=route,
            answer=task.model_copy(update={"status_url": status_url, "task_id": task_id}),
            raw=body,
            request_id=answer.request_id,
            retry_after_s=retry_after_s,
        )

    def _refused(self, response: HttpResponse, path: str, wait_s: float | None = None) -> Flux2Error:
        if response.status_code == contract.CONFLICT_CODE:
            self._maybe_sent = self._conflict = True
        return error_from_response(
            response,
            asked=f"POST {path}",
            charged=self._charged,
            refused=InvalidArgumentsError,
            check=_CHECK_BASE_URL,
            retry_after_s=wait_s,
        )

    async def _pause(self, error: Flux2Error, asked_s: float | None = None) -> None:
        """Wait before the next attempt, or give up with this error when there is no time or patience left."""
        self._failures += 1
        delay_s = backoff_s(self._failures, random=self._random)
        if asked_s is not None:
            delay_s = max(delay_s, asked_s)
        # Whoever cannot wait for as long as RunAPI asks is told at once; nobody sleeps for as long as a header likes.
        if self._failures >= MAX_FAILURES or not self._may_wait(delay_s):
            raise self._failed(error)
        delay_s = min(delay_s, RETRY_AFTER_CEILING_S)
        logger.info("create attempt %d: %s; next in %.1f s", self._attempts, error.code, delay_s)
        await self._clock.sleep(delay_s)

    def _unavailable(self, message: str, request_id: str | None = None) -> ServiceUnavailableError:
        if self._maybe_sent:
            return ServiceUnavailableError(
                f"{message} Whether the image was accepted is not known.",
                hint=SAFE_AGAIN,
                request_id=request_id,
                charged="unknown",
            )
        return ServiceUnavailableError(
            f"{message} Nothing was created.", hint="Try again in a minute.", request_id=request_id, charged="no"
        )

    def _elsewhere(self, path: str, where: str) -> UnexpectedAnswerError:
        return UnexpectedAnswerError(
            f"RunAPI redirects POST {path} elsewhere: {where}. The key was not sent there.",
            hint=_CHECK_BASE_URL,
            charged=self._charged,
        )

    def _failed(self, error: Flux2Error) -> SubmissionError:
        return SubmissionError(error, "unknown" if self._maybe_sent else "not created", conflict=self._conflict)

    @property
    def _charged(self) -> Charged:
        return "unknown" if self._maybe_sent else "no"

    def _wall(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), tz=UTC)


def _task_id_in(link: str | None) -> str | None:
    """Return the task's id from a link to it: not from any page, such as the one to sign in at."""
    path = "" if link is None else urlsplit(link).path
    segment = path.rstrip("/").rpartition("/")[2]
    return segment if contract.API_PATH_PART in path and is_task_id(segment) else None
