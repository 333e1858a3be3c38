"""One call's wait for its image tasks: progress reports, the deadline, and cancellation by the host.

The tasks themselves continue in the background; a waiting call only observes them. `wait_texts.py` has the words.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flux2_tool._clock import Alarm, Clock
from flux2_tool.engine.wait_texts import cancelled_error, named_task_id, no_response_error, progress_text, state_of
from flux2_tool.exceptions import CancelledCallError
from flux2_tool.journal.handle import WARNING
from flux2_tool.journal.protocol import LOCK_PATIENCE_S
from flux2_tool.tasks.resume import Account
from flux2_tool.tasks.task import ImageTask

if TYPE_CHECKING:
    from flux2_tool.schema.results import ImageInfo

logger = logging.getLogger(__name__)

T = TypeVar("T")

RECENT: Final = "recent"
"""As a task's id it says the same as none, the last pictures: some models must name every argument."""

# A wait may end during the POST. Without its response there is no task id to return, so the wait gets this much more.
SUBMIT_GRACE_S: Final = 8.0
PROGRESS_EVERY_S: Final = 5.0
# How long an earlier task is looked up, where that is a part of something else.
LOOKUP_WAIT_S: Final = 15.0
# Time to write what has happened, for a call whose wait is over.
RECORD_GRACE_S: Final = 0.5


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
        shown: Of each of its tasks: whether it was completed, its pictures, and warnings about them.
    """

    tool: str
    arguments: Mapping[str, Any]
    account: Account
    deadline_s: float
    begun_s: float
    cancel: CancelToken
    on_progress: OnProgress = lambda _progress: None
    wake: Alarm = field(default_factory=Alarm)
    warnings: list[str] = field(default_factory=list)
    shown: dict[ImageTask, tuple[bool, list[ImageInfo], list[str]]] = field(default_factory=dict)

    @property
    def is_looking_back(self) -> bool:
        """Whether it asks for the last pictures, and not for one."""
        return self.tool == "get_image_task" and self.arguments.get("task_id", RECENT) == RECENT

    @property
    def count(self) -> int:
        """How many pictures it asks for."""
        return int(self.arguments.get("count", 1))


async def wait_for(
    call: ToolCall,
    image_tasks: Sequence[ImageTask],
    *,
    clock: Clock,
    deadline_s: float | None = None,
    until_response: bool = False,
) -> None:
    """Wait until all image tasks are over or the deadline has passed, and report progress.

    Args:
        call: It asked for the image tasks.
        image_tasks: One, or those of a set, which are waited for together.
        clock: Measures.
        deadline_s: Another deadline than the call's own.
        until_response: Return once a poll has ended during this wait and there is any response about the task.

    Raises:
        CancelledCallError: The host stopped the wait.
        RateLimitedError: The wait ended before any request was sent.
        ServiceUnavailableError: The wait ended without any response about any task.
    """
    deadline_s = call.deadline_s if deadline_s is None else deadline_s
    waits_since_s = clock.monotonic()
    is_look = call.tool == "get_image_task" or until_response
    responses_before = [image_task.log.responses if is_look else -1 for image_task in image_tasks]
    for image_task in image_tasks:
        image_task.subscribe(call.wake, deadline_s)
        image_task.start()
    call.cancel.watch(call.wake)
    told = ("", float("-inf"))
    try:
        while not all(image_task.is_over for image_task in image_tasks):
            call.wake.clear()
            if call.cancel.is_set:
                raise cancelled_error(image_tasks)
            now_s = clock.monotonic()
            told = _report_wait(call, image_tasks, told, now_s=now_s)
            # get_image_task returns the current state, so even wait 0 polls once.
            has_no_response = any(map(_lacks_response, image_tasks, responses_before))
            # What came before, such as a slow disk, does not use up the time for the response.
            ends_s = max(deadline_s, waits_since_s) + SUBMIT_GRACE_S if has_no_response else deadline_s
            left_s = ends_s - now_s
            if left_s <= 0 or (until_response and not has_no_response):
                break
            await clock.wait(call.wake, max(0.01, min(left_s, told[1] + PROGRESS_EVERY_S - now_s)))
        if not any(image_task.is_over or image_task.log.last_response is not None for image_task in image_tasks):
            raise no_response_error(image_tasks)
    finally:
        call.cancel.unwatch(call.wake)
        for image_task in image_tasks:
            image_task.unsubscribe(call.wake)


def _lacks_response(image_task: ImageTask, responses_before: int) -> bool:
    """Whether there is no response about a task that is not over, or none beyond a number of them."""
    log = image_task.log
    return not image_task.is_over and (log.last_response is None or log.responses == responses_before)


def _report_wait(
    call: ToolCall, image_tasks: Sequence[ImageTask], told: tuple[str, float], *, now_s: float
) -> tuple[str, float]:
    """Report what is being done, at every change and every few seconds; return what was reported last, and when."""
    message, left = progress_text(image_tasks)
    if message == told[0] and now_s - told[1] < PROGRESS_EVERY_S:
        return told
    report_progress(
        call,
        state_of(image_tasks),
        message + left,
        now_s=now_s,
        attempt=max(image_task.attempt for image_task in image_tasks),
        task_id=named_task_id(image_tasks),
    )
    return message, now_s


async def unless_cancelled(
    work: Coroutine[Any, Any, T], cancel: CancelToken, *, drop: Callable[[T], None] = lambda _result: None
) -> T | None:
    """Return the result of some work, or None when the call is cancelled first: the work is then cancelled too.

    Args:
        work: Is done beside the look at the token.
        cancel: The call's.
        drop: Called with a result that nobody gets, because this was itself cancelled when the work had just ended.
    """
    cancelled = asyncio.Event()
    cancel.watch(cancelled)
    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(cancelled.wait())
    try:
        try:
            await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        finally:
            cancel.unwatch(cancelled)
            working.cancel()
            watching.cancel()
            await asyncio.gather(working, watching, return_exceptions=True)
    except asyncio.CancelledError:
        if working.done() and not working.cancelled() and working.exception() is None:
            drop(working.result())
        raise
    return None if working.cancelled() else working.result()


async def record_warnings(call: ToolCall, image_tasks: Sequence[ImageTask], *, clock: Clock) -> list[str]:
    """Return what the tasks' records warn of, once what has happened is written or the call's wait is over."""
    found: list[str] = []
    for handle in (image_task.record_handle for image_task in image_tasks):
        if handle is not None:
            left_s = max(RECORD_GRACE_S, call.deadline_s - clock.monotonic())
            is_settled = await handle.settled(within_s=min(LOCK_PATIENCE_S, left_s))
            found += handle.warnings if is_settled else [*handle.warnings, WARNING]
    return list(dict.fromkeys(found))


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
    # The host's own code; a broken display must not lose a paid picture. Nor is what it raises this call's cancel.
    except (Exception, asyncio.CancelledError):
        logger.warning("the host's progress display failed", exc_info=True)
