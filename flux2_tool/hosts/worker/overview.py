"""What `/flux2` answers in a chat: the conversation's last tasks, today's spending, and the balance for the operator.

No model and no image is involved. A conversation sees its own tasks and those of its subagents, whose images it may
fetch. The balance is the account's, so only the operator's own clients are told of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Final

from flux2_tool._clock import local_time
from flux2_tool.context import CallContext
from flux2_tool.credentials import Credentials
from flux2_tool.engine.accounts import Accounts, CredentialsSource
from flux2_tool.engine.runtime import Runtime
from flux2_tool.exceptions import BudgetExceededError, Flux2Error
from flux2_tool.journal import JournalError, Record, Spending, ThisProcess, open_journal, place_of
from flux2_tool.journal.fork_guard import SQLITE
from flux2_tool.runapi.balance import read_balance
from flux2_tool.schema.manifest import Manifest
from flux2_tool.schema.money import usd_text
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.settings import Settings
from flux2_tool.tasks.budget import caps_of, day_cap

SHOWN_TASKS: Final = 5
BALANCE_WAIT_S: Final = 8.0
_STATES: Final = {"sending": "being sent", "not_created": "not created", "unknown": "outcome unknown"}
_CAPS: Final = {"day": "Today", "session": "This conversation", "sender": "You, today"}


async def overview(
    settings: Settings,
    manifest: Manifest,
    *,
    caller: CallContext,
    credentials: CredentialsSource,
    is_operator: bool,
) -> str:
    """Return the lines of text.

    Args:
        settings: The plugin's.
        manifest: This package's.
        caller: The conversation and whoever asks.
        credentials: Returns the gateway's account.
        is_operator: Whether the balance may be told.
    """
    try:
        account: Credentials | None = credentials()
    except Flux2Error as exc:
        account, trouble = None, exc.message
    lines = [f"Flux 2 ({manifest.version})"]
    if settings.journal == "off":
        lines.append("The task journal is off, so that tasks and spending are not known.")
    elif account is None:
        lines.append(trouble)
    else:
        lines += await asyncio.to_thread(_of_journal, settings, caller, account)
    if is_operator and account is not None:
        lines.append(await _balance(account, manifest))
    return "\n".join(lines)


def _of_journal(settings: Settings, caller: CallContext, account: Credentials) -> list[str]:
    now = time.time()
    try:
        caps = caps_of(settings, caller, base_url=account.base_url, now=now)
    except BudgetExceededError:  # whoever asks may not spend, and may see the conversation's tasks
        caps = (day_cap(settings, base_url=account.base_url, now=now),)
    try:
        with SQLITE.operation(), closing(open_journal(place_of(settings), owner=ThisProcess(), now=now)) as journal:
            spawned = frozenset(journal.descendants_of(caller.session) if caller.session is not None else ())
            records, count = journal.last_of([caller.session, *spawned], limit=SHOWN_TASKS)
            spendings = [journal.spending(cap) for cap in caps if cap.kind in _CAPS]
    except JournalError as exc:
        return [f"{exc}. On the gateway's machine run: flux2-tool doctor"]
    # The empty line ends the list: as Markdown, what follows would stand in its last point.
    return [*_tasks(records, spawned, count=count), "", *(_spending(spending) for spending in reversed(spendings))]


def _tasks(last: Sequence[Record], spawned: frozenset[str], *, count: int) -> list[str]:
    if not last:
        return ["No images in this conversation yet."]
    head = "Images of this conversation" + (f", the last {len(last)} of {count}:" if len(last) < count else ":")
    return [head, *(_task(record, is_subagents=record.session in spawned) for record in reversed(last))]


def _task(record: Record, *, is_subagents: bool) -> str:
    state = _STATES.get(record.state, record.state)
    shown = ", not shown yet" if record.state == "completed" and record.delivered_at is None else ""
    maker = " by a subagent" if is_subagents else ""
    name = TaskRef.text_of(record.task_id) or f"record:{record.record_id[:8]}"
    made = local_time(record.created_at)
    cost_usd = record.cost_usd if record.state in ("completed", "failed") else None
    cost = "" if cost_usd is None else f", {usd_text(cost_usd)}"
    return f"- {made:%m-%d %H:%M} {record.label}{maker}: {state}{shown}{cost}, {name}"


def _spending(spending: Spending) -> str:
    cap = spending.cap
    reserved = f" and {usd_text(spending.reserved_usd)} reserved" if spending.reserved_usd else ""
    return f"{_CAPS[cap.kind]}: {usd_text(spending.spent_usd)} spent{reserved} of {usd_text(cap.limit_usd)}"


async def _balance(account: Credentials, manifest: Manifest) -> str:
    accounts = Accounts(lambda: account, user_agent=f"flux2-tool/{manifest.version}", runtime=Runtime())
    try:
        async with asyncio.timeout(BALANCE_WAIT_S):
            found = await read_balance(accounts.open().client)
    except TimeoutError:
        return "Balance: RunAPI did not answer in time"
    except Flux2Error as exc:
        return f"Balance: {exc.message}"
    finally:
        await accounts.aclose()
    return f"Balance: {usd_text(found.balance_usd)}"
