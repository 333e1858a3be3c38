"""Parse RunAPI's responses leniently, as untrusted data.

Pure functions over decoded JSON. `contract.py` defines which fields are read, and in which order. Text from the service
is bounded and stripped of control characters; unknown fields are ignored.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

from flux2_tool._net import MAX_URL_CHARS
from flux2_tool.runapi import contract
from flux2_tool.runapi.billing import read_cost_usd, was_refunded
from flux2_tool.runapi.fields import dig, first_text, text_of
from flux2_tool.runapi.image_links import ImageLink, image_links, names_unusable_links, usable
from flux2_tool.runapi.services import current_model
from flux2_tool.runapi.text import as_token, html_title, printable
from flux2_tool.schema.json_numbers import json_number

Phase = Literal["active", "completed", "failed", "unknown", "absent"]

_MAX_DEPTH = 6
_MAX_WORDS_CHARS = 400
_REFUSAL = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, contract.REFUSAL_WORDS))})(?!\w)", re.IGNORECASE)
_NOT_PATH_SAFE = frozenset(' /\\?#%"<>')
# Looked up before anything is sent: the response of a paid request must need no file that could not be opened then.
_UTF_8: Final = codecs.lookup("utf-8-sig")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceError:
    """An error in the service's own words, bounded and printable."""

    message: str
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResponse:
    """One response about a task.

    Attributes:
        phase: `absent` when the response names no status.
        ids: All ids it names that are surely a task's.
        is_replay: The response to a POST whose idempotency key was known: the task is older than the response.
        images: The links that may be fetched and shown.
        error: Why it failed; of one that is completed, why RunAPI calls it failed although it billed its picture.
        has_refused_links: Whether it names pictures, but none of their links may be fetched.
    """

    phase: Phase
    status: str | None = None
    task_id: str | None = None
    ids: frozenset[str] = frozenset()
    is_replay: bool = False
    status_url: str | None = None
    model: str | None = None
    images: tuple[ImageLink, ...] = ()
    cost_usd: float | None = None
    error: ServiceError | None = None
    has_refused_links: bool = False

    @property
    def is_about_a_task(self) -> bool:
        """Whether it names a status or a task id; other JSON is not about a task."""
        return self.phase != "absent" or self.task_id is not None


class UnreadableResponseError(ValueError):
    """The body is not usable JSON. The message describes the body.

    Args:
        message: As in "an empty body".
        is_page: Whether it is a page for browsers.
    """

    def __init__(self, message: str, *, is_page: bool = False) -> None:
        super().__init__(message)
        self.is_page = is_page


def decode_json(body: bytes, content_type: str = "") -> Any:
    """Return the decoded JSON of a response.

    Raises:
        UnreadableResponseError: The body is empty, an HTML page, broken or truncated JSON, nested too deeply, or in
            another encoding than UTF-8, the only one in which keys are masked. Single bytes that are none, such as
            those of a prompt that was cut off in a character, are replaced: no field that nobody reads may cost a task.
    """
    if not body.strip():
        raise UnreadableResponseError("an empty body")
    head = body[:512].lstrip().lower()
    if "html" in content_type.lower() or head.startswith((b"<!doctype", b"<html")):
        raise UnreadableResponseError(f"an HTML page ({html_title(body)})", is_page=True)
    try:
        return json.loads(_UTF_8.decode(body, "replace")[0], parse_int=json_number)
    except RecursionError as exc:
        raise UnreadableResponseError("JSON nested too deeply") from exc
    except ValueError as exc:
        raise UnreadableResponseError(f"{len(body)} bytes that are not JSON") from exc


