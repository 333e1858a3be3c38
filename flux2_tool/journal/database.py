"""What the journal's tables need of a store: statements, transactions, and the few words in which stores differ.

The tables, the rules of claims and leases and their statements are written once. They run in SQLite
(`sqlite_database.py`), one writer at a time, and in PostgreSQL (`postgres_database.py`), any number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Executes(Protocol):
    """Runs statements: a database, or a connection to one."""

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Any:
        """Run a statement and return its cursor."""
        ...


class Database(Protocol):
    """A database with the journal's schema.

    Attributes:
        order: The column that counts rows in the order of insertion.
        same: The operator that takes two NULLs for equal.
        for_update: What ends a query whose rows stay locked until the end of the transaction.
        lock_records: A statement that keeps every other transaction from changing a record; "" where none is needed.
        for_long: Statements that begin a transaction which may take long, or wait for something else meanwhile.
        sums: A query of the sums of spending as the records say them; see `spending_sums.py`.
    """

    order: str
    same: str
    for_update: str
    lock_records: str
    for_long: Sequence[str]
    sums: str

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Any:
        """Run a statement, in which each value is a "?", and return its cursor; only within `reading` or `writing`.

        How many rows were changed is certain after the transaction.
        """
        ...

    def ask(self, sql: str, values: Sequence[Any] = (), /) -> Callable[[], Sequence[Sequence[Any]]]:
        """Return what reads a query's rows, later in the same `reading` or `writing`.

        Several that are asked before the first is read cost one round trip to a server.
        """
        ...

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each row of values."""
        ...

    def reading(self) -> AbstractContextManager[None]:
        """Read; raises JournalError when the database cannot be used."""
        ...

    def writing(
        self, *, synced: bool = False, alone: bool = False, timed: bool = False
    ) -> AbstractContextManager[None]:
        """One transaction, rolled back on failure; raises JournalError when the database cannot be used.

        Args:
            synced: Whether it must survive a power failure.
            alone: Whether no other transaction of this kind may run meanwhile, in any process.
            timed: Whether it will ask for the time of leases: a server tells it with the first statement's result.
        """
        ...

    def lock(self, name: str) -> None:
        """Let no other transaction that locks this name go on before this one has ended."""
        ...

    def notify(self, message: str) -> None:
        """Tell every process that listens, where the database can, when this transaction is committed."""
        ...

    def checkpoint(self) -> None:
        """Move what was written to where a process that opens the database anew certainly finds it."""
        ...

    def close(self) -> None:
        """Close it."""
        ...
