"""The edge of every host: a call's outcome, as a value, and as the JSON object that hosts return.

Inside, a call returns a `ToolResult` or raises a `Flux2Error`. Here any other exception is caught: it is a defect of
this package, is logged with its traceback, and becomes an `InternalError`. Hosts catch only what fails outside of that.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from flux2_tool.exceptions import Flux2Error, InternalError

if TYPE_CHECKING:
    from flux2_tool.schema.recent import CallResult

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


async def outcome_of(work: Awaitable[Result]) -> Result | Flux2Error:
    """Return the result of work, or the error it raises; only cancellation and process exit propagate."""
    try:
        return await work
    except Flux2Error as exc:
        return exc
    except Exception as exc:
        logger.exception("a call failed by a defect")
        return internal_error(exc)


def internal_error(exc: Exception) -> InternalError:
    """Return the error that reports a defect of this package; whether the call was charged is not known."""
    error = InternalError(
        f"flux2-tool failed by a defect ({type(exc).__name__}).",
        hint="Please report this with the log; before generating again, look at the account.",
        charged="unknown",
    )
    error.__cause__ = exc
    return error


async def result_object(work: Awaitable[CallResult]) -> dict[str, Any]:
    """Return the JSON object of a call's outcome: its result, or `{"error": {…}}`."""
    outcome = await outcome_of(work)
    # Imported here because a command needs it, if at all, only once its picture is there.
    from flux2_tool.schema.results import as_object

    return as_object(outcome)
