"""Servers, roles and schemas that cannot be used: each is a clear error, and the password stands nowhere."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux2_tool.journal import DatabaseUrl, JournalError, Outcome, ThisProcess, open_journal
from flux2_tool.journal.errors import unavailable
from tests.support.journal import NEVER, NOON, Machine, begun
from tests.support.postgres import GUARDED, PostgresServer
from tests.support.postgres_proxy import PostgresProxy
from tests.support.readme import ROOT

PASSWORD = "correct-horse-battery-staple"


@pytest.fixture
def role(server: PostgresServer, place: DatabaseUrl) -> Iterator[str]:
    """The name of a role without any rights."""
    name = f"r_{place.schema}"
    server.query(f"CREATE ROLE {name} LOGIN")
    yield name
    server.query(f"DROP OWNED BY {name}; DROP ROLE {name}")


def error_of(place: DatabaseUrl) -> JournalError:
    """Return the error of opening a journal."""
    with pytest.raises(JournalError) as caught:
        open_journal(place, owner=ThisProcess(), now=NOON)
    return caught.value


@pytest.mark.parametrize("how", ["parameter", "variable"])
def test_what_libpq_would_read_for_ever_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """It waits for a pipe whatever `connect_timeout` is; no server is needed to know."""
    pipe, url = tmp_path / "pipe", "postgresql://user:secret@127.0.0.1:9/database"
    os.mkfifo(pipe)
    if how == "variable":
        monkeypatch.setenv("PGSSLROOTCERT", str(pipe))
    else:
        url += f"?sslrootcert={pipe}"

    error = error_of(DatabaseUrl(url))

    what = "sslrootcert names {}" if how == "parameter" else "libpq reads {} (PGSSLROOTCERT)"
    assert str(error) == (
        "the journal postgresql://127.0.0.1:9/database cannot be opened: "
        f"{what.format(pipe)}, which is a pipe and must be a file"
    )


@pytest.mark.parametrize("variable", ["PGPASSFILE", "PGSERVICEFILE"])
def test_the_null_device_stands_for_no_file(place: DatabaseUrl, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """People put it there so that a file in the home folder does not count."""
    monkeypatch.setenv(variable, os.devnull)

    open_journal(place, owner=ThisProcess(), now=NOON).close()


def test_a_wrong_password_is_named_and_shown_nowhere(
    server: PostgresServer, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors go into chats, logs and bug reports."""
    caplog.set_level(logging.DEBUG)
    server.query(f"DROP ROLE IF EXISTS {GUARDED}; CREATE ROLE {GUARDED} LOGIN PASSWORD 'another'")
    error = error_of(DatabaseUrl(server.url(database, user=f"{GUARDED}:{PASSWORD}")))
    told = unavailable(error)

    assert f'password authentication failed for user "{GUARDED}"' in str(error)
    assert f"127.0.0.1:{server.port}/{database}" in str(error)
    shown = "\n".join([*traceback.format_exception(error), repr(error), str(told), told.hint, caplog.text])
    assert PASSWORD not in shown


def test_a_missing_database_is_named(server: PostgresServer) -> None:
    """Nobody wants one to be made by itself."""
    assert 'database "nowhere" does not exist' in str(error_of(DatabaseUrl(server.url("nowhere"))))


def test_a_role_that_may_make_no_schema_says_so(server: PostgresServer, place: DatabaseUrl, role: str) -> None:
    """The first process makes it."""
    error = error_of(DatabaseUrl(server.url(user=role), schema=place.schema))

    assert (error.reason, "permission denied for database" in str(error)) == ("permissions", True)


def test_a_role_without_rights_on_the_schema_says_so(server: PostgresServer, place: DatabaseUrl, role: str) -> None:
    """Somebody made it, and forgot to grant them."""
    open_journal(place, owner=ThisProcess(), now=NOON).close()
    error = error_of(DatabaseUrl(server.url(user=role), schema=place.schema))

    assert (error.reason, "permission denied" in str(error)) == ("permissions", True)


