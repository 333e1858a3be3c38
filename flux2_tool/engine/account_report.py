"""What a gateway's worker tells `doctor` of its account: key, address, balance, and today's spending; for free."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from flux2_tool._files import is_file
from flux2_tool.credentials import DEFAULT_BASE_URL
from flux2_tool.engine.accounts import Accounts, CredentialsSource
from flux2_tool.engine.journal_report import JournalReport, journal_report, unusable_report
from flux2_tool.engine.runtime import Runtime
from flux2_tool.exceptions import Flux2Error
from flux2_tool.journal import DatabaseUrl, JournalError, Spending, ThisProcess, open_journal, place_of
from flux2_tool.journal.postgres import PostgresJournal
from flux2_tool.journal.sqlite import FILE_NAME
from flux2_tool.runapi.account_check import ask_service
from flux2_tool.runapi.http_client import HttpTimeouts
from flux2_tool.schema.results import error_object
from flux2_tool.settings import Settings
from flux2_tool.tasks.budget import day_cap

# Whoever asks waits for the answer; a gateway's client gives up after some seconds.
_TIMEOUTS: Final = HttpTimeouts(connect_s=5.0, read_s=10.0, attempt_s=15.0)


async def account_report(
    settings: Settings, credentials: CredentialsSource, *, user_agent: str, runtime: Runtime | None = None
) -> dict[str, Any]:
    """Return the facts as an object for a message; a key that cannot be used is `error`, in a tool's form.

    Args:
        settings: Those of the worker.
        credentials: Returns its key and address.
        user_agent: The User-Agent header.
        runtime: Network and time.
    """
    runtime = runtime or Runtime(timeouts=_TIMEOUTS)
    now = runtime.clock.now()
    told = {"home": None if settings.home is None else str(settings.home)}
    try:
        chosen = credentials()
        accounts = Accounts(credentials, user_agent=user_agent, runtime=runtime)
        try:
            facts, found = await asyncio.gather(
                ask_service(accounts.open().client, with_key=True, now=now),
                asyncio.to_thread(_journal_of, settings, base_url=chosen.base_url, now=now),
            )
        finally:
            await accounts.aclose()
    except Flux2Error as exc:
        found = await asyncio.to_thread(_journal_of, settings, base_url=DEFAULT_BASE_URL, now=now)
        return {**error_object(exc), **told, "journal": found.as_object()}
    return {
        "source": chosen.source,
        "fingerprint": chosen.fingerprint,
        "service": asdict(facts),
        **told,
        "spending": None if found.spending is None else spending_object(found.spending),
        "journal": found.as_object(),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The use of the daily cap, None where it is not known; and what is known of a journal in PostgreSQL."""

    spending: Spending | None
    journal: JournalReport | None = None

    def as_object(self) -> dict[str, Any] | None:
        return None if self.journal is None else asdict(self.journal)


def _journal_of(settings: Settings, *, base_url: str, now: float) -> _Found:
    cap = day_cap(settings, base_url=base_url, now=now)
    place = place_of(settings)
    is_there = is_file(place / FILE_NAME) if isinstance(place, Path) else place is not None
    if settings.journal == "off" or not is_there:
        return _Found(spending=Spending(cap=cap, spent_usd=0.0, reserved_usd=0.0))
    try:
        with closing(open_journal(place, owner=ThisProcess(), now=now)) as opened:
            report = journal_report(opened) if isinstance(opened, PostgresJournal) else None
            return _Found(spending=opened.spending(cap), journal=report)
    except JournalError as exc:
        return _Found(spending=None, journal=unusable_report(exc) if isinstance(place, DatabaseUrl) else None)


def spending_object(spending: Spending) -> dict[str, Any]:
    """Return a cap's use for a message."""
    return {
        "spent_usd": spending.spent_usd,
        "reserved_usd": spending.reserved_usd,
        "cap_usd": spending.cap.limit_usd,
        "until": spending.cap.until,
    }
