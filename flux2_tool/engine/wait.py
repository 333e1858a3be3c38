"""One call's wait for an image task: progress reports, the deadline, and cancellation by the host.

The image task itself continues in the background; a waiting call only observes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from flux2_tool._clock import Clock
from flux2_tool.exceptions import CancelledCallError, Flux2Error, RateLimitedError, ServiceUnavailableError
from flux2_tool.journal.handle import WARNING
from flux2_tool.journal.protocol import LOCK_PATIENCE_S
from flux2_tool.tasks.resume import Account
from flux2_tool.tasks.submit import QueuedFor
from flux2_tool.tasks.task import ImageTask

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A wait may end during the POST. Without its response there is no task id to return, so the wait gets this much more.
SUBMIT_GRACE_S: Final = 8.0
PROGRESS_EVERY_S: Final = 5.0
# Time to write what has happened, for a call whose wait is over.
RECORD_GRACE_S: Final = 0.5
_QUEUED: Final[dict[QueuedFor, str]] = {
    "create_slot": "waiting for a turn: other images are being requested",
    "rate_limit": "waiting for a turn: RunAPI limits the rate",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A progress report of a waiting call."""

    state: str
    elapsed_s: float
    attempt: int
    message: str
    task_id: str | None = None


OnProgress = Callable[[Progress], None]


class CancelToken:
    """Lets a host stop a call's wait. The task itself continues: RunAPI has no cancel."""

    def __init__(self) -> None:
        self.is_set = False
        self._listeners: set[asyncio.Event] = set()

    def set(self) -> None:
        """Stop the wait; the call ends with the error `cancelled`."""
        self.is_set = True
        for listener in self._listeners:
            listener.set()

    def watch(self, listener: asyncio.Event) -> None:
        """Set an event on cancellation, at once if already cancelled."""
        self._listeners.add(listener)
        if self.is_set:
            listener.set()

    def unwatch(self, listener: asyncio.Event) -> None:
        """Remove an event registered with `watch`."""
        self._listeners.discard(listener)


class OpenCalls:
    """The running calls of an engine, so that closing it can end them first."""

    def __init__(self) -> None:
        self.is_closed = False
        self._cancel_tokens: dict[asyncio.Event, CancelToken] = {}

    @contextlib.contextmanager
    def opened(self, cancel: CancelToken) -> Iterator[None]:
        """Count a call as open while the block runs.

        Raises:
            CancelledCallError: The engine is closed.
        """
        if self.is_closed:
            raise CancelledCallError("The tool was closed before this call. Nothing was sent.", charged="no")
        ended = asyncio.Event()
        self._cancel_tokens[ended] = cancel
        try:
            yield
        finally:
            del self._cancel_tokens[ended]
            ended.set()

    async def close(self, *, timeout_s: float) -> None:
        """Refuse further calls, stop the waits of the open ones, and give them time to end."""
        self.is_closed = True
        for cancel in self._cancel_tokens.values():
            cancel.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for ended in list(self._cancel_tokens):
                    await ended.wait()


@dataclass(slots=True, kw_only=True)
class ToolCall:
    """One call inside the engine.

    Attributes:
        deadline_s: When its wait ends, on the monotonic clock; so is `begun_s`.
        wake: Set whenever the waiting call has something new to check.
        warnings: For its result.
    """

    tool: str
    arguments: Mapping[str, Any]
    account: Account
    deadline_s: float
    begun_s: float
    cancel: CancelToken
    on_progress: OnProgress = lambda _progress: None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    warnings: list[str] = field(default_factory=list)


async def wait_for(
    call: ToolCall,
    image_task: ImageTask,
    *,
    clock: Clock,
    deadline_s: float | None = None,
    until_response: bool = False,
) -> None:
    """Wait until the image task is over or the deadline has passed, and report progress.

    Args:
        deadline_s: Another deadline than the call's own.
        until_response: Return once a poll has ended during this wait and there is any response about the task.

    Raises:
        CancelledCallError: The host stopped the wait.
        RateLimitedError: The wait ended before the request was sent.
        ServiceUnavailableError: The wait ended without any response about the task.
    """
    deadline_s = call.deadline_s if deadline_s is None else deadline_s
    waits_since_s = clock.monotonic()
    image_task.subscribe(call.wake, deadline_s)
    call.cancel.watch(call.wake)
    image_task.start()
    last_message, reported_at_s = "", float("-inf")
    # get_image_task returns the current state, so even wait 0 polls once.
    responses_before = image_task.log.responses if call.tool == "get_image_task" or until_response else -1
    try:
        while not image_task.is_over:
            call.wake.clear()
            if call.cancel.is_set:
                raise _cancelled(image_task)
            message = _message(image_task)
            now_s = clock.monotonic()
            if message != last_message or now_s - reported_at_s >= PROGRESS_EVERY_S:
                last_message, reported_at_s = message, now_s
                report_progress(
                    call,
                    image_task.progress_state,
                    message + _time_left(image_task),
                    now_s=now_s,
                    attempt=image_task.attempt,
                    task_id=image_task.task_id,
                )
            has_no_response = image_task.log.last_response is None or image_task.log.responses == responses_before
            # What came before, such as a slow disk, does not use up the time for the response.
            ends_s = max(deadline_s, waits_since_s) + SUBMIT_GRACE_S if has_no_response else deadline_s
            left_s = ends_s - now_s
            if left_s <= 0 or (until_response and not has_no_response):
                break
            await clock.wait(call.wake, max(0.01, min(left_s, reported_at_s + PROGRESS_EVERY_S - now_s)))
        if image_task.is_over or image_task.log.last_response is not None:
            return
        raise _no_response_error(image_task)
    finally:
        call.cancel.unwatch(call.wake)
        image_task.unsubscribe(call.wake)


