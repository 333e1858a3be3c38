"""Every error this package raises on purpose, one class per decision the caller makes.

A class defines an error completely: its code, its exit code and its first line of documentation go from here into the
tools' output schema, the command line and the READMEs' tables. `code` and `exit_code` are stable API; the wording is
not. The host's edge (CLI, worker, MCP) turns an error into the `{"error": {...}}` object of `results.py`.

    Flux2Error
    ├── InvalidArgumentsError      invalid_arguments     change the arguments
    ├── SourceRefusedError         source_refused        ask for the picture itself, or use another
    ├── MissingApiKeyError         missing_api_key       set the key
    ├── AuthenticationError        authentication        replace the key
    ├── ConfigurationError         configuration_error   fix the set-up
    ├── CreditsExhaustedError      insufficient_credits  have the account's owner top it up
    ├── BudgetExceededError        budget_exceeded       take what still fits, wait for the reset or raise the cap
    ├── NotApprovedError           not_approved          tell the user; ask again only on their request
    ├── RepeatedRequestError       repeated_request      show the images that were already made
    ├── ContentRefusedError        content_refused       ask the user for other words or another image
    ├── GenerationFailedError      generation_failed     try once more, then tell the user
    ├── RateLimitedError           rate_limited          wait, then call again
    ├── ServiceUnavailableError    service_unavailable   wait, then call again
    ├── UnexpectedAnswerError      unexpected_answer     fetch the task later, report the response
    ├── TaskNotFoundError          task_not_found        check the task id
    ├── JournalUnavailableError    journal_unavailable   fix the disk or the journal file
    ├── CancelledCallError         cancelled             nothing: the wait was stopped on request
    ├── WorkerStoppedError         worker_stopped        call again
    └── InternalError              internal_error        report it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Literal

Charged = Literal["no", "yes", "unknown"]

# The exit codes of failed commands: each error belongs to one of these groups.
WRONG_ARGUMENTS: Final = 2
WRONG_SETUP: Final = 3
REFUSED_OR_FAILED: Final = 4
TRY_LATER: Final = 5
INTERRUPTED: Final = 130

PROBE_HINT = "The operator can record what RunAPI responds with: `flux2-tool probe` (costs one image)."


class Flux2Error(Exception):
    """Base of every error this package raises on purpose.

    Args:
        message: What happened, in one or two sentences, without key, whole prompt or image bytes.
        hint: What the reader should do next; by default what the class says.
        task_id: The RunAPI task this is about, when one was accepted.
        request_id: The service's `x-request-id`, for its support.
        charged: Whether RunAPI charged for the image, as far as is known.
        retryable: Overrides the class: whether the same call may succeed later.
    """

    code: ClassVar[str] = "internal_error"
    exit_code: ClassVar[int] = TRY_LATER
    usual_hint: ClassVar[str] = ""
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        task_id: str | None = None,
        request_id: str | None = None,
        charged: Charged = "no",
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint
        self.task_id = task_id
        self.request_id = request_id
        self.charged: Charged = charged
        # What the caller is told beside the error, as beside a result.
        self.warnings: tuple[str, ...] = ()
        if retryable is not None:
            self.retryable = retryable

    @property
    def task_to_fetch(self) -> str | None:
        """The task that may still have an image, or whose fate is worth another look; None where there is none."""
        return self.task_id


class InvalidArgumentsError(Flux2Error):
    """The arguments break the tool's schema, or RunAPI refused them. A refused request is not charged.

    Args:
        violations: One sentence per violation: path, what was given, what is allowed, the nearest allowed value.
    """

    code = "invalid_arguments"
    exit_code = WRONG_ARGUMENTS

    def __init__(self, message: str, *, hint: str = "", violations: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.violations = tuple(violations)


class SourceRefusedError(Flux2Error):
    """A source image may not or cannot be used. Nothing was sent."""

    code = "source_refused"
    exit_code = WRONG_ARGUMENTS


class MissingApiKeyError(Flux2Error):
    """No RunAPI key was found in any of the places it may come from."""

    code = "missing_api_key"
    exit_code = WRONG_SETUP


class AuthenticationError(Flux2Error):
    """RunAPI refused the key."""

    code = "authentication"
    exit_code = WRONG_SETUP


class ConfigurationError(Flux2Error):
    """A setting, the manifest or the installation is wrong. Nothing was sent."""

    code = "configuration_error"
    exit_code = WRONG_SETUP


class CreditsExhaustedError(Flux2Error):
    """The RunAPI account cannot pay for this image. Nothing was created or charged."""

    code = "insufficient_credits"
    exit_code = REFUSED_OR_FAILED
    usual_hint = (
        "Tell the user that there is no image. Only the owner of the RunAPI account can top up its balance, at "
        "https://runapi.ai; call again only when the user says that this is done."
    )


class BudgetExceededError(Flux2Error):
    """The image would exceed a cap that the operator set. Nothing was sent."""

    code = "budget_exceeded"
    exit_code = REFUSED_OR_FAILED


class NotApprovedError(Flux2Error):
    """A person has to agree to this price first, and nobody did. Nothing was sent."""

    code = "not_approved"
    exit_code = REFUSED_OR_FAILED


class RepeatedRequestError(Flux2Error):
    """The same request was made too often in a short time. Nothing was sent."""

    code = "repeated_request"
    exit_code = REFUSED_OR_FAILED


class ContentRefusedError(Flux2Error):
    """The service's moderation refused the prompt or an image. A failed generation is not charged."""

    code = "content_refused"
    exit_code = REFUSED_OR_FAILED
    usual_hint = (
        "Tell the user that moderation refused it, and ask for other words or another picture; do not reword it "
        "yourself, unless they leave the words to you. The same request will be refused again."
    )

    @property
    def task_to_fetch(self) -> None:
        """None: a refused task never has an image, however often it is fetched."""
        return


