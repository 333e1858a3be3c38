"""The journal's database in PostgreSQL 14 or newer: a pool of connections, and transactions of many processes at once.

Transactions are READ COMMITTED. A claim reads what it decides by and writes what follows from it, so claims take one
advisory lock, one after the other, as SQLite's writers do; every other transaction changes a record whose row it locks
first. So a claim is right whatever runs beside it, and nothing has to be tried again but deadlocks, which are reported
as a lock. Statements of a transaction are sent together up to the first whose result is read (pipeline mode), because
each wait for the server costs a round trip, and other claims wait meanwhile. Source:
https://www.postgresql.org/docs/current/explicit-locking.html, https://www.psycopg.org/psycopg3/docs/advanced/pool.html
and https://www.psycopg.org/psycopg3/docs/advanced/pipeline.html.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, LiteralString, cast

from flux2_tool._database_url import shown_url
from flux2_tool._platform import is_readable
from flux2_tool.journal.postgres_connecting import (
    APPLICATION,
    CONNECT_TIMEOUT_S,
    application_name,
    base_options,
    first_connection,
    line_options,
)
from flux2_tool.journal.postgres_listener import PostgresListener, channel_of
from flux2_tool.journal.postgres_schema import ORDER, SUMS_OF_RECORDS, migrate
from flux2_tool.journal.protocol import LOCK_PATIENCE_S
from flux2_tool.journal.server_errors import ServerError, missing_package, reason_of

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import ConnectionPool

_NOWHERE: Final = logging.NullHandler()
# As many operations as run at once in one process.
POOL_SIZE: Final = 4
# How long to wait for a connection after one could not be made: the pool goes on trying in the background.
_AWAY_TIMEOUT_S: Final = 0.2
_ROUND_TRIPS: Final = 3
# How long a transaction waits for a row or for the lock of the claims, and one statement for its result.
# As long as whoever asks has patience: to wait anew would be to wait at the end of the queue again.
_LOCK_TIMEOUT_S: Final = LOCK_PATIENCE_S
_STATEMENT_TIMEOUT_S: Final = 10.0
# A process that stands still in the middle of a claim, or whose host is gone, would hold up the claims of all others.
_PAUSE_TIMEOUT_S: Final = 10.0
_OF_STATEMENT, _OF_PAUSE = "statement_timeout", "idle_in_transaction_session_timeout"
_LOCK_CLAIMS: Final = "SELECT pg_advisory_xact_lock(hashtextextended('flux2-tool claim ' || %s, 0))"
# Whatever the default of the server, the database or the role is.
_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
_NOT_SYNCED: Final = "SET LOCAL synchronous_commit = off"
# What else may be set waits at least for the server's own disk.
_SYNCED: Final = (
    "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
)
_TIME: Final = "SELECT extract(epoch FROM clock_timestamp())::double precision"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What can be said of a server.

    Attributes:
        version: Such as "15.4".
        latency_s: The shortest of a few round trips, in seconds.
        clock_ahead_s: How far its clock is ahead of this machine's, in seconds, give or take the latency.
        others: How many other processes of this package are connected to the database, by the name of their host.
        tasks: How many tasks the journal has.
    """

    version: str
    latency_s: float
    clock_ahead_s: float
    others: Mapping[str, int]
    tasks: int