def read_task(body: Any, *, https_only: bool = False) -> TaskResponse:
    """Return the task that a response describes; an envelope from the `Location` URL is unwrapped first.

    Args:
        body: The decoded JSON of the response; any value.
        https_only: Whether links with plain http or to this machine are ignored, as they are unless the service is on
            loopback. Links to other private addresses always are: whoever gets the result may fetch them.
    """
    envelope_failed = False
    ids = read_task_ids(body)
    if (inner := _inner(body)) is not None:
        code = inner.get("status")
        has_ended = phase_of(first_text(body, contract.STATUS_FIELDS)) not in ("active", "unknown")
        envelope_failed = has_ended and isinstance(code, int) and code >= 400
        body = unwrapped(body)
        ids |= read_task_ids(body)
    is_replay = any(dig(body, path) is True for path in contract.REPLAYED_FIELDS)
    status = first_text(body, contract.STATUS_FIELDS)
    phase = "failed" if envelope_failed else phase_of(status)
    if phase == "active":  # most polls; no other field matters
        return TaskResponse(
            phase=phase,
            status=printable(status or "", 60),
            task_id=read_task_id(body),
            ids=ids,
            is_replay=is_replay,
            status_url=_status_url(body),
            model=_model(body),
        )
    named = image_links(body) if phase in ("completed", "unknown") else ()
    links = usable(named, https_only)
    if phase == "completed" and not links:
        # An outer "success" may be about the request alone; the task's own status is then an inner field.
        own = first_text(body, contract.INNER_STATUS_FIELDS)
        if phase_of(own) in ("active", "failed"):
            status, phase = own, phase_of(own)
    if phase == "absent":
        named = image_links(body, contract.UNAMBIGUOUS_IMAGE_FIELDS)
        links = usable(named, https_only)
        phase = "completed" if links else "absent"
    error = _failure(body, status) if phase == "failed" else None
    if error is not None and (made := _billed_images(body, error, https_only)):
        phase, links = "completed", made
    return TaskResponse(
        phase=phase,
        status=None if status is None else printable(status, 60),
        task_id=read_task_id(body),
        ids=ids,
        is_replay=is_replay,
        status_url=_status_url(body),
        model=_model(body),
        images=links,
        cost_usd=0.0 if phase == "failed" and was_refunded(body) else read_cost_usd(body),
        error=error,
        has_refused_links=not links and (bool(named) or (phase == "completed" and names_unusable_links(body))),
    )


def unwrapped(body: Any) -> Any:
    """Return the task in an envelope, whose body may be JSON text; any other body as it is."""
    stored = _inner(body)
    if stored is None:
        return body
    inner = stored["body"]
    if isinstance(inner, str):
        with contextlib.suppress(ValueError, RecursionError):
            inner = json.loads(inner, parse_int=json_number)
    named = {key: body[key] for key in ("id", "status") if key in body}
    return {**named, **(inner if isinstance(inner, Mapping) else {"result": inner})}


def phase_of(status: str | None) -> Phase:
    """Return the phase of a status; an unlisted status is `unknown`, None is `absent`."""
    if status is None:
        return "absent"
    word = _normal(status)
    if word in contract.COMPLETED_STATUSES:
        return "completed"
    if word in contract.FAILED_STATUSES or word in contract.MODERATED_STATUSES:
        return "failed"
    return "active" if word in contract.ACTIVE_STATUSES else "unknown"


def says_no_such_task(response: TaskResponse) -> bool:
    """Return whether a response's status means that there is no such task."""
    return response.status is not None and _normal(response.status) in contract.NO_SUCH_TASK_STATUSES


def read_task_id(body: Any, header: str | None = None) -> str | None:
    """Return the first path-safe task id in the fields, else the header if that is one."""
    for path in contract.TASK_ID_FIELDS:
        found = _task_id_at(body, path)
        if found is not None:
            return found
    return header if header is not None and is_task_id(header) else None


def read_unusable_id(body: Any) -> str | None:
    """Return what stands where a task's id is expected and cannot be one, as printable text; None if nothing does."""
    found = (dig(body, path) for path in contract.TASK_ID_FIELDS)
    odd = next((value for value in found if isinstance(value, str | int | float) and value not in ("", False)), None)
    return None if odd is None else printable(str(odd), 100)


