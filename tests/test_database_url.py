"""Addresses of a database: what is wrong is said, and no message quotes a password."""

from __future__ import annotations

import pytest

from flux2_tool._database_url import has_password, shown_url
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.journal import JournalError
from flux2_tool.journal.postgres_database import open_database
from flux2_tool.settings import load_settings

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://me:{SECRET}@db.example/flux2", "postgresql://db.example/flux2"),
        (f"postgres://me:{SECRET}%40x@db.example:5433/flux2?sslmode=verify-full", "postgresql://db.example:5433/flux2"),
        (f"postgresql://me:{SECRET}@a:1,[::1]:2/flux2", "postgresql://a:1,[::1]:2/flux2"),
        (f"postgresql:///flux2?host=/run/postgresql&password={SECRET}", "postgresql:///flux2"),
        (f"postgresql://db.example?dbname=x&password={SECRET}", "postgresql://db.example"),
        (f"postgresql://db/x?scram_client_key={SECRET}&ssl_min_protocol_version=TLSv1.3", "postgresql://db/x"),
        (f"postgresql://db/x?sslcertmode=disable&application_name=a&sslpassword={SECRET}", "postgresql://db/x"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    """In messages, in `doctor` and in logs."""
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"mysql://me:{SECRET}@db/x", "must begin with postgresql://"),
        (f"postgresql://me:{SECRET}@t@db/x", 'such as %40 for "@"'),
        (f"postgresql://me:{SECRET}%ZZ@db/x", "two hexadecimal digits"),
        (f"postgresql://me:2024/{SECRET}@db/x", 'such as %40 for "@", %2F for "/"'),
        (f"postgresql://me:2024?{SECRET}@db/x?dbname=y", 'such as %40 for "@", %2F for "/"'),
        (f"postgresql://me:2024/x#{SECRET}@db/x", 'such as %40 for "@", %2F for "/"'),
        (f"postgresql://db:2024/x#{SECRET}", 'such as %40 for "@", %2F for "/"'),
        (f"postgresql://me@db/x?replication=true&password={SECRET}", "a parameter that flux2-tool does not take"),
        (f"postgresql://me:{SECRET}@db:port/x", "a port that is not a number"),
        (f"postgresql://me:{SECRET}@[::1/x", "is not a URL"),
        (f"postgresql://me@db/x?secret={SECRET}", "a parameter that flux2-tool does not take"),
        (f"postgresql://me:{SECRET}@db", "names no database"),
        (f"postgresql://me:{SECRET}@db\n/x", "a space or a line break"),
        (f"postgresql://me:{SECRET}\udcff@db/x", "a byte or a character that cannot be seen"),
        (f"postgresql://me:{SECRET}\u200b@db/x", "a byte or a character that cannot be seen"),
    ],
)
def test_a_wrong_address_is_refused_and_not_quoted(url: str, why: str) -> None:
    """libpq quotes what it cannot read, with the password in it."""
    with pytest.raises(ConfigurationError) as of_settings:
        load_settings({"FLUX2_TOOL_JOURNAL_URL": url})
    with pytest.raises(JournalError) as of_journal:
        open_database(url, schema="x", now=0.0)

    for caught in (of_settings, of_journal):
        assert why in str(caught.value)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@127.0.0.1:1/x",
        f"postgresql://me:{SECRET}@127.0.0.1:1/x?sslmode=bogus",
        f"postgresql://me@127.0.0.1:1/x?password={SECRET}",
    ],
)
def test_a_server_that_cannot_be_reached_is_named_without_the_password(url: str) -> None:
    """The message is for agents, who pass it on."""
    with pytest.raises(JournalError) as caught:
        open_database(url, schema="x", now=0.0)

    assert SECRET not in str(caught.value)
    assert "postgresql://127.0.0.1:1/x" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"postgresql://me:{SECRET}@db.example/flux2", True),
        (f"postgresql://me:{SECRET}@a:1,[::1]:2/flux2", True),
        (f"postgresql://me@db.example/flux2?sslmode=require&password={SECRET}", True),
        (f"postgresql://db.example/flux2?sslpassword={SECRET}", True),
        (f"postgresql://db.example/flux2?scram_client_key={SECRET}", True),
        (f"postgresql://me:2024/{SECRET}@db/x", True),
        (f"postgresql://me:2024?{SECRET}@db/x", True),
        ("postgresql://me@a:1,[::1]:2/flux2?passfile=/etc/pgpass", False),
        ("postgresql://db.example:5433/flux2", False),
    ],
)
def test_a_password_is_seen_wherever_it_stands(url: str, expected: bool) -> None:
    """On a command line every user of the machine can read it."""
    assert has_password(url) is expected


def test_what_libpq_takes_is_taken() -> None:
    """But a few that a journal does not work with: what PostgreSQL documents is worth a try."""
    pq = pytest.importorskip("psycopg.pq")
    known = {item.keyword.decode() for item in pq.Conninfo.get_defaults()}
    taken = [name for name in known if _is_taken(f"postgresql://db/x?{name}=y")]

    assert known - set(taken) <= {"replication", "client_encoding", "sslkeylogfile"} | {
        name for name in known if name.startswith("oauth_")
    }


def _is_taken(url: str) -> bool:
    try:
        shown_url(url)
    except ValueError:
        return False
    return True