class _Here(threading.local):
    """What this thread is in the middle of.

    Attributes:
        connection: Its connection, None outside of transactions and reads.
        asks_time: Whether the server's time is asked for with the next statement.
        time: The cursor that has it, once it is read.
        time_s: It was read.
    """

    connection: psycopg.Connection[tuple[Any, ...]] | None = None
    asks_time = False
    time: psycopg.Cursor[tuple[Any, ...]] | None = None
    time_s: float | None = None

    def begin(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.connection, self.asks_time, self.time, self.time_s = connection, False, None, None

    def end(self) -> None:
        self.connection = self.time = None


class PostgresDatabase:
    """A schema of one database. May be used from several threads, each of which has a transaction of its own.

    Args:
        pool: Of connections whose search path is the schema.
        name: The address without its password, for messages.
        schema: The schema's name.
    """

    order = ORDER
    same = "IS NOT DISTINCT FROM"
    for_update = "FOR UPDATE"
    lock_records = "LOCK TABLE records IN EXCLUSIVE MODE"
    for_long: Sequence[str] = tuple(f"SELECT set_config('{name}', '0', true)" for name in (_OF_STATEMENT, _OF_PAUSE))
    sums = SUMS_OF_RECORDS

    def __init__(self, pool: ConnectionPool[psycopg.Connection[tuple[Any, ...]]], *, name: str, schema: str) -> None:
        self._pool = pool
        self._name = name
        self._schema = schema
        self._here = _Here()
        self._is_away = False

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> psycopg.Cursor[tuple[Any, ...]]:
        cursor = self._connection.execute(_statement(sql), [_value(value) for value in values])
        if self._here.asks_time:  # behind the statement that waits for what others have locked
            self._here.asks_time, self._here.time = False, self._connection.execute(_TIME)
        return cursor

    def ask(self, sql: str, values: Sequence[Any] = (), /) -> Callable[[], Sequence[Sequence[Any]]]:
        return self.execute(sql, values).fetchall

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_statement(sql), [[_value(value) for value in row] for row in rows])

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        if self._here.connection is not None:  # within a transaction
            yield
            return
        with self._connected():
            yield

    @contextlib.contextmanager
    def writing(self, *, synced: bool = False, alone: bool = False, timed: bool = False) -> Iterator[None]:
        # The pool rolls back what an error leaves behind.
        with self._connected() as connection, connection.pipeline():
            connection.execute(_BEGIN)
            connection.execute(_SYNCED if synced else _NOT_SYNCED)
            if alone:
                connection.execute(_LOCK_CLAIMS, (self._schema,))
            self._here.asks_time = timed
            yield
            connection.execute("COMMIT")  # sent together with what was written last

    def time_s(self) -> float:
        """Return the server's time in seconds since 1970.

        Within a transaction or a read the time of one moment of it: where it began to be `timed`, or was first asked.
        """
        if self._here.time_s is None:
            asked = self._here.time or self._connection.execute(_TIME)
            self._here.asks_time = False
            [(seconds,)] = asked.fetchall()
            self._here.time_s = float(seconds)
        return self._here.time_s

    def facts(self, *, clock: Callable[[], float], timer: Callable[[], float]) -> ServerFacts:
        """Ask the server about itself.

        Args:
            clock: Returns this machine's time in seconds since 1970.
            timer: Measures the round trips.
        """
        with self._connected() as connection:
            rounds = []
            for _ in range(_ROUND_TRIPS):
                self._here.time_s = None
                begun_s = timer()
                ahead_s = self.time_s() - clock()
                rounds.append((timer() - begun_s, ahead_s))
            latency_s, ahead_s = min(rounds)
            rows = self.execute(
                "SELECT split_part(application_name, ' ', 2), count(DISTINCT application_name) FROM pg_stat_activity"
                " WHERE starts_with(application_name, ?) AND application_name != ? AND datname = current_database()"
                " GROUP BY 1 ORDER BY 1",
                (f"{APPLICATION} ", application_name()),
            )
            [(tasks,)] = self.execute("SELECT count(*) FROM records")
            return ServerFacts(
                version=connection.info.parameter_status("server_version") or "?",
                latency_s=latency_s,
                clock_ahead_s=ahead_s,
                others={str(host): int(count) for host, count in rows},
                tasks=int(tasks),
            )

    def lock(self, name: str) -> None:
        self.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('flux2-tool account ' || ?, 0))", (f"{self._schema} {name}",)
        )

    def notify(self, message: str) -> None:
        self.execute("SELECT pg_notify(?, ?)", (channel_of(self._schema), message))

    def checkpoint(self) -> None:
        """Nothing: a commit is all that another process needs."""

    def close(self) -> None:
        self._pool.close(timeout=CONNECT_TIMEOUT_S)

    # ---- private -----------------------------------------------------------------------------------------------------

    @property
    def _connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        return cast("psycopg.Connection[tuple[Any, ...]]", self._here.connection)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """Take a connection for this thread.

        Raises:
            JournalError: There is none, or what was done with it failed.
        """
        import psycopg
        from psycopg_pool import PoolClosed, PoolTimeout

        try:
            with self._pool.connection(timeout=_AWAY_TIMEOUT_S if self._is_away else None) as connection:
                self._here.begin(connection)
                self._is_away = False
                try:
                    yield connection
                finally:
                    self._here.end()
        except (PoolTimeout, PoolClosed) as exc:
            self._is_away = True
            raise ServerError(f"the journal {self._name} does not answer: {exc}", reason="connection") from exc
        except (psycopg.Error, ValueError, TypeError, OverflowError) as exc:
            text = f"the journal {self._name} cannot be used: {str(exc).strip()}"
            raise ServerError(text, reason=reason_of(exc)) from exc