@pytest.mark.parametrize("is_made", [False, True], ids=["first", "later"])
def test_a_server_that_only_reads_is_refused(
    server: PostgresServer, place: DatabaseUrl, role: str, is_made: bool, tmp_path: Path
) -> None:
    """A hot standby, or the primary after a failover that has the wrong address."""
    if is_made:
        open_journal(place, owner=ThisProcess(), now=NOON).close()
    server.query(f"ALTER ROLE {role} SUPERUSER; ALTER ROLE {role} SET default_transaction_read_only = on")
    with pytest.raises(JournalError, match="read-only transaction") as caught:
        claim_as(DatabaseUrl(server.url(user=role), schema=place.schema), Machine(tmp_path))

    assert caught.value.reason == "permissions"
    assert "journal_url" in unavailable(caught.value).hint


def claim_as(place: DatabaseUrl, machine: Machine) -> None:
    """Open a journal, and claim something there."""
    with contextlib.closing(open_journal(place, owner=ThisProcess(), now=NOON)) as journal:
        journal.claim([machine.intent()], NEVER, now=NOON)


def test_a_server_older_than_14_is_refused(server: PostgresServer, place: DatabaseUrl, proxy: PostgresProxy) -> None:
    """Before anything is made in it."""
    version = server.query("SHOW server_version").split()[0].partition(".")[0]
    proxy.rewrite(f"server_version\0{version}", "server_version\x0013"[: 15 + len(version)])
    error = error_of(DatabaseUrl(proxy.url(), schema=place.schema))

    assert "older than PostgreSQL 14" in str(error)
    assert server.query(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{place.schema}'") == "0"  # noqa: S608


def test_a_newer_schema_is_refused_and_unchanged(server: PostgresServer, place: DatabaseUrl) -> None:
    """An older gateway would not keep what the newer one counts on."""
    open_journal(place, owner=ThisProcess(), now=NOON).close()
    server.query(f"INSERT INTO {place.schema}.migrations VALUES ('9999_from_the_future', 1.0)")  # noqa: S608
    error = error_of(place)

    assert (error.reason, "9999_from_the_future" in str(error)) == ("newer", True)


@pytest.mark.parametrize("at", ["CREATE TABLE records", "CREATE FUNCTION nano", "COMMIT"])
def test_an_interrupted_migration_is_made_anew(
    server: PostgresServer, place: DatabaseUrl, proxy: PostgresProxy, at: str, tmp_path: Path
) -> None:
    """All steps are one transaction: there is nothing halfway."""
    proxy.cut_at(at, "before")
    error = error_of(DatabaseUrl(proxy.url(), schema=place.schema))
    left = server.query(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{place.schema}'")  # noqa: S608
    journal = open_journal(place, owner=ThisProcess(), now=NOON)

    assert (error.reason, left) == ("connection", "0")
    begun(journal.claim([Machine(tmp_path).intent()], NEVER, now=NOON))
    journal.close()


def test_the_documented_rights_suffice(server: PostgresServer, place: DatabaseUrl, role: str, tmp_path: Path) -> None:
    """For every operation, word for word as `docs/postgresql.md` has them."""
    open_journal(place, owner=ThisProcess(), now=NOON).close()
    text = (ROOT / "docs/postgresql.md").read_text(encoding="utf-8")
    grants = [block for block in re.findall(r"```sql\n(.*?)```", text, flags=re.DOTALL) if "GRANT" in block]
    server.query(grants[0].replace("flux2_tool", place.schema).replace("gateways", role))
    machine = Machine(tmp_path)
    journal = open_journal(DatabaseUrl(server.url(user=role), schema=place.schema), owner=ThisProcess(), now=NOON)
    done, lost = (begun(journal.claim([machine.intent(name)], NEVER, now=NOON)) for name in ("done", "lost"))
    journal.note_route(done.record_id, "service", now=NOON)
    journal.note_accepted(done.record_id, now=NOON, task_id="tsk_1", status_url=None, request_id=None)
    journal.heartbeat(now=NOON)
    journal.note_end(done.record_id, Outcome(state="completed"), now=NOON)
    journal.note_delivered(done.record_id, now=NOON, elsewhere="parent")
    journal.note_ancestors("a session", ["parent"])
    journal.note_end(lost.record_id, Outcome(state="unknown"), now=NOON)
    journal.mark_unconfirmed(sent_before=NOON, now=NOON)

    assert journal.forget(lost.record_id, now=NOON)
    assert journal.prune(before=NOON + 1.0) == 1
    with journal.held():
        assert journal.records() == []
    assert journal.wrong_sums() == 0
    journal.close()
