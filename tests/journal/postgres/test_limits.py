"""How long a transaction may hold up others before the server ends it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flux2_tool.journal import DatabaseUrl
from flux2_tool.journal.postgres import PostgresJournal
from flux2_tool.journal.postgres_database import PostgresDatabase, open_database
from tests.support.journal import NOON, Named

LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout")


@pytest.fixture
def database(place: DatabaseUrl) -> Iterator[PostgresDatabase]:
    database = open_database(place.url, schema=place.schema, now=NOON)
    yield database
    database.close()


def limits(database: PostgresDatabase) -> list[str]:
    """Return the limits of this connection, "0" for none."""
    return [str(database.execute(f"SHOW {name}").fetchall()[0][0]) for name in LIMITS]


def test_a_process_that_stands_still_loses_its_transaction(database: PostgresDatabase) -> None:
    """A stopped gateway in the middle of a claim would hold up the claims of all others for as long as it stands."""
    with database.writing(alone=True):
        assert limits(database) == ["10s", "10s"]


def test_a_copy_may_take_as_long_as_it_needs(database: PostgresDatabase) -> None:
    """It reads a file of a million tasks in between; the next transaction of the connection has its limits again."""
    journal = PostgresJournal(database, Named("copier"))

    with journal.held():
        assert limits(database) == ["0", "0"]

    with database.reading():
        assert limits(database) == ["10s", "10s"]
