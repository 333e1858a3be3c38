"""Submit one image task to RunAPI, once.

A POST is repeated only byte-identical and under its first Idempotency-Key. The other route is tried only after a
response that means "no such route", and never while an earlier attempt may have arrived. Every result says whether a
task may have been created, and so whether money may have been spent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

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
from flux2_tool.runapi.text import quoted
from flux2_tool.tasks.acceptance import AcceptedTask, read_accepted
from flux2_tool.tasks.dependencies import TaskDependencies

logger = logging.getLogger(__name__)

MAX_FAILURES: Final = 6
MAX_UNREADABLE: Final = 3

# What a POST is queued for: a free create slot of this process, or the account's rate limit after a 429.
QueuedFor = Literal["create_slot", "rate_limit"]

_CHECK_BASE_URL: Final = f"Check the base URL. {PROBE_HINT}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """The content of a create POST, fixed before the first attempt.

    Attributes:
        action: The RunAPI action.
        body: The exact bytes of every attempt.
        idempotency_key: Opaque, one per image.
        client_request_id: Echoed and stored by the service, for support.
        routes: The routes that may be tried, in order.
        maybe_sent: Whether an earlier process may already have sent this request.
    """

    action: contract.Action
    body: bytes
    idempotency_key: str
    client_request_id: str
    routes: Sequence[contract.Route]
    maybe_sent: bool = False


class SubmissionError(Exception):
    """No task was accepted, as far as is known.

    Attributes:
        error: For the caller.
        state: For the journal: "not_created" if certainly nothing was created, else "unknown".
        conflict: RunAPI answered 409, so resending the request cannot show its outcome.
    """

    def __init__(self, error: Flux2Error, state: Literal["not_created", "unknown"], *, conflict: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.state: Literal["not_created", "unknown"] = state
        self.conflict = conflict


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionCallbacks:
    """The ImageTask's callbacks for its submission.

    Attributes:
        can_wait: Called before each pause with its length in seconds; False ends the submission.
        has_waiters: Called before each POST; False ends a submission that cannot have arrived.
        on_queued: Called when `queued_for` has changed.
        before_attempt: Called with the attempt's number and route before each POST; may raise a Flux2Error or
            SubmissionError to prevent it.
    """

    can_wait: Callable[[float], bool]
    has_waiters: Callable[[], bool]
    on_queued: Callable[[], None]
    before_attempt: Callable[[int, contract.Route], None]


class Submission:
    """Sends one create request until RunAPI accepts or refuses it.

    Args:
        client: The account's client.
        request: The request to send.
        dependencies: Clock, jitter of the back-off, and create slots.
        callbacks: The ImageTask's.
    """

    def __init__(
        self,
        client: RunapiClient,
        request: CreateRequest,
        *,
        dependencies: TaskDependencies,
        callbacks: SubmissionCallbacks,
    ) -> None:
        self._client = client
        self._request = request
        self._clock = dependencies.clock
        self._random = dependencies.random
        self._create_slots = dependencies.create_slots
        self._callbacks = callbacks
        self._attempts = 0
        self._failures = 0
        self._unreadable = 0
        self._maybe_sent = request.maybe_sent
        self._is_sending = False
        self.queued_for: QueuedFor | None = None
        self._missing_routes: list[str] = []
        self._conflict = False

    @property
    def maybe_sent(self) -> bool:
        """Whether an attempt without a known response may have arrived."""
        return self._maybe_sent

    @property
    def is_unsent(self) -> bool:
        """Whether certainly no attempt has arrived, and none is in flight."""
        return not (self._maybe_sent or self._is_sending)

    async def run(self) -> AcceptedTask:
        """Send until the task is accepted or definitely refused.

        Raises:
            SubmissionError: No task was accepted; says whether one may exist nevertheless.
        """
        for route in self._request.routes:
            accepted = await self._try_route(route)
            if accepted is not None:
                return accepted
        raise self._failed(
            UnexpectedAnswerError(
                f"RunAPI has no route for this action: {'; '.join(self._missing_routes)}.",
                hint=_CHECK_BASE_URL,
                charged="no",
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
                response = await self._post(path, headers, route)
            except NotSentError as exc:
                await self._pause(self._unavailable(f"RunAPI could not be reached: {exc}."))
                continue
            except MaybeSentError as exc:
                self._maybe_sent = True
                await self._pause(self._unavailable(f"RunAPI did not respond: {exc}."))
                continue
            except CrossOriginRedirectError as exc:
                raise self._failed(self._redirected(path, str(exc))) from exc
            if response.status_code in contract.ROUTE_MISSING_CODES:
                missing = f"POST {path} answered {quoted_status(response)}"
                if self._maybe_sent:
                    raise self._failed(self._unavailable(f"{missing} after an attempt whose response was lost."))
                self._missing_routes.append(missing)
                return None
            accepted = await self._handle_response(response, route, path)
            if accepted is not None:
                return accepted

    async def _post(self, path: str, headers: Mapping[str, str], route: contract.Route) -> HttpResponse:
        """Send once, when a create slot is free and the account's rate limit allows it."""
        self._set_queued_for("create_slot" if self._create_slots.is_full else None)
        async with self._create_slots:
            self._set_queued_for("rate_limit" if self._client.is_slowed else None)
            permit = await self._client.acquire_permit()
            self._set_queued_for(None)
            if not (self._maybe_sent or self._callbacks.has_waiters()):
                raise self._failed(
                    CancelledCallError("No call waits for this image any more, so it was not requested.", charged="no")
                )
            self._attempts += 1
            try:
                self._callbacks.before_attempt(self._attempts, route)
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

    def _set_queued_for(self, queued_for: QueuedFor | None) -> None:
        if queued_for != self.queued_for:
            self.queued_for = queued_for
            self._callbacks.on_queued()

    async def _handle_response(self, response: HttpResponse, route: contract.Route, path: str) -> AcceptedTask | None:
        """Return the accepted task, or None, after a pause, to send again.

        Raises:
            SubmissionError: The response is final, or no attempt is left.
        """
        code = response.status_code
        wait_s = parse_retry_after(response.headers.get("retry-after"), now=self._wall())
        if 200 <= code < 300 or code == 303:
            accepted = read_accepted(response, client=self._client, route=route, retry_after_s=wait_s)
            if accepted is not None:
                return accepted
            self._maybe_sent = True
            if code == 303 and "location" in response.headers:
                where = quoted(response.headers["location"].partition("?")[0], 100)
                raise self._failed(self._redirected(path, f"HTTP 303 to {where}, which is not a RunAPI task"))
            self._unreadable += 1
            error = UnexpectedAnswerError(
                f"RunAPI answered POST {path} without a task id ({quoted_status(response)}). "
                "The image may have been accepted.",
                hint=f"{SAFE_AGAIN} {PROBE_HINT}",
                request_id=response.request_id,
                charged="unknown",
                retryable=True,
            )
            if self._unreadable >= MAX_UNREADABLE:
                raise self._failed(error)
            await self._pause(error)
            return None
        if code == contract.RATE_LIMIT_CODE:
            await self._pause(self._refused(response, path, wait_s), wait_s)
            return None
        if code in contract.RETRYABLE_CODES or code >= 500:
            self._maybe_sent = True
            await self._pause(self._refused(response, path), wait_s)
            return None
        raise self._failed(self._refused(response, path))

    def _refused(self, response: HttpResponse, path: str, wait_s: float | None = None) -> Flux2Error:
        if response.status_code == contract.CONFLICT_CODE:
            self._maybe_sent = self._conflict = True
        return error_from_response(
            response,
            request=f"POST {path}",
            charged=self._charged,
            refused=InvalidArgumentsError,
            check=_CHECK_BASE_URL,
            retry_after_s=wait_s,
        )

    async def _pause(self, error: Flux2Error, retry_after_s: float | None = None) -> None:
        """Wait before the next attempt, or raise this error when no time or attempt is left."""
        self._failures += 1
        delay_s = backoff_s(self._failures, random=self._random)
        if retry_after_s is not None:
            delay_s = max(delay_s, retry_after_s)
        # A call that cannot wait for the whole Retry-After fails at once; the pause itself has a ceiling.
        if self._failures >= MAX_FAILURES or not self._callbacks.can_wait(delay_s):
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

    def _redirected(self, path: str, where: str) -> UnexpectedAnswerError:
        return UnexpectedAnswerError(
            f"RunAPI redirects POST {path} elsewhere: {where}. The key was not sent there.",
            hint=_CHECK_BASE_URL,
            charged=self._charged,
        )

    def _failed(self, error: Flux2Error) -> SubmissionError:
        return SubmissionError(error, "unknown" if self._maybe_sent else "not_created", conflict=self._conflict)

    @property
    def _charged(self) -> Charged:
        return "unknown" if self._maybe_sent else "no"

    def _wall(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), tz=UTC)
