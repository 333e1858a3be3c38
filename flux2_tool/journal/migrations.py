"""How a journal file comes to its schema: a new one at once, an earlier one by named steps, each applied once.

A step may add tables, columns and indexes and drop indexes, but never drop or rename a column of a published version:
an older process may have the journal open while a newer one brings it up to date. One that opens it later refuses it,
because it would not keep what the newer version counts on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from flux2_tool.journal.spending_sums import CHANGED_SPENDING, SPENDING_SUMS
from flux2_tool.journal.sqlite_schema import IS_OF_CONNECTION, IS_OPEN, SCHEMA

MIGRATIONS: Final[tuple[tuple[str, str], ...]] = (
    (
        "0001_records",
        """
        CREATE TABLE records (
            record_id         TEXT PRIMARY KEY,
            session           TEXT,
            equal_key         TEXT NOT NULL,
            fingerprint       TEXT NOT NULL,
            base_url          TEXT NOT NULL,
            tool              TEXT NOT NULL,
            model             TEXT NOT NULL,
            resolution        TEXT NOT NULL,
            label             TEXT NOT NULL,
            body              BLOB NOT NULL,
            idempotency_key   TEXT NOT NULL UNIQUE,
            client_request_id TEXT NOT NULL,
            route             TEXT NOT NULL,
            price_usd         REAL,
            state             TEXT NOT NULL,
            created_at        REAL NOT NULL,
            task_id           TEXT,
            status_url        TEXT,
            accepted_at       REAL,
            finished_at       REAL,
            returned_at       REAL,
            owner             TEXT,
            lease_until       REAL,
            conflict          INTEGER NOT NULL DEFAULT 0,
            given_up          INTEGER NOT NULL DEFAULT 0,
            images            TEXT NOT NULL DEFAULT '[]',
            cost_usd          REAL,
            error_code        TEXT,
            error_message     TEXT,
            raw               TEXT,
            request_id        TEXT,
            polls             INTEGER NOT NULL DEFAULT 0
        );
        CREATE INDEX records_by_equal_key ON records (equal_key, created_at);
        CREATE INDEX records_by_task ON records (task_id);
        CREATE INDEX records_by_state ON records (state, created_at);
        CREATE INDEX records_by_owner ON records (owner) WHERE owner IS NOT NULL;
        """,
    ),
    (
        "0002_saved_copies",
        "ALTER TABLE records ADD COLUMN saved TEXT NOT NULL DEFAULT '[]'",
    ),
    (
        "0003_interrupted",
        "ALTER TABLE records ADD COLUMN interrupted INTEGER NOT NULL DEFAULT 0",
    ),
    (
        "0004_budget",
        """
        ALTER TABLE records ADD COLUMN sender TEXT;
        ALTER TABLE records ADD COLUMN reserved_usd REAL NOT NULL DEFAULT 0;
        CREATE INDEX records_by_time ON records (created_at);
        """,
    ),
    (
        "0005_durations",
        "ALTER TABLE records ADD COLUMN duration_s REAL",
    ),
    (
        # Covers the sum of spending, so that a claim does not read a whole day's records.
        "0006_spending",
        """
        CREATE INDEX records_spending ON records (created_at, session, sender, state, cost_usd, reserved_usd);
        DROP INDEX records_by_time;
        """,
    ),
    (
        # The sum can also exclude the cost of images from a sandbox on this machine.
        "0007_spending_by_service",
        """
        CREATE INDEX records_spending_by_service
            ON records (created_at, session, sender, state, cost_usd, reserved_usd, base_url);
        DROP INDEX records_spending;
        """,
    ),
    (
        "0008_requests",
        """
        ALTER TABLE records ADD COLUMN request_key TEXT;
        CREATE INDEX records_by_request_key ON records (request_key, created_at);
        """,
    ),
    (
        # Renames columns, because no version with the old names was published.
        "0009_terms",
        """
        ALTER TABLE records RENAME COLUMN equal_key TO dedup_key;
        ALTER TABLE records RENAME COLUMN request_key TO cross_session_dedup_key;
        ALTER TABLE records RENAME COLUMN given_up TO abandoned;
        ALTER TABLE records RENAME COLUMN interrupted TO orphaned;
        ALTER TABLE records RENAME COLUMN returned_at TO delivered_at;
        """,
    ),
    (
        # Leases and ages by a clock that nobody sets; what processes of another boot have seen of a lease.
        "0010_monotonic_clocks",
        """
        ALTER TABLE records ADD COLUMN lease_clock TEXT;
        ALTER TABLE records ADD COLUMN lease_until_s REAL;
        ALTER TABLE records ADD COLUMN created_clock TEXT;
        ALTER TABLE records ADD COLUMN created_at_s REAL;
        CREATE TABLE watched_leases (
            record_id TEXT NOT NULL,
            clock     TEXT NOT NULL,
            lease     TEXT NOT NULL,
            since_s   REAL NOT NULL,
            PRIMARY KEY (record_id, clock)
        ) WITHOUT ROWID;
        """,
    ),
    (
        # What is kept of deleted records, so that a task stays its conversation's; see task_conversations.py.
        "0011_task_conversations",
        """
        CREATE TABLE task_conversations (task_key TEXT NOT NULL, session TEXT);
        CREATE INDEX task_conversations_by_key ON task_conversations (task_key);
        CREATE INDEX records_by_task_key
            ON records (lower(replace(replace(replace(task_id, '-', ''), '{', ''), '}', '')));
        """,
    ),
    ("0012_spending_sums", SPENDING_SUMS),
    (
        # Which conversation spawned which, what was shown in another one, and of what a conversation was told.
        "0013_sessions",
        """
        CREATE TABLE session_ancestors (
            session  TEXT NOT NULL,
            ancestor TEXT NOT NULL,
            PRIMARY KEY (session, ancestor)
        ) WITHOUT ROWID;
        CREATE INDEX session_ancestors_by_ancestor ON session_ancestors (ancestor);
        CREATE TABLE shown_elsewhere (
            session   TEXT NOT NULL,
            record_id TEXT NOT NULL,
            PRIMARY KEY (session, record_id)
        ) WITHOUT ROWID;
        ALTER TABLE records ADD COLUMN told TEXT;
        CREATE INDEX records_not_delivered ON records (session, created_at) WHERE delivered_at IS NULL;
        """,
    ),
    (
        # The pictures of one call, which are claimed and joined together.
        "0014_sets",
        """
        ALTER TABLE records ADD COLUMN set_id TEXT;
        ALTER TABLE records ADD COLUMN set_size INTEGER NOT NULL DEFAULT 1;
        ALTER TABLE records ADD COLUMN set_index INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX records_by_set ON records (set_id, set_index) WHERE set_id IS NOT NULL;
        """,
    ),
    (
        # What a claim, a look-up and each periodic operation cost does not depend on how many records there are, nor
        # on how many of them are of one conversation, prompt or day.
        "0015_flat_costs",
        f"""
        CREATE INDEX records_open_by_dedup_key ON records (dedup_key) WHERE {IS_OPEN};
        CREATE INDEX records_open_by_cross_session_dedup_key ON records (cross_session_dedup_key) WHERE {IS_OPEN};
        CREATE INDEX records_in_session ON records (session);
        CREATE INDEX records_of_connections ON records (state) WHERE {IS_OF_CONNECTION};
        CREATE INDEX records_by_end ON records (finished_at) WHERE finished_at IS NOT NULL;
        CREATE INDEX records_by_kind ON records (base_url, model, resolution) WHERE duration_s IS NOT NULL;
        DROP INDEX records_by_request_key;
        DROP INDEX records_by_session;
        """,
    ),
    (
        # The accounts' pace after a 429, and the queue for create slots; see pace_table.py.
        "0016_one_pace",
        """
        CREATE TABLE account_pace (
            base_url       TEXT NOT NULL,
            fingerprint    TEXT NOT NULL,
            version        INTEGER NOT NULL,
            refusals       INTEGER NOT NULL,
            in_a_row       INTEGER NOT NULL,
            gap_s          REAL NOT NULL,
            clock          TEXT NOT NULL,
            closed_until_s REAL NOT NULL,
            PRIMARY KEY (base_url, fingerprint)
        ) WITHOUT ROWID;
        CREATE TABLE create_slots (
            place       INTEGER PRIMARY KEY,
            record_id   TEXT NOT NULL UNIQUE,
            base_url    TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            owner       TEXT NOT NULL,
            waits       INTEGER NOT NULL DEFAULT 0
        );
        """,
    ),
    # What changes no amount is not counted anew, see spending_sums.py.
    ("0017_changed_spending", CHANGED_SPENDING),
)


def migrate(connection: sqlite3.Connection, *, now: float) -> tuple[bool, list[str]]:
    """Apply the missing steps; several processes may call this at once.

    In one transaction, and in none where nothing is missing: opening a journal does not wait for who writes to it.
    After an error the caller closes the connection, which rolls it back.

    Returns:
        Whether steps were applied, and those that only a newer version knows. With such steps nothing is applied.
    """
    if _is_current(connection):
        return False, []
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_at REAL NOT NULL)")
    applied = {row[0] for row in connection.execute("SELECT name FROM migrations")}
    newer = sorted(applied - {name for name, _ in MIGRATIONS})
    missing = [] if newer else [step for step in MIGRATIONS if step[0] not in applied]
    for statement in SCHEMA if not applied else _statements(";".join(script for _, script in missing)):
        connection.execute(statement)
    connection.executemany("INSERT INTO migrations VALUES (?, ?)", [(name, now) for name, _ in missing])
    connection.execute("COMMIT")
    return bool(missing), newer


def _is_current(connection: sqlite3.Connection) -> bool:
    """Whether each step, and none that only a newer version knows, was applied."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone():
        return False
    return {row[0] for row in connection.execute("SELECT name FROM migrations")} == {name for name, _ in MIGRATIONS}


def _statements(script: str) -> Iterator[str]:
    """Split a script at its semicolons, except those inside a trigger."""
    statement = ""
    for part in script.split(";"):
        statement += part
        if statement.strip() and sqlite3.complete_statement(f"{statement};"):
            yield statement
            statement = ""
        elif statement.strip():
            statement += ";"