class GenerationFailedError(Flux2Error):
    """The task ended as failed. A failed generation is not charged."""

    code = "generation_failed"
    exit_code = REFUSED_OR_FAILED
    usual_hint = "Try once more with the same arguments; if it fails again, tell the user and do not repeat it."
    retryable = True


class RateLimitedError(Flux2Error):
    """The service asks us to slow down for longer than this call may wait."""

    code = "rate_limited"
    exit_code = TRY_LATER
    retryable = True


class ServiceUnavailableError(Flux2Error):
    """RunAPI could not be reached, or responded with 5xx again and again."""

    code = "service_unavailable"
    exit_code = TRY_LATER
    retryable = True


class UnexpectedAnswerError(Flux2Error):
    """RunAPI responded with something this version does not understand."""

    code = "unexpected_answer"
    exit_code = TRY_LATER

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        task_id: str | None = None,
        request_id: str | None = None,
        charged: Charged = "no",
        retryable: bool | None = None,
    ) -> None:
        # Always added: the probe shows an operator the unexpected response.
        super().__init__(
            message,
            hint=f"{hint.removesuffix(PROBE_HINT).strip()} {PROBE_HINT}".strip(),
            task_id=task_id,
            request_id=request_id,
            charged=charged,
            retryable=retryable,
        )


class TaskNotFoundError(Flux2Error):
    """No task with this id is known to RunAPI under this key."""

    code = "task_not_found"
    exit_code = REFUSED_OR_FAILED


class JournalUnavailableError(Flux2Error):
    """The task journal cannot be written, so no money is spent."""

    code = "journal_unavailable"
    exit_code = WRONG_SETUP


class CancelledCallError(Flux2Error):
    """The caller stopped waiting. RunAPI has no cancel: a task that was accepted may still finish and be charged.

    Args:
        set_task_ids: Of a wait for several pictures, the tasks that were accepted.
        is_partly_open: Whether more of them may have been accepted, without a known task.
    """

    code = "cancelled"
    exit_code = INTERRUPTED

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        task_id: str | None = None,
        charged: Charged = "no",
        set_task_ids: Sequence[str] = (),
        is_partly_open: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, task_id=task_id, charged=charged)
        self.set_task_ids = tuple(set_task_ids)
        self.is_partly_open = is_partly_open


class WorkerStoppedError(Flux2Error):
    """The worker process ended while this call was running."""

    code = "worker_stopped"
    exit_code = TRY_LATER
    retryable = True


class InternalError(Flux2Error):
    """A defect of this package."""

    code = "internal_error"
    exit_code = TRY_LATER


def error_types() -> tuple[type[Flux2Error], ...]:
    """Return the class of each code, in the order of definition."""
    return tuple(kind for kind in Flux2Error.__subclasses__() if kind.__module__ == __name__)


def error_from_code(
    code: str, message: str, *, task_id: str | None = None, request_id: str | None = None
) -> Flux2Error:
    """Rebuild an error from its entry in a journal or a result object.

    A code that this version does not know, which a newer one may have written, becomes an InternalError.
    """
    kinds = {kind.code: kind for kind in error_types()}
    error = kinds.get(code, InternalError)(message)
    error.task_id, error.request_id = task_id, request_id
    return error
