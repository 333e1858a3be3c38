"""What a command's exit code says, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DONE: Final = 0
WRONG_ARGUMENTS: Final = 2
WRONG_SETUP: Final = 3
REFUSED_OR_FAILED: Final = 4
TRY_LATER: Final = 5
STILL_PROCESSING: Final = 6
INTERRUPTED: Final = 130

EXIT_CODES_HELP: Final = (
    "Exit codes: 0 done, 2 wrong arguments or source, 3 key, configuration or journal, 4 refused or failed, "
    "5 try later or unexpected answer, 6 still processing, 130 interrupted."
)

EXIT_CODE_BY_ERROR: Final[Mapping[str, int]] = {
    "invalid_arguments": WRONG_ARGUMENTS,
    "source_refused": WRONG_ARGUMENTS,
    "missing_api_key": WRONG_SETUP,
    "authentication": WRONG_SETUP,
    "configuration_error": WRONG_SETUP,
    "journal_unavailable": WRONG_SETUP,
    "insufficient_credits": REFUSED_OR_FAILED,
    "budget_exceeded": REFUSED_OR_FAILED,
    "repeated_request": REFUSED_OR_FAILED,
    "content_refused": REFUSED_OR_FAILED,
    "generation_failed": REFUSED_OR_FAILED,
    "task_not_found": REFUSED_OR_FAILED,
    "rate_limited": TRY_LATER,
    "service_unavailable": TRY_LATER,
    "unexpected_answer": TRY_LATER,
    "worker_stopped": TRY_LATER,
    "internal_error": TRY_LATER,
    "cancelled": INTERRUPTED,
}


def exit_code_of_error(code: str) -> int:
    """Return the exit code of an error code; one that is not known counts as unexpected."""
    return EXIT_CODE_BY_ERROR.get(code, TRY_LATER)


def exit_code_of(result: Mapping[str, Any]) -> int:
    """Return the exit code of a tool's result object."""
    if "error" in result:
        return exit_code_of_error(result["error"]["code"])
    return DONE if result["task"]["state"] == "completed" else STILL_PROCESSING
