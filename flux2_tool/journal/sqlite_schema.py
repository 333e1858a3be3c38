"""The tables and indexes of a new journal file, as all steps of `migrations.py` together leave them.

A file that has none of them gets these, which takes a third of the time that the steps take. What is changed here is a
new step there too, for the files that exist; a test compares the two.
"""

from __future__ import annotations

from typing import Final

from flux2_tool.journal.spending_sums import SPENDING

# A query finds an index only by the words of its condition, so they are written once.
IS_OPEN: Final = "(state IN ('sending', 'processing', 'unknown') OR (state = 'completed' AND delivered_at IS NULL))"
IS_OF_CONNECTION: Final = "state = 'completed' AND substr(session, 1, 11) = 'connection:'"

_RECORDS: Final = """
    CREATE TABLE records (
        record_id               TEXT PRIMARY KEY,
        session                 TEXT,
        dedup_key               TEXT NOT NULL,
        fingerprint             TEXT NOT NULL,
        base_url                TEXT NOT NULL,
        tool                    TEXT NOT NULL,
        model                   TEXT NOT NULL,
        resolution              TEXT NOT NULL,
        label                   TEXT NOT NULL,
        body                    BLOB NOT NULL,
        idempotency_key         TEXT NOT NULL UNIQUE,
        client_request_id       TEXT NOT NULL,
        route                   TEXT NOT NULL,
        price_usd               REAL,
        state                   TEXT NOT NULL,
        created_at              REAL NOT NULL,
        task_id                 TEXT,
        status_url              TEXT,
        accepted_at             REAL,
        finished_at             REAL,
        delivered_at            REAL,
        owner                   TEXT,
        lease_until             REAL,
        conflict                INTEGER NOT NULL DEFAULT 0,
        abandoned               INTEGER NOT NULL DEFAULT 0,
        images                  TEXT NOT NULL DEFAULT '[]',
        cost_usd                REAL,
        error_code              TEXT,
        error_message           TEXT,
        raw                     TEXT,
        request_id              TEXT,
        polls                   INTEGER NOT NULL DEFAULT 0,
        saved                   TEXT NOT NULL DEFAULT '[]',
        orphaned                INTEGER NOT NULL DEFAULT 0,
        sender                  TEXT,
        reserved_usd            REAL NOT NULL DEFAULT 0,
        duration_s              REAL,
        cross_session_dedup_key TEXT,
        lease_clock             TEXT,
        lease_until_s           REAL,
        created_clock           TEXT,
        created_at_s            REAL,
        told                    TEXT,
        set_id                  TEXT,
        set_size                INTEGER NOT NULL DEFAULT 1,
        set_index               INTEGER NOT NULL DEFAULT 0
    )
"""

_INDEXES: Final = (
    "records_by_equal_key ON records (dedup_key, created_at)",
    "records_by_task ON records (task_id)",
    "records_by_task_key ON records (lower(replace(replace(replace(task_id, '-', ''), '{', ''), '}', '')))",
    "records_by_state ON records (state, created_at)",
    "records_by_owner ON records (owner) WHERE owner IS NOT NULL",
    "records_not_delivered ON records (session, created_at) WHERE delivered_at IS NULL",
    "records_by_set ON records (set_id, set_index) WHERE set_id IS NOT NULL",
    f"records_open_by_dedup_key ON records (dedup_key) WHERE {IS_OPEN}",
    f"records_open_by_cross_session_dedup_key ON records (cross_session_dedup_key) WHERE {IS_OPEN}",
    "records_in_session ON records (session)",
    f"records_of_connections ON records (state) WHERE {IS_OF_CONNECTION}",
    "records_by_end ON records (finished_at) WHERE finished_at IS NOT NULL",
    "records_by_kind ON records (base_url, model, resolution) WHERE duration_s IS NOT NULL",
    "task_conversations_by_key ON task_conversations (task_key)",
    "session_ancestors_by_ancestor ON session_ancestors (ancestor)",
)

SCHEMA: Final[tuple[str, ...]] = (
    _RECORDS,
    """
    CREATE TABLE watched_leases (
        record_id TEXT NOT NULL,
        clock     TEXT NOT NULL,
        lease     TEXT NOT NULL,
        since_s   REAL NOT NULL,
        PRIMARY KEY (record_id, clock)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE task_conversations (task_key TEXT NOT NULL, session TEXT)",
    """
    CREATE TABLE session_ancestors (
        session  TEXT NOT NULL,
        ancestor TEXT NOT NULL,
        PRIMARY KEY (session, ancestor)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE shown_elsewhere (
        session   TEXT NOT NULL,
        record_id TEXT NOT NULL,
        PRIMARY KEY (session, record_id)
    ) WITHOUT ROWID
    """,
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
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE create_slots (
        place       INTEGER PRIMARY KEY,
        record_id   TEXT NOT NULL UNIQUE,
        base_url    TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        owner       TEXT NOT NULL,
        waits       INTEGER NOT NULL DEFAULT 0
    )
    """,
    *(f"CREATE INDEX {index}" for index in _INDEXES),
    *SPENDING,
)
