"""Map an unsuccessful response or a failed task to an exception.

Pure. The service's own words are quoted and never phrased as an instruction. `contract.py` defines the meaning of each
HTTP status.
"""

from __future__ import annotations

from typing import Final

from flux2_tool.exceptions import (
    PROBE_HINT,
    AuthenticationError,
    Charged,
    ContentRefusedError,
    CreditsExhaustedError,
    Flux2Error,
    GenerationFailedError,
    InvalidArgumentsError,
    RateLimitedError,
    ServiceUnavailableError,
    SourceRefusedError,
    UnexpectedAnswerError,
)
from flux2_tool.runapi import contract
from flux2_tool.runapi.client import HttpResponse
from flux2_tool.runapi.responses import (
    ServiceError,
    TaskResponse,
    UnreadableResponseError,
    decode_json,
    is_refusal,
    read_error,
    read_task_id,
)
from flux2_tool.runapi.text import quoted

SAFE_AGAIN: Final = "Call the tool again with exactly the same arguments."
LONGEST_NAMED_WAIT_S: Final = 86400.0
_MAX_CONFLICT_BYTES: Final = 4096
_NOT_KNOWN: Final = " Whether the image was accepted is not known."
MAX_WORDS_CHARS: Final = 400


def quoted_status(response: HttpResponse) -> str:
    """Return a response's status and the service's quoted message: `HTTP 422, it says: "no such model"`."""
    found = _service_error(response)
    if isinstance(found, UnreadableResponseError):
        return f"HTTP {response.status_code}, {found}"
    return f"HTTP {response.status_code}{quoted_words(found)}"


def quoted_words(error: ServiceError) -> str:
    """Return what the service says of an error, as the end of a clause; empty when it says nothing."""
    words = error.message or error.code
    return f", it says: {quoted(words, MAX_WORDS_CHARS)}" if words else ""


def error_from_response(
    response: HttpResponse,
    *,
    request: str,
    charged: Charged = "no",
    refused: type[InvalidArgumentsError | SourceRefusedError] | None = None,
    outcome: str = "",
    check: str = "Check the base URL.",
    retry_after_s: float | None = None,
) -> Flux2Error:
    """Return the error for a response with a status other than 2xx.

    Args:
        response: Any unsuccessful response.
        request: Names the request, as in "RunAPI answered {request} with HTTP 418".
        charged: "unknown" when an attempt of this request may have been accepted.
        refused: The error for refused content, where the request contains any from the caller.
        outcome: A sentence on the call's outcome, for one that certainly charged nothing.
        check: The hint for an unexpected response.
        retry_after_s: How long the service asks to wait, in seconds.
    """
    code, status = response.status_code, quoted_status(response)
    subject = "this image" if refused is InvalidArgumentsError else request
    outcome_text = _NOT_KNOWN if charged == "unknown" else f" {outcome}" if outcome and charged == "no" else ""
    error: Flux2Error
    if is_key_refused(response):
        error = key_refused(status)
    elif code == contract.FORBIDDEN_CODE:
        error = _blocked_on_the_way(request, status, outcome_text, charged)
    elif code == contract.CREDITS_CODE and refused is not None:
        settled = " Nothing was charged." if charged == "no" else ""
        error = CreditsExhaustedError(f"The RunAPI account cannot pay for {subject} ({status}).{settled}")
    elif code == contract.RATE_LIMIT_CODE:
        wait = f"{min(retry_after_s, LONGEST_NAMED_WAIT_S):.0f} s" if retry_after_s else "a little"
        error = RateLimitedError(f"RunAPI limits the rate ({status}).", hint=f"Wait {wait}, then call again.")
    elif code in contract.RETRYABLE_CODES or code >= 500:
        error = ServiceUnavailableError(
            f"RunAPI is unavailable for {subject} ({status}).{outcome_text}",
            hint="Try again in a minute." if charged == "no" else SAFE_AGAIN,
        )
    elif refused is SourceRefusedError and code in contract.REFUSED_CODES:
        error = SourceRefusedError(
            f"RunAPI refused {request} ({status}). Nothing was charged.",
            hint="Ask the user for another picture, or use a smaller one.",
        )
    elif refused is InvalidArgumentsError and code in {*contract.REFUSED_CODES, contract.MODERATION_CODE}:
        error = _arguments_refused(response, charged)
    elif code == contract.CONFLICT_CODE and charged == "unknown":
        error = _key_in_use(response)
    else:
        error = UnexpectedAnswerError(
            f"RunAPI answered {request} with {status}.{outcome_text}",
            hint=check if charged == "no" else SAFE_AGAIN,
            retryable=charged == "unknown",
        )
    error.request_id, error.charged = response.request_id, charged
    if charged == "unknown" and code != contract.CONFLICT_CODE:  # whose key may be another request's
        error.task_id = read_task_id({}, response.headers.get(contract.TASK_ID_HEADER))
    return error


def is_key_refused(response: HttpResponse) -> bool:
    """Return whether RunAPI refused the key: what blocks requests on the way answers with a page and HTTP 403, too."""
    if response.status_code == contract.FORBIDDEN_CODE:
        found = _service_error(response)
        return not (isinstance(found, UnreadableResponseError) and found.is_page)
    return response.status_code in contract.KEY_REFUSED_CODES


