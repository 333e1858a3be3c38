"""The table of records: rows as records, in any database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from typing import Any, Final

from flux2_tool.journal.database import Database, Executes
from flux2_tool.journal.model import Failure, Outcome, Record, SavedCopy

RECORD_COLUMNS: Final = (
    *(item.name for item in fields(Record) if item.name != "error"),
    "error_code",
    "error_message",
)


class RecordTable:
    """Reads and writes rows as records. Not for use from several threads at once, unless the database is.

    Args:
        database: An open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def _insert(self, values: dict[str, Any], *, or_update: bool = False) -> None:
        sql = f"INSERT INTO records ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"  # noqa: S608 - own names
        if or_update:
            # Not REPLACE: columns added by a newer version keep their values.
            sql += f" ON CONFLICT (record_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in values)}"
        self._database.execute(sql, tuple(values.values()))

    def _update(self, record_id: str, **values: Any) -> None:
        assignments = ", ".join(f"{name} = ?" for name in values)
        self._database.execute(
            f"UPDATE records SET {assignments} WHERE record_id = ?",  # noqa: S608 - own names
            (*values.values(), record_id),
        )

    def _updated(self, record: Record, **values: Any) -> Record:
        """Change columns of a record that this transaction has read, and return it as it is then."""
        self._update(record.record_id, **values)
        return replace(record, **values)

    def _one(self, condition: str, values: tuple[Any, ...]) -> Record | None:
        """Return the newest record that matches a condition."""
        found = self._select(condition, values, f"{self._database.order} DESC LIMIT 1")
        return found[0] if found else None

    def _locked(self, record_id: str) -> Record | None:
        """Return a record that no other transaction changes before the end of this one."""
        return self._ask_locked(record_id)()

    def _ask_locked(self, record_id: str) -> Callable[[], Record | None]:
        """Return what reads such a record, see `Database.ask`; it is locked from now on."""
        order = f"{self._database.order} {self._database.for_update}"
        found = self._asked("record_id = ?", (record_id,), order)
        return lambda: next(iter(found()), None)

    def _select(self, condition: str, values: tuple[Any, ...], order: str | None = None) -> list[Record]:
        return self._asked(condition, values, order)()

    def _asked(self, condition: str, values: tuple[Any, ...], order: str | None = None) -> Callable[[], list[Record]]:
        """Return what reads the records that match a condition, see `Database.ask`."""
        rows = self._database.ask(
            f"SELECT {', '.join(RECORD_COLUMNS)} FROM records WHERE {condition}"  # noqa: S608 - own names
            f" ORDER BY {order or self._database.order}",
            values,
        )
        return lambda: [record_of(row) for row in rows()]

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._database.reading():
            yield

    @contextmanager
    def _transaction(self, *, synced: bool = False, alone: bool = False, timed: bool = False) -> Iterator[None]:
        """One transaction, rolled back on failure. Only a synced one must survive a power failure."""
        with self._database.writing(synced=synced, alone=alone, timed=timed):
            yield


def all_records(connection: Executes) -> list[Record]:
    """Return every record of a SQLite database, in the order of insertion."""
    sql = f"SELECT {', '.join(RECORD_COLUMNS)} FROM records ORDER BY rowid"  # noqa: S608 - own names
    return [record_of(row) for row in connection.execute(sql)]


def newest_records(database: Executes, order: str, most: int, *, record_id: str | None = None) -> list[Record]:
    """Return the newest records, or the one with an id, in the order of insertion."""
    condition, values = ("1 = 1", []) if record_id is None else ("record_id = ?", [record_id])
    sql = f"SELECT {', '.join(RECORD_COLUMNS)} FROM records WHERE {condition} ORDER BY {order} DESC LIMIT {most:d}"  # noqa: S608
    return [record_of(row) for row in database.execute(sql, values)][::-1]


def row_of(values_of: Record | Outcome) -> dict[str, Any]:
    """Return a record or an outcome as columns and their values."""
    values = {item.name: getattr(values_of, item.name) for item in fields(values_of)}
    values["error_code"], values["error_message"] = values.pop("error") or (None, None)
    return {
        name: json.dumps(value, default=asdict)
        if isinstance(value, tuple)
        else int(value)
        if isinstance(value, bool)
        else value
        for name, value in values.items()
    }


def _decoded(text: str) -> Any:
    return () if text == "[]" else json.loads(text)  # the usual case


def record_of(row: Sequence[Any]) -> Record:
    """Return the record of a row of `RECORD_COLUMNS`."""
    values: dict[str, Any] = dict(zip(RECORD_COLUMNS, row, strict=True))
    code, message = values.pop("error_code"), values.pop("error_message")
    values["error"] = None if code is None else Failure(code, message or "")
    values["images"] = tuple((url, expires_at) for url, expires_at in _decoded(values["images"]))
    values["saved"] = tuple(SavedCopy(**copy) for copy in _decoded(values["saved"]))
    for name in ("conflict", "abandoned", "orphaned"):
        values[name] = bool(values[name])
    return Record(**values)
