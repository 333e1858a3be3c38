"""Check of a task journal in PostgreSQL: the server, how far away it is, its clock, and who else uses it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Final

from flux2_tool.diagnostics.doctor.finding import Finding, failure, ok, warning
from flux2_tool.engine.journal_report import JournalReport, journal_report, unusable_report
from flux2_tool.journal import DatabaseUrl, JournalError, ThisProcess, open_journal
from flux2_tool.journal.postgres import PostgresJournal

# Caps and the order of tasks go by each machine's own clock; leases go by the server's.
CLOCK_OFF_S: Final = 5.0
# A picture makes nine round trips, two of them in its claim.
SLOW_S: Final = 0.1


def check_shared_journal(url: str, *, now: float) -> Finding:
    """Check whether the database can be used, and count its open tasks; nothing is changed but a missing schema."""
    try:
        with closing(open_journal(DatabaseUrl(url), owner=ThisProcess(), now=now)) as opened:
            assert isinstance(opened, PostgresJournal)  # noqa: S101 - what an address opens
            report = journal_report(opened)
    except JournalError as exc:
        report = unusable_report(exc)
    return judge(report)


def judge(report: JournalReport) -> Finding:
    """Return the finding about a shared journal, as this process or the gateway's worker has found it."""
    if report.error:
        return failure("journal", report.error, report.hint, reason=report.reason)
    message = (
        f"PostgreSQL {report.server_version}, {report.latency_s * 1000:.1f} ms away, its clock"
        f" {_clock_text(report.clock_ahead_s)}; {_others_text(report)}; {report.tasks} tasks, {report.open} open,"
        f" {report.unknown} of unknown outcome"
    )
    facts = {key: value for key, value in asdict(report).items() if key not in ("error", "reason", "hint")}
    if report.wrong_sums:
        text = f"{message}; {report.wrong_sums} sums of spending differ from its tasks, so the caps count wrong amounts"
        return warning("journal", text, "flux2-tool tasks prune   (it also counts them anew)", **facts)
    if abs(report.clock_ahead_s) > CLOCK_OFF_S:
        return warning("journal", message, "set this machine's clock and the server's, for instance by chrony", **facts)
    if report.latency_s > SLOW_S:
        return warning("journal", message, "run the database near the gateways: each image waits for it", **facts)
    if report.unknown:
        return warning("journal", message, "flux2-tool tasks --state unknown", **facts)
    return ok("journal", message, **facts)


def _clock_text(ahead_s: float) -> str:
    if abs(ahead_s) < 0.05:
        return "like this machine's"
    return f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"


def _others_text(report: JournalReport) -> str:
    if not report.others:
        return "no other process of flux2-tool is connected"
    hosts = ", ".join(f"{count} on {host}" for host, count in report.others.items())
    count = sum(report.others.values())
    return f"{count} other process{'' if count == 1 else 'es'} of flux2-tool connected ({hosts})"
