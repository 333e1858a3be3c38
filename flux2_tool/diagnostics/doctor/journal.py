"""Checks of the task journal: whether it can be used, its open tasks, and the rest of the day's cap.

They run once with this shell's settings and once with those of the plugin, whose gateway may have others.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from flux2_tool._clock import local_time
from flux2_tool._files import is_file
from flux2_tool._folders import NO_DATA_FOLDER, NO_DATA_FOLDER_HINT, earlier_data_folder
from flux2_tool.diagnostics.doctor.environment import lowest_price_usd, not_writable
from flux2_tool.diagnostics.doctor.finding import Finding, failure, ok, warning
from flux2_tool.diagnostics.doctor.shared_journal import check_shared_journal
from flux2_tool.journal import JournalError, Spending, ThisProcess, failure_reason, open_journal, place_of
from flux2_tool.journal.errors import file_error, is_read_only, verdict_error
from flux2_tool.journal.opening import journal_file
from flux2_tool.journal.sqlite import FILE_NAME as JOURNAL_FILE
from flux2_tool.openclaw.settings_record import is_plugins_journal_elsewhere
from flux2_tool.schema.manifest import Manifest
from flux2_tool.settings import Settings
from flux2_tool.tasks.budget import day_cap, local_day

_FIXES: Final[Mapping[str, str]] = {
    "descriptors": "ulimit -n 1024   (in the shell that starts it; a service has such a limit of its own)",
    "memory": "ulimit -v unlimited   (in the shell that starts it), or free some memory",
}


def check_journal(settings: Settings, *, now: float) -> Finding:
    """Check whether the task journal can be used, and count its open tasks.

    Nothing is changed, except that the user's own journal is taken along to OpenClaw, as the next call would do it.
    """
    if settings.journal == "off":
        message = "off: a paid image may be lost or paid twice when a process ends"
        return warning("journal", message, "set the setting journal to required")
    if settings.journal_url is not None:
        return check_shared_journal(settings.journal_url, now=now)
    if settings.home is None:
        return failure("journal", f"there is no folder for it: {NO_DATA_FOLDER}", NO_DATA_FOLDER_HINT)
    path = settings.home / JOURNAL_FILE
    try:
        path = journal_file(settings.home)
        path.lstat()
    except JournalError as exc:
        return failure("journal", str(exc), exc.hint or "mount the disk that has it, or delete what the message names")
    except (FileNotFoundError, NotADirectoryError):
        blocked = not_writable(settings.home)
        if blocked is None and _is_expected(settings.home):
            return _contents_of(settings.home, now=now)
        if blocked is None:
            return ok("journal", f"none yet; the first image creates {path}")
        return failure("journal", f"{blocked} cannot be written to", "set FLUX2_TOOL_HOME to a folder that is yours")
    except PermissionError:
        pass  # opening it below says more
    except OSError as exc:  # such as a name that is too long
        return failure("journal", f"{path} cannot be used: {exc.strerror}", "set FLUX2_TOOL_HOME to another folder")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=5.0)) as connection:
            verdict = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
            connection.execute("BEGIN IMMEDIATE")
            # A file that may only be read is opened all the same, and then a transaction begins: a change says so.
            connection.execute("PRAGMA user_version = 1")
            connection.execute("ROLLBACK")
        if verdict != "ok":
            raise verdict_error(verdict, path)
    except (sqlite3.Error, JournalError) as exc:
        return _unusable(exc, path, now=now)
    return _contents_of(settings.home, now=now)


def other_than_the_plugins(settings: Settings, environ: Mapping[str, str]) -> Finding | None:
    """Return a warning where this shell would count its caps in the file, and the gateway beside it in a database."""
    if not is_plugins_journal_elsewhere(settings, environ):
        return None
    message = (
        "that of OpenClaw's plugin here is in PostgreSQL (journal_url), and this shell names none; it may not spend"
    )
    return warning("journal", message, "export FLUX2_TOOL_JOURNAL_URL with the same address")


def _is_expected(folder: Path) -> bool:
    """Whether a folder without a journal gets one from the user's own data folder."""
    earlier = earlier_data_folder(folder, os.environ)
    return earlier is not None and is_file(earlier / JOURNAL_FILE)


def _contents_of(folder: Path, *, now: float) -> Finding:
    path = folder / JOURNAL_FILE
    try:
        with closing(open_journal(folder, owner=ThisProcess(), now=now)) as opened:
            path = journal_file(folder)
            states = [record.state for record in opened.records()]
            wrong_sums = opened.wrong_sums()
    except JournalError as exc:
        return _unusable(exc, path, now=now)
    if wrong_sums:
        message = f"{path}: {wrong_sums} sums of spending differ from its tasks, so the caps count wrong amounts"
        return warning("journal", message, "flux2-tool tasks prune   (it also counts them anew)", path=str(path))
    return _contents(path, states)


def _unusable(exc: Exception, path: Path, *, now: float) -> Finding:
    error = exc if isinstance(exc, JournalError) else file_error(exc, path, failed="cannot be used")
    path = error.path or path
    if error.reason == "place":
        return failure("journal", str(error), error.hint, path=str(path))
    reason, fix = explain_unusable(exc, path, now=now)
    return failure("journal", f"{error}; {reason}", fix, path=str(path))


