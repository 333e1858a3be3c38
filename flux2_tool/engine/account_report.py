"""What a gateway's worker tells `doctor` of its account: key, address, balance, and today's spending; for free."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from flux2_tool._files import is_file
from flux2_tool.engine.accounts import Accounts, CredentialsSource
from flux2_tool.engine.runtime import Runtime
from flux2_tool.exceptions import Flux2Error
from flux2_tool.journal import JournalError, Spending, ThisProcess, open_journal, place_of
from flux2_tool.journal.sqlite import FILE_NAME
from flux2_tool.runapi.account_check import ask_service
from flux2_tool.runapi.client import HttpTimeouts
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
    home = None if settings.home is None else str(settings.home)
    try:
        chosen = credentials()
        accounts = Accounts(credentials, user_agent=user_agent, runtime=runtime)
        try:
            facts = await ask_service(accounts.open().client, with_key=True, now=now)
        finally:
            await accounts.aclose()
    except Flux2Error as exc:
        return {**error_object(exc), "home": home}
    try:
        spending: Spending | None = await asyncio.to_thread(spent_today, settings, base_url=chosen.base_url, now=now)
    except JournalError:
        spending = None
    return {
        "source": chosen.source,
        "fingerprint": chosen.fingerprint,
        "service": asdict(facts),
        "home": home,
        "spending": None if spending is None else spending_object(spending),
    }


def spent_today(settings: Settings, *, base_url: str, now: float) -> Spending:
    """Return the use of the daily cap, by the journal.

    Raises:
        JournalError: The journal cannot be used.
    """
    cap = day_cap(settings, base_url=base_url, now=now)
    place = place_of(settings)
    is_there = is_file(place / FILE_NAME) if isinstance(place, Path) else place is not None
    if settings.journal == "off" or not is_there:
        return Spending(cap=cap, spent_usd=0.0, reserved_usd=0.0)
    with closing(open_journal(place, owner=ThisProcess(), now=now)) as opened:
        return opened.spending(cap)


def spending_object(spending: Spending) -> dict[str, Any]:
    """Return a cap's use for a message."""
    return {
        "spent_usd": spending.spent_usd,
        "reserved_usd": spending.reserved_usd,
        "cap_usd": spending.cap.limit_usd,
        "until": spending.cap.until,
    }