def read_task_ids(body: Any) -> frozenset[str]:
    """Return the path-safe ids that are surely a task's: one in `data` without a status may be an image's."""
    has_inner_task = first_text(body, contract.INNER_STATUS_FIELDS) is not None
    return frozenset(
        value
        for path in contract.TASK_ID_FIELDS
        if (has_inner_task or path != contract.INNER_ID_FIELD) and (value := _task_id_at(body, path)) is not None
    )


def is_task_id(value: str) -> bool:
    """Return whether an id can be one segment of a URL path once it is percent-encoded."""
    return (
        0 < len(value) <= contract.MAX_TASK_ID_CHARS
        and value not in (".", "..")
        and value.isascii()
        and value.isprintable()
        and _NOT_PATH_SAFE.isdisjoint(value)
    )


def read_error(body: Any) -> ServiceError:
    """Return the error that a response describes, in any known format."""
    code: str | None = None
    message = ""
    for path in contract.ERROR_FIELDS:
        value = dig(body, path)
        if isinstance(value, Mapping):
            code = text_of(value.get("code")) or text_of(value.get("type")) or code
            value = value.get("message") or value.get("detail") or code
        if isinstance(value, str) and value.strip():
            message = value
            break
    code = code or text_of(dig(body, "code")) or text_of(dig(body, "error_code"))
    details = _field_errors(body)
    whole = f"{message}: {details}" if message and details else message or details
    return ServiceError(message=printable(whole, 400), code=None if code is None else printable(code, 60))


def is_refusal(error: ServiceError) -> bool:
    """Return whether an error's code or text indicates moderation."""
    return _REFUSAL.search(f"{error.code or ''} {error.message}") is not None


# ---- private ---------------------------------------------------------------------------------------------------------


def _normal(status: str) -> str:
    """Return a status as the contract spells them."""
    return " ".join(status.lower().replace("_", " ").replace("-", " ").split())


def _task_id_at(body: Any, path: str) -> str | None:
    value = dig(body, path)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and is_task_id(value) else None


def _failure(body: Any, status: str | None) -> ServiceError:
    error = read_error(body)
    if status is not None and _normal(status) in contract.MODERATED_STATUSES and not is_refusal(error):
        return ServiceError(message=error.message or printable(status, 60), code=_normal(status))
    return error


def _billed_images(body: Any, error: ServiceError, https_only: bool) -> tuple[ImageLink, ...]:
    """Return the pictures of a task that is called failed and was billed all the same; none that moderation refused."""
    if is_refusal(error) or was_refunded(body) or not read_cost_usd(body):
        return ()
    return usable(image_links(body, contract.RESULT_IMAGE_FIELDS), https_only)


def _inner(body: Any) -> Mapping[str, Any] | None:
    """Return the stored response in an envelope, None of any other body."""
    inner = body.get("response") if isinstance(body, Mapping) else None
    return inner if isinstance(inner, Mapping) and inner.get("body") is not None else None


def _model(body: Any) -> str | None:
    model = first_text(body, contract.MODEL_FIELDS)
    token = None if model is None else as_token(model, 80)
    return None if token is None else current_model(token)


def _status_url(body: Any) -> str | None:
    value = first_text(body, contract.STATUS_URL_FIELDS)
    return value if value is not None and len(value) <= MAX_URL_CHARS and value.isprintable() else None


def _words(value: Any) -> str:
    """Return a field error's text; of a number, its digits; of anything else nothing, because it may be huge."""
    if isinstance(value, str):
        return value[:_MAX_WORDS_CHARS]
    return str(value) if isinstance(value, int | float) else ""


def _field_errors(body: Any) -> str:
    errors = dig(body, "errors")
    if isinstance(errors, Mapping):
        named = ((name, found if isinstance(found, list) else [found]) for name, found in islice(errors.items(), 20))
        return "; ".join(f"{_words(name)} {' and '.join(map(_words, found[:20]))}" for name, found in named)
    if isinstance(errors, list):
        return "; ".join(text_of(item) or text_of(dig(item, "message")) or "" for item in errors[:20]).strip("; ")
    return ""
