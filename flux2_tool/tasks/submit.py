"""Submit one image task to RunAPI, once.

A POST is repeated only byte-identical and under its first Idempotency-Key. The other route is tried only after a
response that means "no such route", and never while an earlier attempt may have arrived. Every result says whether a
task may have been created, and so whether money may have been spent; `contract.py` lists the responses that prove that
none was.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from flux2_tool.exceptions import (
    CancelledCallError,
    Charged,
    Flux2Error,
    InvalidArgumentsError,
    UnexpectedAnswerError,
)
from flux2_tool.journal import Queued
from flux2_tool.runapi import contract
from flux2_tool.runapi.backoff import BACKOFF_CEILING_S, RETRY_AFTER_CEILING_S, backoff_s, parse_retry_after
from flux2_tool.runapi.client import HttpResponse, RunapiClient
from flux2_tool.runapi.error_mapping import error_from_response, quoted_status, says_input_differs
from flux2_tool.runapi.rate_limit import Slot
from flux2_tool.runapi.send_errors import (
    CrossOriginRedirectError,
    MaybeSentError,
    NotSentError,
    RedirectLoopError,
    UnusableNetworkError,
)
from flux2_tool.runapi.sending import Sending
from flux2_tool.tasks.acceptance import AcceptedTask, read_accepted
from flux2_tool.tasks.create_request import CreateRequest
from flux2_tool.tasks.dependencies import TaskDependencies
from flux2_tool.tasks.submit_errors import CHECK_BASE_URL, redirected, unavailable, without_task

logger = logging.getLogger(__name__)

MAX_FAILURES: Final = 6
MAX_UNREADABLE: Final = 3
# After so many attempts one that is in progress is asked for at the back-off's ceiling only.
CONFLICTS_AT_BACKOFF: Final = 4

# What a POST is queued for: a free create slot of this process or the account, or its rate limit after a 429.
QueuedFor = Literal["create_slot", "rate_limit"]


class SubmissionError(Exception):
    """No task was accepted, as far as is known.

    Attributes:
        error: For the caller.
        state: For the journal: "not_created" if certainly nothing was created, else "unknown".
        conflict: RunAPI has other input under its key, so resending the request cannot show its outcome.
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
            SubmissionError to prevent it, or return what to wait for before it is called again.
        before_pause: Called before each pause between two POSTs.
        take_task: Called with the id of the task that is about to be accepted; False if another request has it.
    """

    can_wait: Callable[[float], bool]
    has_waiters: Callable[[], bool]
    on_queued: Callable[[], None]
    before_attempt: Callable[[int, contract.Route], Awaitable[Queued | None]]
    before_pause: Callable[[], None]
    take_task: Callable[[str], Awaitable[bool]]


class Submission:
    """Sends one create request until RunAPI accepts or refuses it.

    Args:
        client: The account's client.
        request: The request to send.
        dependencies: Clock, jitter of the back-off, and create slots.
        callbacks: The ImageTask's.
        slot: The create slot of its first POST, if that is taken already.
    """

    def __init__(
        self,
        client: RunapiClient,
        request: CreateRequest,
        *,
        dependencies: TaskDependencies,
        callbacks: SubmissionCallbacks,
        slot: Slot | None = None,
    ) -> None:
        self._client = client
        self._request = request
        self._clock = dependencies.clock
        self._random = dependencies.random
        self._create_slots = dependencies.create_slots
        self._callbacks = callbacks
        self._slot = slot
        self._headers = {
            contract.IDEMPOTENCY_HEADER: request.idempotency_key,
            contract.CLIENT_REQUEST_HEADER: request.client_request_id,
        }
        self._attempts = 0
        self._failures = 0
        self._conflicts = 0
        self._unreadable = 0
        self._doubted_task_id: str | None = None
        self._maybe_sent = request.maybe_sent
        self._sending: Sending | None = None
        self.queued_for: QueuedFor | None = None
        self._missing_routes: list[str] = []
        self._conflict = False

    @property
    def maybe_sent(self) -> bool:
        """Whether an attempt without a known response may have arrived."""
        return self._maybe_sent

    @property
    def is_unsent(self) -> bool:
        """Whether certainly no attempt has arrived, and none is on its way; one may be looking for a connection."""
        return not self._maybe_sent and (self._sending is None or self._sending.is_unsent)

    async def run(self) -> AcceptedTask:
        """Send until the task is accepted or definitely refused.

        Raises:
            SubmissionError: No task was accepted; says whether one may exist nevertheless.
        """
        try:
            for route in self._request.routes:
                accepted = await self._try_route(route)
                if accepted is not None:
                    return accepted
        finally:
            del self._callbacks  # they hold whoever holds this, which only the garbage collector would end
        missing = f"RunAPI has no route for this action: {'; '.join(self._missing_routes)}."
        raise self._failed(UnexpectedAnswerError(missing, hint=CHECK_BASE_URL, charged="no"))

    async def _try_route(self, route: contract.Route) -> AcceptedTask | None:
        """Return the accepted task, or None when this route does not exist and nothing was created."""
        path = self._request.create_path(route)
        while True:
            try:
                response = await self._post(path, route)
            except NotSentError as exc:
                if isinstance(exc, UnusableNetworkError) and not self._maybe_sent:
                    raise self._failed(exc.as_set_up_error()) from exc
                await self._pause(unavailable(f"RunAPI could not be reached: {exc}.", charged=self._charged))
                continue
            except MaybeSentError as exc:
                self._maybe_sent = True
                await self._pause(unavailable(f"RunAPI did not respond: {exc}.", charged=self._charged))
                continue
            except CrossOriginRedirectError as exc:
                self._maybe_sent = True
                error = redirected(path, exc)
                if isinstance(exc, RedirectLoopError):
                    raise self._failed(error) from exc
                await self._pause_unreadable(error)
                continue
            # Where a redirect leads need not be a route; what redirected may have created the task.
            self._maybe_sent = self._maybe_sent or response.was_redirected
            if response.status_code in contract.ROUTE_MISSING_CODES:
                missing = f"POST {path} answered {quoted_status(response)}"
                if self._maybe_sent:
                    after = "a redirect" if response.was_redirected else "an attempt whose response was lost"
                    raise self._failed(unavailable(f"{missing} after {after}.", charged=self._charged))
                self._missing_routes.append(missing)
                return None
            accepted = await self._handle_response(response, route, path)
            if accepted is not None:
                return accepted

    async def _post(self, path: str, route: contract.Route) -> HttpResponse:
        """Send once, when a create slot is free and the account's rate limit allows it."""
        slot, self._slot = self._slot, None
        self._set_queued_for("create_slot" if slot is None and self._create_slots.is_full else None)
        with slot or await self._create_slots.take():
            permit = await self._turn(route)
            self._sending = sending = Sending()
            try:
                return await self._client.send(
                    "POST",
                    path,
                    body=self._request.body,
                    headers=self._headers,
                    permit=permit,
                    result_codes=contract.SEE_TASK_CODES,
                    sending=sending,
                )
            except BaseException as exc:
                # Cancelled, or ended by a signal: nobody learns what was sent.
                if not isinstance(exc, Exception):
                    self._maybe_sent = self._maybe_sent or not sending.is_unsent
                raise
            finally:
                self._sending = None

    async def _turn(self, route: contract.Route) -> float | None:
        """Wait until this account may send, in all its processes, and return the permit."""
        self._attempts += 1
        waits_for: QueuedFor | None = None
        while True:
            self._set_queued_for("rate_limit" if self._client.is_slowed else waits_for)
            permit = await self._client.acquire_permit()
            self._set_queued_for(waits_for)
            if not (self._maybe_sent or self._callbacks.has_waiters()):
                raise self._failed(
                    CancelledCallError("No call waits for this image any more, so it was not requested.", charged="no")
                )
            try:
                queued = await self._callbacks.before_attempt(self._attempts, route)
            except Flux2Error as exc:
                exc.charged = self._charged
                raise self._failed(exc) from exc
            if queued is None:
                self._set_queued_for(None)
                return permit
            waits_for = "rate_limit" if queued.is_closed else "create_slot"
            self._set_queued_for(waits_for)
            await self._clock.wait(queued.freed, queued.again_s)

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
        if 200 <= code < 300 or code in contract.SEE_TASK_CODES:
            # From here on there may be a task, also for a call that leaves while the response is checked.
            self._maybe_sent = True
            accepted = await self._accepted(response, route, wait_s)
            if accepted is None:
                await self._pause_unreadable(without_task(response, path), wait_s)
            return accepted
        if code == contract.RATE_LIMIT_CODE:
            await self._pause(self._refused(response, path, wait_s), wait_s)
            return None
        if code in contract.NOT_CREATED_CODES:
            raise self._failed(self._refused(response, path))
        self._maybe_sent = True
        if code == contract.CONFLICT_CODE:
            self._conflict = says_input_differs(response)
            if self._conflict:
                raise self._failed(self._refused(response, path))
            await self._pause_in_conflict(self._refused(response, path), wait_s)
        else:
            await self._pause(self._refused(response, path), wait_s)
        return None

    async def _accepted(
        self, response: HttpResponse, route: contract.Route, wait_s: float | None
    ) -> AcceptedTask | None:
        """Return the task that a response accepts, unless it is, or may be, another request's."""
        accepted = read_accepted(response, client=self._client, route=route, sent=self._headers, retry_after_s=wait_s)
        if accepted is None or accepted.task_id is None:
            return accepted
        task_id, doubted_before = accepted.task_id, self._doubted_task_id
        # The same task for the same key twice is ours, whatever a gateway makes of the request's id.
        if accepted.names_another_request and task_id != doubted_before:
            self._doubted_task_id = task_id
            return None
        if not await self._callbacks.take_task(task_id):
            logger.warning("create attempt %d: the response names another request's task %s", self._attempts, task_id)
            return None
        return accepted

    def _refused(self, response: HttpResponse, path: str, wait_s: float | None = None) -> Flux2Error:
        return error_from_response(
            response,
            request=f"POST {path}",
            charged=self._charged,
            refused=InvalidArgumentsError,
            check=CHECK_BASE_URL,
            retry_after_s=wait_s,
        )

    async def _pause(self, error: Flux2Error, retry_after_s: float | None = None) -> None:
        """Wait before the next attempt, or raise this error when no time or attempt is left."""
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            raise self._failed(error)
        await self._back_off(error, retry_after_s)

    async def _pause_unreadable(self, error: Flux2Error, retry_after_s: float | None = None) -> None:
        """The same after a response without a readable task, which the next is likely to be, too."""
        self._unreadable += 1
        if self._unreadable >= MAX_UNREADABLE:
            raise self._failed(error)
        await self._pause(error, retry_after_s)

    async def _pause_in_conflict(self, error: Flux2Error, retry_after_s: float | None) -> None:
        """The same while the first attempt may be in progress: as long as a call waits and the resend window lasts."""
        self._conflicts += 1
        is_long = self._failures + self._conflicts > CONFLICTS_AT_BACKOFF
        await self._back_off(error, max(retry_after_s or 0.0, BACKOFF_CEILING_S) if is_long else retry_after_s)

    async def _back_off(self, error: Flux2Error, retry_after_s: float | None) -> None:
        delay_s = backoff_s(max(1, self._failures + self._conflicts), random=self._random)
        if retry_after_s is not None:
            delay_s = max(delay_s, retry_after_s)
        # A call that cannot wait for the whole Retry-After fails at once; the pause itself has a ceiling.
        if not self._callbacks.can_wait(delay_s):
            raise self._failed(error)
        delay_s = min(delay_s, RETRY_AFTER_CEILING_S)
        self._callbacks.before_pause()
        logger.info("create attempt %d: %s; next in %.1f s", self._attempts, error.code, delay_s)
        await self._clock.sleep(delay_s)

    def _failed(self, error: Flux2Error) -> SubmissionError:
        return SubmissionError(error, "unknown" if self._maybe_sent else "not_created", conflict=self._conflict)

    @property
    def _charged(self) -> Charged:
        return "unknown" if self._maybe_sent else "no"

    def _wall(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), tz=UTC)