def _check(connection: psycopg.Connection[Any]) -> None:
    """Raise psycopg.Error for a connection that has ended. Costs a round trip only where the server has said something.

    An idle connection has nothing to read until the server ends it, or, seldom, tells of a setting that has changed.
    One that ends unseen fails in its first statement, which is tried again.
    """
    if is_readable(connection.fileno()):
        connection.execute("")


def _configure(connection: psycopg.Connection[Any], *, schema: str) -> None:
    from psycopg import sql

    limits = {"lock_timeout": _LOCK_TIMEOUT_S, _OF_STATEMENT: _STATEMENT_TIMEOUT_S, _OF_PAUSE: _PAUSE_TIMEOUT_S}
    settings = [sql.SQL("SET {} = {}").format(sql.Identifier(name), round(s * 1000)) for name, s in limits.items()]
    path = sql.SQL("SET search_path TO {}").format(sql.Identifier(schema))
    # A plan for any values looks for a conversation without pictures among all that there are.
    plans = sql.SQL("SET plan_cache_mode = force_custom_plan")
    connection.execute(sql.SQL("; ").join([path, plans, *settings]))


def _statement(sql: str) -> LiteralString:
    """Return a statement with psycopg's placeholders; all statements are this package's own."""
    return sql.replace("%", "%%").replace("?", "%s")


def _value(value: Any) -> Any:
    """Return a value as PostgreSQL can have it, whose texts have no NUL."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


def listener_of(url: str, *, schema: str) -> PostgresListener:
    """Return what hears the processes of a journal; it connects when it is started."""
    return PostgresListener(url, schema=schema, options=base_options())


def open_database(url: str, *, schema: str, now: float, most: int = POOL_SIZE) -> PostgresDatabase:
    """Connect, bring the schema up to date, and return the database.

    Args:
        url: As PostgreSQL's own programs take it.
        schema: The name of the schema that has the journal's tables.
        now: The time that is noted of applied steps, in seconds since 1970.
        most: How many connections at most.

    Raises:
        JournalError: The server cannot be reached, refuses, is too old, or a newer version of this package wrote it.
    """
    try:
        from psycopg_pool import ConnectionPool
    except ImportError as exc:
        raise missing_package(exc.name or "psycopg") from exc
    with first_connection(url) as connection:
        migrate(connection, schema=schema, now=now)
    # Where nobody has said where logs go, Python would write the pool's warnings to stderr, one for each attempt.
    logging.getLogger("psycopg").addHandler(_NOWHERE)
    pool = ConnectionPool(
        url,
        kwargs={**base_options(), **line_options(url)},
        min_size=1,
        max_size=most,
        timeout=CONNECT_TIMEOUT_S,
        reconnect_timeout=CONNECT_TIMEOUT_S,  # then whoever asks next has it tried anew, and not after a long pause
        configure=partial(_configure, schema=schema),
        check=_check,
        name="flux2-tool-journal",
        open=True,
    )
    return PostgresDatabase(pool, name=shown_url(url), schema=schema)
