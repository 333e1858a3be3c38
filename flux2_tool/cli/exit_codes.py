"""The exit codes of commands: done, still processing, made but not saved, only some made, or the group of an error."""

from __future__ import annotations

import signal
from typing import Final

from flux2_tool.exceptions import (
    INTERRUPTED,
    REFUSED_OR_FAILED,
    TRY_LATER,
    WRONG_ARGUMENTS,
    WRONG_SETUP,
)

__all__ = [
    "DONE",
    "EXIT_CODES_HELP",
    "INTERRUPTED",
    "NOT_SAVED",
    "OF_SIGNAL",
    "SOME_FAILED",
    "STILL_PROCESSING",
    "TRY_LATER",
    "WRONG_SETUP",
]

DONE: Final = 0
STILL_PROCESSING: Final = 6
NOT_SAVED: Final = 7
SOME_FAILED: Final = 8
# Plus the number of the signal that ended the command.
OF_SIGNAL: Final = 128

EXIT_CODES_HELP: Final = (
    f"Exit codes: {DONE} done, {WRONG_ARGUMENTS} wrong arguments or source, "
    f"{WRONG_SETUP} key, configuration or journal, {REFUSED_OR_FAILED} refused or failed, "
    f"{TRY_LATER} try later or unexpected response, {STILL_PROCESSING} still processing, "
    f"{NOT_SAVED} made but not saved, {SOME_FAILED} only some of several made, {INTERRUPTED} interrupted "
    f"({OF_SIGNAL + signal.SIGTERM} by SIGTERM, {OF_SIGNAL + signal.SIGHUP} by SIGHUP)."
)
