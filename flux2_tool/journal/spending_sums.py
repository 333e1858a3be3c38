"""Spending as running sums beside the records, so that a cap costs the same however many requests a day had.

Triggers keep the table `spending` in the same transaction as each change of a record, whoever writes it. A sum belongs
to a scope: all requests, a conversation, or a person. Days are sums of slots of 15 minutes, because processes may have
different time zones, and every zone's midnight is at a multiple of 15 minutes. Amounts are whole nano-dollars, so that
what is added and subtracted leaves no remainder. Deleting a record keeps what was billed for it, as `pruned`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from flux2_tool.journal.database import Database, Executes
from flux2_tool.journal.model import Cap, Spending

SLOT_S: Final = 900
# A day can have 49 hours: a zone that moves across the date line has one date twice.
LONGEST_DAY_S: Final = 49 * 3600
_NANO: Final = 1_000_000_000

_SCOPES: Final = ("all", "session", "sender")
# A conversation's cap has no days. A key is never NULL: '' stands for no name, '=name' for a name.
_KEY: Final = {
    "all": ("''", True),
    "session": ("ifnull('=' || {row}.session, '')", False),
    "sender": ("ifnull('=' || {row}.sender, '')", True),
}


def _nano(amount: str) -> str:
    return f"CAST(round({amount} * {_NANO}) AS INTEGER)"


def _spent(row: str) -> str:
    cost = f"coalesce({row}.cost_usd, {row}.reserved_usd)"
    return (
        f"CASE {row}.state WHEN 'completed' THEN {_nano(cost)}"
        f" WHEN 'failed' THEN {_nano(f'coalesce({row}.cost_usd, 0)')} ELSE 0 END"
    )


def _reserved(row: str) -> str:
    return (
        f"CASE WHEN {row}.state IN ('sending', 'processing', 'unknown') THEN {_nano(f'{row}.reserved_usd')} ELSE 0 END"
    )


def _place(row: str, scope: str) -> str:
    """Return the key's columns of a record's sum: scope, name, slot, and whether it is real money.

    Plain http is for loopback only, see `settings.normalized_base_url`.
    """
    name, has_slots = _KEY[scope]
    slot = f"CAST({row}.created_at / {SLOT_S} AS INTEGER)" if has_slots else "0"
    return f"'{scope}', {name.format(row=row)}, {slot}, {row}.base_url NOT LIKE 'http://%'"


def _add(row: str, scope: str, spent: str, reserved: str, pruned: str = "0") -> str:
    return (
        "INSERT INTO spending (scope, name, slot, is_real, spent, reserved, pruned)"  # noqa: S608 - own names
        f" VALUES ({_place(row, scope)}, {spent}, {reserved}, {pruned})"
        " ON CONFLICT (scope, name, slot, is_real) DO UPDATE SET spent = spent + excluded.spent,"
        " reserved = reserved + excluded.reserved, pruned = pruned + excluded.pruned"
    )


def _trigger(name: str, event: str, *statements: str, when: str = "") -> str:
    body, condition = ";\n".join(statements), f" WHEN {when}" if when else ""
    return f"CREATE TRIGGER {name} AFTER {event} ON records{condition} BEGIN\n{body};\nEND"


def _of_records(row: str = "records") -> str:
    """Return a query of the sums as the records say them."""
    parts = [
        f"SELECT {_place(row, scope)}, {_spent(row)}, {_reserved(row)} FROM records"  # noqa: S608 - own names
        for scope in _SCOPES
    ]
    columns = "scope, name, slot, is_real, spent, reserved"
    return (
        f"WITH amounts ({columns}) AS ({' UNION ALL '.join(parts)})"  # noqa: S608 - own names
        " SELECT scope, name, slot, is_real, sum(spent) AS spent, sum(reserved) AS reserved FROM amounts"
        " GROUP BY scope, name, slot, is_real"
    )


SUMS_OF_RECORDS: Final = _of_records()
_COUNTED: Final = "state, cost_usd, reserved_usd, session, sender, created_at, base_url"
_IS_IN_PLACE: Final = " AND ".join(
    f"NEW.{name} IS OLD.{name}" for name in ("session", "sender", "created_at", "base_url")
)
_CHANGES: Final = (
    # What an acceptance changes is no amount, and an end changes each sum once.
    _trigger(
        "spending_of_changed",
        f"UPDATE OF {_COUNTED}",
        *(
            _add("NEW", scope, f"{_spent('NEW')} - {_spent('OLD')}", f"{_reserved('NEW')} - {_reserved('OLD')}")
            for scope in _SCOPES
        ),
        when=f"{_IS_IN_PLACE} AND ({_spent('NEW')} != {_spent('OLD')} OR {_reserved('NEW')} != {_reserved('OLD')})",
    ),
    _trigger(
        "spending_of_moved",
        f"UPDATE OF {_COUNTED}",
        *(_add("OLD", scope, f"-({_spent('OLD')})", f"-({_reserved('OLD')})") for scope in _SCOPES),
        *(_add("NEW", scope, _spent("NEW"), _reserved("NEW")) for scope in _SCOPES),
        when=f"NOT ({_IS_IN_PLACE})",
    ),
)

SPENDING: Final = (
    "CREATE TABLE spending (scope TEXT NOT NULL, name TEXT NOT NULL, slot INTEGER NOT NULL,"
    " is_real INTEGER NOT NULL, spent INTEGER NOT NULL, reserved INTEGER NOT NULL, pruned INTEGER NOT NULL,"
    " PRIMARY KEY (scope, name, slot, is_real)) WITHOUT ROWID",
    _trigger("spending_of_new", "INSERT", *(_add("NEW", scope, _spent("NEW"), _reserved("NEW")) for scope in _SCOPES)),
    *_CHANGES,
    _trigger(
        "spending_of_deleted",
        "DELETE",
        *(_add("OLD", scope, "0", f"-({_reserved('OLD')})", _spent("OLD")) for scope in _SCOPES),
    ),
)

SPENDING_SUMS: Final = ";\n".join(
    (
        *SPENDING,
        f"INSERT INTO spending SELECT *, 0 FROM ({SUMS_OF_RECORDS})",  # noqa: S608 - own names
        # The newest record of a session, and of an equal request, in the order of insertion.
        "CREATE INDEX records_by_session ON records (session, state)",
        "DROP INDEX records_spending_by_service",
    )
)


CHANGED_SPENDING: Final = ";\n".join(
    (*(f"DROP TRIGGER IF EXISTS {name}" for name in ("spending_of_changed", "spending_of_moved")), *_CHANGES)
)


def spending_of(database: Database, cap: Cap) -> Spending:
    """Return the use of a cap, from at most two sums for each quarter of an hour of its day."""
    return asked_spending(database, cap)()


def asked_spending(database: Database, cap: Cap) -> Callable[[], Spending]:
    """Return what reads the use of a cap, see `Database.ask`."""
    if cap.kind == "image":
        return lambda: Spending(cap=cap, spent_usd=0.0, reserved_usd=0.0)
    scope = "all" if cap.kind == "day" else cap.kind
    named = {"day": None, "session": cap.session, "sender": cap.sender}[cap.kind]
    has_slots = _KEY[scope][1]
    first = int(cap.since // SLOT_S) if has_slots and cap.since is not None else -(2**62)
    last = -int(-cap.until // SLOT_S) if has_slots and cap.until is not None else 2**62
    sums = database.ask(
        "SELECT coalesce(sum(spent), 0), coalesce(sum(reserved), 0) FROM spending"
        " WHERE scope = ? AND name = ? AND slot >= ? AND slot < ? AND is_real >= ?",
        (scope, "" if named is None else f"={named}", first, last, int(cap.excludes_loopback)),
    )

    def read() -> Spending:
        [(spent, reserved)] = sums()
        return Spending(cap=cap, spent_usd=int(spent) / _NANO, reserved_usd=int(reserved) / _NANO)

    return read


class SpentAt(NamedTuple):
    """What requests of one quarter of an hour cost, and what is reserved for those whose outcome is open.

    Attributes:
        at: When it begins, in seconds since 1970.
        is_real: Whether it was real money, and not that of a sandbox on this machine.
    """

    at: float
    is_real: bool
    spent_usd: float
    reserved_usd: float


def spent_since(database: Executes, since: float) -> Iterator[SpentAt]:
    """Yield what was spent since a time, oldest first."""
    rows = database.execute(
        "SELECT slot, is_real, spent, reserved FROM spending WHERE scope = 'all' AND slot >= ? ORDER BY slot",
        (int(since // SLOT_S),),
    )
    for slot, is_real, spent, reserved in rows:
        yield SpentAt(slot * SLOT_S, bool(is_real), spent / _NANO, reserved / _NANO)


def wrong_sums(database: Database) -> int:
    """Return how many sums differ from what the records say, apart from what deleted ones had spent."""
    found = database.execute(
        "SELECT count(*) FROM ("  # noqa: S608 - own names
        "SELECT scope, name, slot, is_real, sum(spent) AS spent, sum(reserved) AS reserved FROM ("
        f"SELECT * FROM ({database.sums}) AS counted UNION ALL"
        " SELECT scope, name, slot, is_real, pruned - spent, -reserved FROM spending"
        ") AS differences GROUP BY scope, name, slot, is_real HAVING sum(spent) != 0 OR sum(reserved) != 0) AS wrong"
    ).fetchone()
    return int(found[0])


def count_anew(database: Database) -> None:
    """Set the sums to what the records say and what deleted ones had spent."""
    database.execute("UPDATE spending SET spent = pruned, reserved = 0")
    database.execute(
        "INSERT INTO spending (scope, name, slot, is_real, spent, reserved, pruned)"  # noqa: S608 - own names
        f" SELECT counted.*, 0 FROM ({database.sums}) AS counted WHERE true"
        " ON CONFLICT (scope, name, slot, is_real) DO UPDATE SET spent = spending.spent + excluded.spent,"
        " reserved = excluded.reserved"
    )


def drop_old_sums(database: Database, *, before: float) -> None:
    """Delete the sums of whole days that no cap counts any more and that no record is part of."""
    database.execute(
        "DELETE FROM spending WHERE scope != 'session' AND slot < ? AND spent = pruned AND reserved = 0",
        (int((before - LONGEST_DAY_S) // SLOT_S),),
    )
