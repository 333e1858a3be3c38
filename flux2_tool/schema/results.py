"""The one result object every host returns, and its error form. Shapes as in the manifest's `output_schema`.

Fields are added later, never renamed; a value that is not known is null.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from flux2_tool.exceptions import Charged, Flux2Error, InvalidArgumentsError
from flux2_tool.schema.task_ref import TaskRef

TaskState = Literal["completed", "processing"]
PictureState = Literal["completed", "processing", "failed", "unknown"]
CostBasis = Literal["billed", "list price", "unknown"]


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """The task. Other tools accept its `ref` as a source; `title` is the beginning of the prompt, where it is known."""

    id: str | None
    ref: str | None
    state: TaskState
    tool: str | None
    model: str | None
    joined: bool = False
    title: str | None = None


@dataclass(frozen=True, kw_only=True)
class PictureTask:
    """The task of one picture of a call; "unknown" is one of which it is not known whether it was made."""

    id: str | None
    ref: str | None
    state: PictureState


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """One picture and the task that made it. Sizes and `path` are known once the picture was downloaded."""

    url: str
    expires_at: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    path: str | None = None
    task_ref: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of all images in US dollars, and the basis of that figure: of several the least certain."""

    usd: float | None
    basis: CostBasis


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Instants in UTC; `elapsed_s` runs from submission to the end, or to now."""

    submitted_at: str | None
    finished_at: str | None
    elapsed_s: float | None
    polls: int


@dataclass(frozen=True, kw_only=True)
class ToolResult:
    """A task that is completed, or still processing when the wait ended.

    Of a call for several pictures each has a task of its own, in `tasks`; `task` is then the first that is still
    processing, else the first with a picture, and its state that of the whole set.
    """

    task: TaskInfo
    tasks: tuple[PictureTask, ...] = ()
    images: tuple[ImageInfo, ...]
    cost: Cost
    timing: Timing
    warnings: tuple[str, ...]
    next: str


@dataclass(frozen=True, kw_only=True)
class ErrorInfo:
    """Why there is no image, whether it was charged, and what to do."""

    code: str
    message: str
    hint: str
    retryable: bool
    charged: Charged
    task_ref: str | None
    request_id: str | None
    violations: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ErrorResult:
    """The error form of the result object."""

    error: ErrorInfo


def as_object(outcome: Any) -> dict[str, Any]:
    """Return the JSON-ready object of a result or of an error."""
    if isinstance(outcome, Flux2Error):
        return error_object(outcome)
    found: dict[str, Any] = _plain(outcome)
    return found


def _plain(value: Any) -> Any:
    """Return a result object, or a part of one, in JSON's own types."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def error_object(error: Flux2Error) -> dict[str, Any]:
    """Return the JSON-ready error object of an exception; `violations` and `warnings` only if there are any."""
    info = ErrorInfo(
        code=error.code,
        message=error.message,
        hint=error.hint,
        retryable=error.retryable,
        charged=error.charged,
        task_ref=TaskRef.text_of(error.task_to_fetch),
        request_id=error.request_id,
        violations=error.violations if isinstance(error, InvalidArgumentsError) else (),
        warnings=error.warnings,
    )
    told = as_object(ErrorResult(error=info))
    told["error"] = {
        name: value for name, value in told["error"].items() if value or name not in ("violations", "warnings")
    }
    return told
