"""What a command's exit code says: done, still processing, or the group that an error belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flux2_tool.exceptions import (
    INTERRUPTED,
    REFUSED_OR_FAILED,
    TRY_LATER,
    WRONG_ARGUMENTS,
    WRONG_SETUP,
    error_from_code,
)

__all__ = [
    "DONE",
    "EXIT_CODES_HELP",
    "INTERRUPTED",
    "STILL_PROCESSING",
    "TRY_LATER",
    "WRONG_SETUP",
    "exit_code_of",
    "exit_code_of_error",
]

DONE: Final = 0
STILL_PROCESSING: Final = 6

EXIT_CODES_HELP: Final = (
    f"Exit codes: {DONE} done, {WRONG_ARGUMENTS} wrong arguments or source, "
    f"{WRONG_SETUP} key, configuration or journal, {REFUSED_OR_FAILED} refused or failed, "
    f"{TRY_LATER} try later or unexpected response, {STILL_PROCESSING} still processing, {INTERRUPTED} interrupted."
)


def exit_code_of_error(code: str) -> int:
    """Return the exit code of an error code; one that is not known counts as a defect of this package."""
    return error_from_code(code, "").exit_code


def exit_code_of(result: Mapping[str, Any]) -> int:
    """Return the exit code of a tool's result object."""
    if "error" in result:
        return exit_code_of_error(result["error"]["code"])
    return DONE if result["task"]["state"] == "completed" else STILL_PROCESSING
