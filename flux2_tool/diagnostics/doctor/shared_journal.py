"""Check of a task journal in PostgreSQL: the server, how far away it is, its clock, and who else uses it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from flux2_tool.diagnostics.doctor.finding import Finding, failure, ok, warning
from flux2_tool.journal import DatabaseUrl, JournalError, ThisProcess, open_journal
from flux2_tool.journal.postgres import PostgresJournal
from flux2_tool.journal.postgres_database import ServerFacts

# Caps and the order of tasks go by each machine's own clock; leases go by the server's.
CLOCK_OFF_S: Final = 5.0
# A claim makes about five round trips.
SLOW_S: Final = 0.1


def check_shared_journal(url: str, *, now: float) -> Finding:
    """Check whether the database can be used, and count its open tasks; nothing is changed but a missing schema."""
    place = DatabaseUrl(url)
    try:
        with closing(open_journal(place, owner=ThisProcess(), now=now)) as opened:
            assert isinstance(opened, PostgresJournal)  # noqa: S101 - what an address opens
            facts = opened.server_facts(clock=time.time, timer=time.perf_counter)
            states = [record.state for record in opened.records()]
            wrong_sums = opened.wrong_sums()
    except JournalError as exc:
        return failure("journal", str(exc), _fix(exc))
    running, unknown = sum(state in ("sending", "processing") for state in states), states.count("unknown")
    others = ", ".join(f"{host} ({count})" for host, count in facts.others.items()) or "nobody"
    message = (
        f"PostgreSQL {facts.version}, {facts.latency_s * 1000:.1f} ms away, clock {facts.clock_ahead_s:+.1f} s, also"
        f" connected: {others}; {len(states)} tasks, {running} open, {unknown} of unknown outcome"
    )
    told: Mapping[str, Any] = {
        "server_version": facts.version,
        "latency_s": facts.latency_s,
        "clock_ahead_s": facts.clock_ahead_s,
        "others": dict(facts.others),
        "tasks": len(states),
        "open": running,
        "unknown": unknown,
    }
    if wrong_sums:
        text = f"{message}; {wrong_sums} sums of spending differ from its tasks, so the caps count wrong amounts"
        return warning("journal", text, "flux2-tool tasks prune   (it also counts them anew)", **told)
    return _judged(message, facts, told, unknown=unknown)


def _judged(message: str, facts: ServerFacts, told: Mapping[str, Any], *, unknown: int) -> Finding:
    if abs(facts.clock_ahead_s) > CLOCK_OFF_S:
        return warning("journal", message, "set this machine's clock and the server's, for instance by chrony", **told)
    if facts.latency_s > SLOW_S:
        return warning("journal", message, "run the database near the gateways: each image waits for it", **told)
    if unknown:
        return warning("journal", message, "flux2-tool tasks --state unknown", **told)
    return ok("journal", message, **told)


def _fix(exc: JournalError) -> str:
    if exc.reason == "connection":
        return "start the server, or correct the address in journal_url (FLUX2_TOOL_JOURNAL_URL)"
    if exc.reason == "permissions":
        return "give the user of journal_url what docs/postgresql.md lists"
    if exc.reason == "newer":
        return "upgrade flux2-tool here, as docs/installing.md says"
    if exc.reason == "disk":
        return "free space on the server's disk"
    return "see docs/postgresql.md"
