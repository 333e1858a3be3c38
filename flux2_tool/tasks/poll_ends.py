"""Decide when polling ends although no response ended the task: a refused key, no such task, or no way to RunAPI.

A task that RunAPI accepted may be paid, so each must be certain; it stays in the journal, and can be fetched later.
"""

from __future__ import annotations

from flux2_tool.exceptions import Flux2Error, TaskNotFoundError
from flux2_tool.runapi.error_mapping import key_refused
from flux2_tool.runapi.responses import TaskResponse
from flux2_tool.runapi.send_errors import UnusableNetworkError
from flux2_tool.tasks.poll import PollFailure, PollFailureKind
from flux2_tool.tasks.poll_schedule import DENIALS_BEFORE_END, REFUSALS_BEFORE_END, VISIBILITY_GRACE_S


class EarlyEnd:
    """Counts the polls of one task that were refused, denied or impossible, since it last had a status.

    Args:
        task_id: The task's id, None when it has none.
    """

    def __init__(self, task_id: str | None) -> None:
        self._task_id = task_id
        self._refusals = 0
        self._denials = 0
        self._impossible = 0

    def error_after(
        self,
        outcome: TaskResponse | PollFailure,
        *,
        was_path_proven: bool,
        verdict: PollFailureKind | None,
        age_s: float,
    ) -> Flux2Error | None:
        """Return the error that ends polling after a poll, or None to poll on.

        Args:
            was_path_proven: Whether the polled path had returned this task's status before. A guessed one may refuse
                or deny what another has, so then all paths must have been polled.
            verdict: How polling failed at all paths, from `Poller.verdict_of_all_paths`.
            age_s: How long ago the task was accepted, in seconds; a new one may not be visible yet.
        """
        if isinstance(outcome, TaskResponse):
            self._refusals = self._denials = self._impossible = 0
            return None
        if outcome.kind == "unauthorized":
            self._refusals += 1
            if self._refusals >= REFUSALS_BEFORE_END and (was_path_proven or verdict == "unauthorized"):
                return refused_while_polling(outcome, task_id=self._task_id)
        elif outcome.kind == "no_network":
            self._impossible += 1
            if self._impossible >= REFUSALS_BEFORE_END:
                error = UnusableNetworkError(outcome.message, outcome.hint).as_set_up_error()
                return _not_lost(error, task_id=self._task_id)
        elif outcome.is_denial and age_s >= VISIBILITY_GRACE_S:
            self._denials += 1
            if self._denials >= DENIALS_BEFORE_END and (was_path_proven or verdict == "not_found"):
                return TaskNotFoundError(
                    f"RunAPI accepted task {self._task_id}, but now says that there is no such task. "
                    "Whether it was charged is not known.",
                    hint="Look at the RunAPI dashboard before asking for this image again.",
                    task_id=self._task_id,
                    request_id=outcome.request_id,
                    charged="unknown",
                )
        return None


def refused_while_polling(failure: PollFailure, *, task_id: str | None) -> Flux2Error:
    """Return the error for a key that polls of a task are refused with; the task may go on and be charged."""
    error = key_refused(failure.message, account="the account that made the task")
    error.request_id = failure.request_id
    return _not_lost(error, task_id=task_id)


def _not_lost(error: Flux2Error, *, task_id: str | None) -> Flux2Error:
    """Add to an error that the task may go on and be charged, and how to fetch it."""
    error.task_id, error.charged = task_id, "unknown"
    if task_id is not None:
        error.hint += f' Task {task_id} is not lost: fetch it then with get_image_task, task_id "{task_id}".'
    return error


def lookup_failure(verdict: PollFailureKind | None, failure: PollFailure, *, task_id: str) -> Flux2Error | None:
    """Return why a task that was created elsewhere cannot be found, or None while it may still be found.

    Args:
        verdict: How polling failed at all paths, from `Poller.verdict_of_all_paths`.
        failure: The last failure.
        task_id: The task's id.
    """
    if verdict == "not_found":
        return TaskNotFoundError(
            f"RunAPI knows no task {task_id} under this key: no status path has it.",
            hint="Check the task id; it is in the result of the call that made the image.",
            request_id=failure.request_id,
        )
    if verdict == "unauthorized":
        return refused_while_polling(failure, task_id=task_id)
    return None
