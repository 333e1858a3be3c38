"""Random mutants that are left out, because they change nothing that anybody relies on, with the reason for each.

A pattern is looked for in a mutant's identity, which `operators.py` makes: file, qualified name, operator, the text and
what replaces it.
"""

from __future__ import annotations

import re
from typing import Final

_KINDS: Final[dict[str, str]] = {
    r"^flux2_tool/tasks/(duration_\w+|poll_schedule)\.py .*(_poll_times|_spaced|_fit|DurationEstimator\.learn) ": (
        "how well polls are planned is a matter of degree; tests/tasks/test_poll_schedule.py bounds it as a whole"
    ),
    r"^\S+  constant '\d+\.\d+' ": "a tuned number of a module: a second more is a matter of degree",
    r"^flux2_tool/tasks/(duration_\w+|poll_schedule)\.py  constant ": "a tuned number; the benchmarks measure it",
    r" None returned 'False' -> ": "None counts as false where it is returned to",
    r" argument dropped .*(hint=|check=|outcome=|dir=|prefix=|name=|timespec=|maxsize=|strict=)": (
        "wording, or a name for people"
    ),
    r" argument dropped .*\b(ensure_ascii|sort_keys)=": "the same text in another spelling",
}
_SINGLE: Final[dict[str, str]] = {
    r"journal/errors\.py failure_reason operand dropped 'exc\.errno or 0'": "no reason has the number None, either",
    r"journal/session_table\.py SessionTable\.newest constant 'False'": (
        "a default; the registry always says which it wants"
    ),
    r"tasks/registry\.py Registry\._joined operand dropped 'shared is not None and": (
        "for the type checker: a task that was adopted has a record"
    ),
    r"runapi/client\.py RunapiClient\.is_slowed operand dropped .* -> '\(self\._rate_limiter\.is_slowed\)'": (
        "for the type checker: every client that submits has a rate limiter"
    ),
    r"runapi/(rate_limit|backoff)\.py \S+ constant '16' -> '17'": "the ceiling is reached long before",
    r"runapi/responses\.py TaskResponse constant 'False' -> 'True' #2": (
        "asked of a completed response without images only, which always says it"
    ),
    r"tasks/follow\.py Follower\._duration_s comparison 'gap_s >= 2\.0 \* MAX_GAP_S'": "exactly a tuned number",
}


LEFT_OUT: Final = {**_KINDS, **_SINGLE}


def reason_to_leave_out(identity: str) -> str | None:
    """Return why a mutant is left out, or None if it counts."""
    for pattern, reason in LEFT_OUT.items():
        if re.search(pattern, identity):
            return reason
    return None
