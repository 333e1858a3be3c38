"""Errors of a create POST that is over without a task: what happened, and whether the image may be charged. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flux2_tool._clock import iso_utc
from flux2_tool.exceptions import PROBE_HINT, Charged, InternalError, ServiceUnavailableError, UnexpectedAnswerError
from flux2_tool.journal import Record
from flux2_tool.runapi import contract
from flux2_tool.runapi.client import HttpResponse
from flux2_tool.runapi.error_mapping import SAFE_AGAIN, quoted_status
from flux2_tool.runapi.responses import UnreadableResponseError, decode_json, read_task_id, read_unusable_id
from flux2_tool.runapi.send_errors import CrossOriginRedirectError
from flux2_tool.runapi.text import quoted

CHECK_BASE_URL: Final = f"Check the base URL. {PROBE_HINT}"


def unavailable(message: str, *, charged: Charged) -> ServiceUnavailableError:
    """Return the error after an attempt without a response.

    Args:
        message: What happened.
        charged: "unknown" when this or an earlier attempt may have been accepted.
    """
    if charged == "unknown":
        return ServiceUnavailableError(
            f"{message} Whether the image was accepted is not known.", hint=SAFE_AGAIN, charged="unknown"
        )
    return ServiceUnavailableError(f"{message} Nothing was created.", hint="Try again in a minute.", charged="no")


def defective(exc: Exception, *, task_id: str | None) -> InternalError:
    """Return the error of an accepted task that a defect keeps from being followed."""
    return InternalError(
        f"following the task failed: {type(exc).__name__}",
        hint="Please report this; get_image_task may still return the image.",
        task_id=task_id,
        charged="unknown",
    )


def redirected(path: str, where: CrossOriginRedirectError) -> UnexpectedAnswerError:
    """Return the error after a redirect that was not followed.

    Args:
        path: Of the POST.
        where: The redirect.
    """
    return UnexpectedAnswerError(
        f"RunAPI redirects POST {path} {where.as_end_of_sentence()} The image may have been accepted.",
        hint=f"{SAFE_AGAIN} {CHECK_BASE_URL}",
        charged="unknown",
    )


def not_resent(record: Record) -> UnexpectedAnswerError:
    """Return the error of a request whose response was lost, and that must not be sent again."""
    reason = "RunAPI answered 409 to it" if record.conflict else "too much time has passed to send it again"
    return UnexpectedAnswerError(
        f"An equal request was sent at {iso_utc(record.created_at)} and its response was lost; {reason}, "
        "so whether its image was made and charged is not known.",
        hint="Tell the user to look at the RunAPI dashboard. The operator can send it again with "
        f"`flux2-tool resume --resend {record.record_id[:8]}`, or settle it with `flux2-tool tasks forget "
        f"{record.record_id[:8]}`; another prompt makes a new image.",
        charged="unknown",
    )


def vanished(record: Record) -> UnexpectedAnswerError:
    """Return the error of a request that another process was sending, and that the journal does not have any more."""
    return UnexpectedAnswerError(
        f"The request that was sent at {iso_utc(record.created_at)} is not in the task journal any more, "
        "so whether its image was made and charged is not known.",
        hint="Tell the user to look at the RunAPI dashboard, and the operator to run `flux2-tool doctor`.",
        charged="unknown",
    )


def task_of_another(request_id: str | None) -> UnexpectedAnswerError:
    """Return the error where the task that was accepted is another process's, which was accepted at the same moment."""
    return UnexpectedAnswerError(
        "RunAPI accepted the request as a task of another request. The image may have been accepted.",
        hint=f"{SAFE_AGAIN} {PROBE_HINT}",
        request_id=request_id,
        charged="unknown",
        retryable=True,
    )


def without_task(response: HttpResponse, path: str) -> UnexpectedAnswerError:
    """Return the error after a response that accepts the POST, but names no task of this request."""
    if response.status_code in contract.SEE_TASK_CODES and "location" in response.headers:
        where = quoted(response.headers["location"].partition("?")[0], 100)
        text = f"HTTP {response.status_code} to {where}, which is not this request's task"
        return redirected(path, CrossOriginRedirectError(text))
    return UnexpectedAnswerError(
        f"RunAPI answered POST {path} {_instead_of_an_id(response)} ({quoted_status(response)}). "
        "The image may have been accepted.",
        hint=f"{SAFE_AGAIN} {PROBE_HINT}",
        request_id=response.request_id,
        charged="unknown",
        retryable=True,
    )


def _instead_of_an_id(response: HttpResponse) -> str:
    """Return what a successful response has in the place of an id of this request's task, in words."""
    try:
        body = decode_json(response.body, response.content_type)
    except UnreadableResponseError:
        return "without a task id of this request"
    if not isinstance(body, Mapping):
        return "with JSON that is no object, so without a task id of this request"
    if read_task_id(body) is None and (odd := read_unusable_id(body)) is not None:
        return (
            f"with the task id {quoted(odd, 100)}, which cannot stand in a path: up to {contract.MAX_TASK_ID_CHARS} "
            'ASCII characters can, without blanks and without any of / \\ ? # % " < >'
        )
    return "without a task id of this request"