async def unless_cancelled(work: Coroutine[Any, Any, T], cancel: CancelToken) -> T | None:
    """Return the result of some work, or None when the call is cancelled first: the work is then cancelled too."""
    cancelled = asyncio.Event()
    cancel.watch(cancelled)
    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(cancelled.wait())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            await asyncio.wait((working,))
        return None if working.cancelled() else working.result()
    finally:
        cancel.unwatch(cancelled)
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def record_warnings(call: ToolCall, image_task: ImageTask, *, clock: Clock) -> list[str]:
    """Return what the task's record warns of, once what has happened is written or the call's wait is over."""
    handle = image_task.record_handle
    if handle is None:
        return []
    left_s = max(RECORD_GRACE_S, call.deadline_s - clock.monotonic())
    is_settled = await handle.settled(within_s=min(LOCK_PATIENCE_S, left_s))
    return handle.warnings if is_settled or WARNING in handle.warnings else [*handle.warnings, WARNING]


def raise_error_of(image_task: ImageTask) -> None:
    """Raise the error that an image task ended with, if any: a copy, because every waiting call raises its own."""
    if image_task.error is not None:
        raise copy(image_task.error)


def report_progress(
    call: ToolCall, state: str, message: str, *, now_s: float, attempt: int = 0, task_id: str | None = None
) -> None:
    """Report the call's progress to its host."""
    elapsed_s = round(now_s - call.begun_s, 1)
    try:
        call.on_progress(Progress(state=state, elapsed_s=elapsed_s, attempt=attempt, message=message, task_id=task_id))
    except Exception:  # the host's own code; a broken display must not lose a paid picture
        logger.warning("the host's progress display failed", exc_info=True)


def _cancelled(image_task: ImageTask) -> CancelledCallError:
    if image_task.is_unsent:
        if image_task.waiters.has_others:
            return CancelledCallError(
                "The wait was stopped. Another call still waits for the same image, so it will be requested.",
                hint="Call again with exactly the same arguments if the image is still wanted.",
                charged="unknown",
            )
        return CancelledCallError("The call was stopped before anything was sent.", charged="no")
    if image_task.task_id is not None:
        return CancelledCallError(
            f"The wait was stopped. Task {image_task.task_id} goes on at RunAPI and may still be charged: "
            "there is no way to cancel it.",
            hint=f'Call get_image_task with task_id "{image_task.task_id}" to fetch the image later.',
            task_id=image_task.task_id,
            charged="unknown",
        )
    return CancelledCallError(
        "The wait was stopped while the request was being sent. It may have been accepted and may be charged.",
        hint="Call again with exactly the same arguments if the image is still wanted.",
        charged="unknown",
    )


def _no_response_error(image_task: ImageTask) -> Flux2Error:
    if image_task.request is None:
        failure = image_task.log.last_failure
        reason = failure.message if failure else "no response yet"
        return ServiceUnavailableError(
            f"RunAPI has reported no status of task {image_task.task_id}: {reason}.",
            hint=f'Call get_image_task with task_id "{image_task.task_id}" again in a minute.',
            task_id=image_task.task_id,
            charged="unknown",
        )
    if image_task.is_unsent:
        reason = (
            "RunAPI limits the rate" if image_task.queued_for != "create_slot" else "too many requests came before it"
        )
        return RateLimitedError(
            f"The wait ended before the image could be requested: {reason}. Nothing was sent.",
            hint="Call again in a minute.",
        )
    return ServiceUnavailableError(
        "RunAPI has not answered the request yet. Whether the image was accepted is not known.",
        hint="Call again with exactly the same arguments in a minute.",
        charged="unknown",
    )


def _message(image_task: ImageTask) -> str:
    if image_task.state == "sending":
        if image_task.queued_for is not None:
            return _QUEUED[image_task.queued_for]
        return (
            "sending the request" if image_task.attempt <= 1 else f"sending the request, attempt {image_task.attempt}"
        )
    failure = image_task.log.last_failure
    if failure is not None and failure.kind == "unauthorized":
        return f"RunAPI refuses the key ({failure.message}); trying again"
    if failure is not None and failure.kind == "no_network":
        return f"RunAPI cannot be reached ({failure.message}); trying again"
    response = image_task.log.last_response
    if response is None:
        return "looking for the task"
    return (
        "waiting in RunAPI's queue" if (response.status or "").lower() in ("pending", "queued") else "making the image"
    )


def _time_left(image_task: ImageTask) -> str:
    left_s = image_task.left_s if image_task.state == "processing" else None
    if left_s is None or left_s < 1.0:
        return ""
    return f", about {left_s:.0f} s left" if left_s < 20 else f", about {5 * round(left_s / 5)} s left"