def explain_unusable(exc: Exception, path: Path, *, now: float) -> tuple[str, str]:
    """Return why a journal cannot be used, and the command that fixes it.

    Args:
        exc: The error of SQLite or the system, or the journal's error that it caused.
        path: The journal's file.
        now: Names the folder that a damaged journal is moved to.
    """
    reason = exc.reason if isinstance(exc, JournalError) else failure_reason(exc, path)
    shown, folder = shlex.quote(str(path)), shlex.quote(str(path.parent))
    if reason == "newer":
        return "this version does not know what is in it", "upgrade flux2-tool here, as docs/installing.md says"
    if reason == "locked":
        return "another process holds it", f"lsof {shown}   (shows which; the file itself is fine)"
    if reason == "wal_lost":
        return "the file itself is fine", f"lsof {shown}   (shows what has it open; end that, then try again)"
    if reason == "disk":
        return "its disk is full or broken", f"df {folder}   (then free some space)"
    if reason == "permissions" and is_read_only(path):
        fix = f"findmnt -T {folder}   (shows it; mount it to be written to, or set FLUX2_TOOL_HOME to another folder)"
        return "nobody can write to it", fix
    if reason == "permissions":
        fix = f"chmod u+rwx {folder} && chmod u+rw {shown}*   (of another user: sudo chown -R $(id -un) {folder})"
        return "its permissions do not let this user use it", fix
    if reason != "damaged":
        fix = _FIXES.get(reason, "correct what the message names, then run flux2-tool doctor again")
        return "nothing says that the file itself is damaged", fix
    kept = shlex.quote(str(path.with_name(f"journal-broken-{datetime.fromtimestamp(now, tz=UTC):%Y%m%d-%H%M%S}")))
    # Together with its -wal and -shm, which hold the newest records: SQLite deletes them when the file is gone.
    fix = f"mkdir {kept} && mv {shown}* {kept}/   (keep it: it lists what was paid for)"
    return "it is damaged", fix


def _contents(path: Path, states: Sequence[str]) -> Finding:
    size_bytes = sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*") if part.is_file())
    running, unknown = sum(state in ("sending", "processing") for state in states), states.count("unknown")
    message = f"{path}, {len(states)} tasks, {running} open, {unknown} of unknown outcome, {size_bytes / 1e6:.1f} MB"
    facts = {"path": str(path), "tasks": len(states), "open": running, "unknown": unknown, "size_bytes": size_bytes}
    if path.stat().st_mode & 0o077:
        return warning("journal", f"{message}; others can read it", f"chmod 600 {shlex.quote(str(path))}", **facts)
    if unknown:
        return warning("journal", message, "flux2-tool tasks --state unknown", **facts)
    return ok("journal", message, **facts)


def check_budget(settings: Settings, manifest: Manifest, *, base_url: str, now: float) -> Finding:
    """Check how much of today's cap is left, by the journal."""
    _, ends = local_day(now)
    cap = day_cap(settings, base_url=base_url, now=now)
    spending = Spending(cap=cap, spent_usd=0.0, reserved_usd=0.0)
    place = place_of(settings)
    is_there = is_file(place / JOURNAL_FILE) if isinstance(place, Path) else place is not None
    if settings.journal != "off" and is_there:
        try:
            with closing(open_journal(place, owner=ThisProcess(), now=now)) as opened:
                spending = opened.spending(cap)
        except JournalError:
            return warning("budget", "today's spending is not known without the journal", "fix the journal first")
    return budget_finding(
        manifest,
        spent_usd=spending.spent_usd,
        reserved_usd=spending.reserved_usd,
        cap_usd=cap.limit_usd,
        ends=ends,
        spenders=settings.spenders,
        tiers=settings.tiers,
    )


def budget_finding(
    manifest: Manifest, *, spent_usd: float, reserved_usd: float, cap_usd: float, ends: float, spenders: str, tiers: Any
) -> Finding:
    """Return the finding about the use of a daily cap.

    Args:
        manifest: For the lowest price.
        spent_usd: What was spent today.
        reserved_usd: What images being generated may cost.
        cap_usd: The cap.
        ends: When the day ends, in seconds since 1970.
        spenders: The setting; `tiers` likewise.
    """
    message = f"{spent_usd:.2f} USD spent and {reserved_usd:.2f} reserved of {cap_usd:.2f} today"
    facts = {"spent_usd": spent_usd, "reserved_usd": reserved_usd, "cap_usd": cap_usd}
    if spent_usd + reserved_usd + lowest_price_usd(manifest, tiers) <= cap_usd:
        return ok("budget", f"{message}; spenders: {spenders}", **facts)
    resets = local_time(ends).isoformat(timespec="minutes")
    fix = f"set daily_cap_usd higher ({manifest.settings['daily_cap_usd'].env}, or the plugin's config)"
    return warning("budget", f"{message}: not enough for one image until {resets}", fix, **facts)
