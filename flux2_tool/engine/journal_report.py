"""What can be told of a task journal in PostgreSQL: its server, who else uses it, and its open tasks; free of secrets.

The gateway's worker tells it to `doctor`, whose shell does not know the address of the gateway's database.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from flux2_tool.journal import JournalError
from flux2_tool.journal.postgres import PostgresJournal


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalReport:
    """The facts, or why there are none.

    Attributes:
        error: Why the journal cannot be used; empty when it can.
        reason: The category of the error, see `JournalFailureReason`.
        hint: What fixes it, where the error itself knows.
        server_version: Such as "15.4".
        latency_s: The shortest of a few round trips, in seconds.
        clock_ahead_s: How far the server's clock is ahead of the machine's that asked, in seconds.
        others: How many other processes of this package are connected, by the name of their host.
        tasks: How many the journal has; `open` and `unknown` are those that are being made or of unknown outcome.
        wrong_sums: How many sums of spending differ from the tasks.
    """

    error: str = ""
    reason: str = ""
    hint: str = ""
    server_version: str = ""
    latency_s: float = 0.0
    clock_ahead_s: float = 0.0
    others: Mapping[str, int] = field(default_factory=dict)
    tasks: int = 0
    open: int = 0
    unknown: int = 0
    wrong_sums: int = 0


def journal_report(opened: PostgresJournal) -> JournalReport:
    """Ask the server, and look through the open tasks.

    Raises:
        JournalError: The server does not answer, or refuses.
    """
    facts = opened.server_facts(clock=time.time, timer=time.perf_counter)
    states = [record.state for record in opened.records(states=("sending", "processing", "unknown"))]
    return JournalReport(
        server_version=facts.version.partition(" ")[0],  # without the packager's own
        latency_s=facts.latency_s,
        clock_ahead_s=facts.clock_ahead_s,
        others=dict(facts.others),
        tasks=facts.tasks,
        open=len(states) - states.count("unknown"),
        unknown=states.count("unknown"),
        wrong_sums=opened.wrong_sums(),
    )


def unusable_report(exc: JournalError) -> JournalReport:
    """Return the report on a journal that cannot be used."""
    return JournalReport(error=str(exc), reason=exc.reason, hint=exc.hint)
