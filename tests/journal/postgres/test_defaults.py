"""What a server, a database or a role has as a default must not weaken a promise about money."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from flux2_tool.journal import Cap, DatabaseUrl, ThisProcess, open_journal
from flux2_tool.journal.postgres_database import open_database
from tests.support.journal import NEVER, NOON, Machine
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_until

STRICTER = ("repeatable read", "serializable")
CAP = Cap(kind="day", limit_usd=0.05, since=NOON - 1.0, until=NOON + 1.0)


@pytest.fixture
def place(server: PostgresServer, database: str) -> DatabaseUrl:
    """A database of its own, whose defaults a test may set."""
    return DatabaseUrl(server.url(database))


def set_default(server: PostgresServer, place: DatabaseUrl, name: str, value: str) -> None:
    database = place.url.rpartition("/")[2]
    server.query(f"ALTER DATABASE {database} SET {name} = '{value}'")


@contextlib.contextmanager
def held(place: DatabaseUrl, lock: str, *, until_waiting: int) -> Iterator[None]:
    """Hold an advisory lock until so many wait for it."""
    with psycopg.connect(place.url) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"flux2-tool {lock} {place.schema}",))
        yield
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        waiting += " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        wait_until(lambda: other.execute(waiting).fetchone() == (until_waiting,))


def in_threads(*operations: Callable[[], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=operation) for operation in operations]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.parametrize("isolation", STRICTER)
def test_a_cap_holds_whatever_the_isolation_is(
    server: PostgresServer, place: DatabaseUrl, isolation: str, tmp_path: Path
) -> None:
    """A claim that waited for another must see what that one has reserved."""
    set_default(server, place, "default_transaction_isolation", isolation)
    machine, rules = Machine(tmp_path), replace(NEVER, caps=(CAP,))
    journals = [open_journal(place, owner=ThisProcess(), now=NOON) for _ in range(2)]
    outcomes = list[str]()

    def claim(number: int) -> None:
        intent = machine.intent(f"fox {number}", reserved_usd=0.05)
        outcomes.append(journals[number].claim([intent], rules, now=NOON).outcome)

    with held(place, "claim", until_waiting=2):
        threads = in_threads(lambda: claim(0), lambda: claim(1))
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["new", "over_budget"]
    for journal in journals:
        journal.close()


@pytest.mark.parametrize("isolation", STRICTER)
def test_two_make_the_tables_whatever_the_isolation_is(
    server: PostgresServer, place: DatabaseUrl, isolation: str
) -> None:
    """Gateways that start together: the second finds what the first has made."""
    set_default(server, place, "default_transaction_isolation", isolation)
    opened = list[str]()

    def open_it() -> None:
        open_journal(place, owner=ThisProcess(), now=NOON).close()
        opened.append("opened")

    with held(place, "migrate", until_waiting=2):
        threads = in_threads(open_it, open_it)
    for thread in threads:
        thread.join()

    assert opened == ["opened", "opened"]


@pytest.mark.parametrize(
    ("default", "synced"), [("off", "on"), ("local", "local"), ("on", "on"), ("remote_apply", "remote_apply")]
)
def test_what_prevents_paying_twice_is_on_the_disk(
    server: PostgresServer, place: DatabaseUrl, default: str, synced: str
) -> None:
    """Whoever made commits asynchronous did not think of this journal; a stronger default is somebody's wish."""
    set_default(server, place, "synchronous_commit", default)
    database = open_database(place.url, schema=place.schema, now=NOON)

    seen = []
    for is_synced in (True, False, True):
        with database.writing(synced=is_synced):
            seen += [row[0] for row in database.execute("SHOW synchronous_commit")]
    database.close()

    assert seen == [synced, "off", synced]