def says_input_differs(response: HttpResponse) -> bool:
    """Return whether a 409 says that its idempotency key belongs to other input, and not to a request in progress."""
    found = _service_error(response)
    if isinstance(found, ServiceError):
        text = f"{found.code or ''} {found.message}"
    else:
        text = response.body[:_MAX_CONFLICT_BYTES].decode("utf-8", "replace")
    text = text.lower().replace("_", " ").replace("-", " ")
    return any(part in text for part in contract.INPUT_DIFFERS_TEXTS) and not any(
        part in text for part in contract.IN_PROGRESS_TEXTS
    )


def _key_in_use(response: HttpResponse) -> UnexpectedAnswerError:
    status = quoted_status(response)
    if says_input_differs(response):
        return UnexpectedAnswerError(
            f"This request's idempotency key is already in use ({status}), so whether the image was made is not known.",
            hint="Look at the RunAPI dashboard before asking for this image again.",
        )
    return UnexpectedAnswerError(
        f"An earlier attempt of this request may still be in progress ({status}), so whether the image was accepted "
        "is not known.",
        hint=SAFE_AGAIN,
        retryable=True,
    )


def key_refused(status: str, *, account: str = "this account") -> AuthenticationError:
    """Return the error for a key that RunAPI refused with this status."""
    return AuthenticationError(
        f"RunAPI refused the key ({status}).",
        hint=f"Replace RUNAPI_API_KEY with a valid key of {account} from https://runapi.ai; "
        "do not call again before that.",
    )


def _blocked_on_the_way(request: str, status: str, outcome_text: str, charged: Charged) -> Flux2Error:
    hint = "Ask whoever runs this network to let requests to RunAPI through; the key may well be valid."
    return UnexpectedAnswerError(
        f"RunAPI's address answered {request} with {status}. RunAPI refuses no key with a page for browsers, so "
        f"something on the way did, such as a firewall or a proxy.{outcome_text}",
        hint=hint if charged == "no" else f"{hint} {SAFE_AGAIN}",
    )


def failure_of(task: TaskResponse, *, task_id: str | None, request_id: str | None) -> Flux2Error | None:
    """Return why an ended task has no picture, or None when it has one."""
    if task.phase == "completed":
        if task.images:
            return None
        what = (
            "named only picture links that are refused: each is no whole https address, or leads to a private address"
            if task.has_refused_links
            else "returned no picture"
        )
        return UnexpectedAnswerError(
            f"RunAPI says task {task_id} is completed but {what}. It may have been charged.",
            hint="Ask again later with get_image_task; do not generate again before looking at the account. "
            f"{PROBE_HINT}",
            task_id=task_id,
            request_id=request_id,
            charged="unknown",
        )
    words = "" if task.error is None else task.error.message or task.error.code or ""
    says = f", RunAPI says: {quoted(words, MAX_WORDS_CHARS)}" if words else ""
    charged: Charged = "yes" if task.cost_usd else "no"
    settled = "Nothing was charged." if charged == "no" else f"RunAPI still billed ${task.cost_usd:g}."
    if task.error is not None and is_refusal(task.error):
        return ContentRefusedError(
            f"Moderation refused the request{says}. {settled}",
            task_id=task_id,
            request_id=request_id,
            charged=charged,
        )
    return GenerationFailedError(
        f"The image could not be generated{says}. {settled}",
        task_id=task_id,
        request_id=request_id,
        charged=charged,
    )


def _arguments_refused(response: HttpResponse, charged: Charged) -> Flux2Error:
    """Return the error for a create request whose content moderation or argument validation refused.

    The refusal may come from a gateway, a changed moderation or the key's reuse, so it does not show whether an earlier
    attempt, whose response was lost, was accepted.
    """
    found, status = _service_error(response), quoted_status(response)
    if charged == "no":
        settled = "Nothing was charged."
    elif response.status_code in contract.NOT_CREATED_CODES and not response.was_redirected:
        settled = "An earlier attempt's response was lost, so whether that one made the image is not known."
    else:
        settled = "Whether the image was made all the same is not known."
    again = f"{SAFE_AGAIN} Other arguments would pay for an image of their own." if charged == "unknown" else ""
    says_moderation = isinstance(found, ServiceError) and is_refusal(found)
    if response.status_code == contract.MODERATION_CODE or says_moderation:
        return ContentRefusedError(f"RunAPI's moderation refused the request ({status}). {settled}", hint=again)
    return InvalidArgumentsError(
        f"RunAPI refused the arguments ({status}). {settled}",
        hint=again or "Correct the arguments that RunAPI names, then call again.",
    )


def _service_error(response: HttpResponse) -> ServiceError | UnreadableResponseError:
    """Return the service's error, or why its body cannot be read."""
    if response.is_body_lost:
        return UnreadableResponseError("a body that could not be read to its end")
    try:
        return read_error(decode_json(response.body, response.content_type))
    except UnreadableResponseError as exc:
        return exc
