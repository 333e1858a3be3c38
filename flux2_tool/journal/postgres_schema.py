"""The journal's schema in PostgreSQL, as named steps: tables, indexes, and triggers that keep the sums of spending.

The columns are those of SQLite (`sqlite_schema.py`), so that one set of statements serves both stores. Each step is
applied once, in one transaction, under an advisory lock, because many processes begin at the same time. As with SQLite,
a step may add but never drop or rename what a published version uses, and an older version refuses a newer schema.
"""

from __future__ import annotations

from typing import Any, Final

from flux2_tool.journal.server_errors import ServerError
from flux2_tool.journal.sqlite_schema import IS_OF_CONNECTION, IS_OPEN

# The order of insertion, which SQLite has as rowid.
ORDER: Final = "seq"

_NANO: Final = 1_000_000_000
_SLOT_S: Final = 900

_RECORDS: Final = """
    CREATE TABLE records (
        seq                     BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE,
        record_id               TEXT PRIMARY KEY,
        session                 TEXT,
        dedup_key               TEXT NOT NULL,
        cross_session_dedup_key TEXT,
        set_id                  TEXT,
        set_size                INTEGER NOT NULL DEFAULT 1,
        set_index               INTEGER NOT NULL DEFAULT 0,
        fingerprint             TEXT NOT NULL,
        base_url                TEXT NOT NULL,
        tool                    TEXT NOT NULL,
        model                   TEXT NOT NULL,
        resolution              TEXT NOT NULL,
        label                   TEXT NOT NULL,
        body                    BYTEA NOT NULL,
        idempotency_key         TEXT NOT NULL UNIQUE,
        client_request_id       TEXT NOT NULL,
        route                   TEXT NOT NULL,
        price_usd               DOUBLE PRECISION,
        sender                  TEXT,
        reserved_usd            DOUBLE PRECISION NOT NULL DEFAULT 0,
        state                   TEXT NOT NULL,
        created_at              DOUBLE PRECISION NOT NULL,
        created_clock           TEXT,
        created_at_s            DOUBLE PRECISION,
        task_id                 TEXT,
        status_url              TEXT,
        accepted_at             DOUBLE PRECISION,
        finished_at             DOUBLE PRECISION,
        delivered_at            DOUBLE PRECISION,
        told                    TEXT,
        owner                   TEXT,
        lease_until             DOUBLE PRECISION,
        lease_clock             TEXT,
        lease_until_s           DOUBLE PRECISION,
        conflict                INTEGER NOT NULL DEFAULT 0,
        abandoned               INTEGER NOT NULL DEFAULT 0,
        orphaned                INTEGER NOT NULL DEFAULT 0,
        images                  TEXT NOT NULL DEFAULT '[]',
        saved                   TEXT NOT NULL DEFAULT '[]',
        cost_usd                DOUBLE PRECISION,
        error_code              TEXT,
        error_message           TEXT,
        raw                     TEXT,
        request_id              TEXT,
        polls                   INTEGER NOT NULL DEFAULT 0,
        duration_s              DOUBLE PRECISION
    );
    CREATE INDEX records_by_dedup_key ON records (dedup_key, created_at);
    CREATE INDEX records_by_cross_session_dedup_key ON records (cross_session_dedup_key, created_at);
    CREATE INDEX records_by_set ON records (set_id, set_index) WHERE set_id IS NOT NULL;
    CREATE INDEX records_by_task ON records (task_id);
    CREATE INDEX records_by_task_key
        ON records (lower(replace(replace(replace(task_id, '-', ''), '{', ''), '}', '')));
    CREATE INDEX records_by_state ON records (state, created_at);
    CREATE INDEX records_by_session ON records (session, state, seq);
    CREATE INDEX records_not_delivered ON records (session, created_at) WHERE delivered_at IS NULL;
    CREATE INDEX records_by_owner ON records (owner) WHERE owner IS NOT NULL;
    CREATE INDEX records_by_kind ON records (base_url, model, resolution, seq) WHERE duration_s IS NOT NULL;
    CREATE TABLE watched_leases (
        record_id TEXT NOT NULL,
        clock     TEXT NOT NULL,
        lease     TEXT NOT NULL,
        since_s   DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (record_id, clock)
    );
    CREATE TABLE task_conversations (task_key TEXT NOT NULL, session TEXT);
    CREATE INDEX task_conversations_by_key ON task_conversations (task_key);
    CREATE TABLE session_ancestors (
        session  TEXT NOT NULL,
        ancestor TEXT NOT NULL,
        PRIMARY KEY (session, ancestor)
    );
    CREATE INDEX session_ancestors_by_ancestor ON session_ancestors (ancestor);
    CREATE TABLE shown_elsewhere (
        session   TEXT NOT NULL,
        record_id TEXT NOT NULL,
        PRIMARY KEY (session, record_id)
    );
"""

# As in `spending_sums.py`: whole nano-dollars by scope, name and slot of 15 minutes; what deleted records had spent
# stays as `pruned`. The rows of one change are always written in the same order, so that two changes cannot deadlock.
_SPENDING: Final = f"""
    CREATE TABLE spending (
        scope    TEXT NOT NULL,
        name     TEXT NOT NULL,
        slot     BIGINT NOT NULL,
        is_real  INTEGER NOT NULL,
        spent    BIGINT NOT NULL,
        reserved BIGINT NOT NULL,
        pruned   BIGINT NOT NULL,
        PRIMARY KEY (scope, name, slot, is_real)
    );
    CREATE FUNCTION nano(amount DOUBLE PRECISION) RETURNS BIGINT LANGUAGE sql IMMUTABLE
        RETURN round((amount * {_NANO})::numeric)::bigint;
    CREATE FUNCTION spent_of(row_ records) RETURNS BIGINT LANGUAGE sql IMMUTABLE
        RETURN CASE row_.state
            WHEN 'completed' THEN nano(coalesce(row_.cost_usd, row_.reserved_usd))
            WHEN 'failed' THEN nano(coalesce(row_.cost_usd, 0)) ELSE 0 END;
    CREATE FUNCTION reserved_of(row_ records) RETURNS BIGINT LANGUAGE sql IMMUTABLE
        RETURN CASE WHEN row_.state IN ('sending', 'processing', 'unknown') THEN nano(row_.reserved_usd) ELSE 0 END;
    CREATE FUNCTION is_real(row_ records) RETURNS INTEGER LANGUAGE sql IMMUTABLE
        RETURN CASE WHEN row_.base_url LIKE 'http://%' THEN 0 ELSE 1 END;
    CREATE FUNCTION add_spending(row_ records, spent_ BIGINT, reserved_ BIGINT, pruned_ BIGINT)
        RETURNS VOID LANGUAGE sql AS $body$
        INSERT INTO spending (scope, name, slot, is_real, spent, reserved, pruned)
        SELECT scope, name, slot, is_real(row_), spent_, reserved_, pruned_
        FROM (VALUES
            ('all', '', floor((row_).created_at / {_SLOT_S})::bigint),
            ('sender', coalesce('=' || (row_).sender, ''), floor((row_).created_at / {_SLOT_S})::bigint),
            ('session', coalesce('=' || (row_).session, ''), 0::bigint)
        ) AS places (scope, name, slot)
        ON CONFLICT (scope, name, slot, is_real) DO UPDATE SET spent = spending.spent + excluded.spent,
            reserved = spending.reserved + excluded.reserved, pruned = spending.pruned + excluded.pruned
        $body$;
    CREATE FUNCTION count_spending() RETURNS TRIGGER LANGUAGE plpgsql AS $body$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            PERFORM add_spending(NEW, spent_of(NEW), reserved_of(NEW), 0);
        ELSIF TG_OP = 'DELETE' THEN
            PERFORM add_spending(OLD, 0, -reserved_of(OLD), spent_of(OLD));
        ELSIF (OLD.session, OLD.sender, OLD.created_at, OLD.base_url)
            IS NOT DISTINCT FROM (NEW.session, NEW.sender, NEW.created_at, NEW.base_url) THEN
            IF spent_of(NEW) <> spent_of(OLD) OR reserved_of(NEW) <> reserved_of(OLD) THEN
                PERFORM add_spending(NEW, spent_of(NEW) - spent_of(OLD), reserved_of(NEW) - reserved_of(OLD), 0);
            END IF;
        ELSE
            PERFORM add_spending(OLD, -spent_of(OLD), -reserved_of(OLD), 0);
            PERFORM add_spending(NEW, spent_of(NEW), reserved_of(NEW), 0);
        END IF;
        RETURN NULL;
    END
    $body$;
    CREATE TRIGGER spending_of_records AFTER INSERT OR DELETE
        OR UPDATE OF state, cost_usd, reserved_usd, session, sender, created_at, base_url ON records
        FOR EACH ROW EXECUTE FUNCTION count_spending();
"""  # noqa: S608 - own numbers

SUMS_OF_RECORDS: Final = (
    "SELECT scope, name, slot, is_real(records) AS is_real, sum(spent_of(records))::bigint AS spent,"  # noqa: S608
    " sum(reserved_of(records))::bigint AS reserved FROM records CROSS JOIN LATERAL (VALUES"
    f" ('all', '', floor(created_at / {_SLOT_S})::bigint),"
    f" ('sender', coalesce('=' || sender, ''), floor(created_at / {_SLOT_S})::bigint),"
    " ('session', coalesce('=' || session, ''), 0::bigint)) AS places (scope, name, slot)"
    " GROUP BY scope, name, slot, is_real(records)"
)

# See `0015_flat_costs` in migrations.py.
_FLAT_COSTS: Final = f"""
    CREATE INDEX records_open_by_dedup_key ON records (dedup_key) WHERE {IS_OPEN};
    CREATE INDEX records_open_by_cross_session_dedup_key ON records (cross_session_dedup_key) WHERE {IS_OPEN};
    CREATE INDEX records_in_session ON records (session, seq);
    CREATE INDEX records_of_connections ON records (seq) WHERE {IS_OF_CONNECTION};
    CREATE INDEX records_by_end ON records (finished_at) WHERE finished_at IS NOT NULL;
    DROP INDEX records_by_cross_session_dedup_key;
    DROP INDEX records_by_session;
"""

# The accounts' pace after a 429, and the queue for create slots; see `pace_table.py`.
_PACE: Final = """
    CREATE TABLE account_pace (
        base_url       TEXT NOT NULL,
        fingerprint    TEXT NOT NULL,
        version        BIGINT NOT NULL,
        refusals       BIGINT NOT NULL,
        in_a_row       INTEGER NOT NULL,
        gap_s          DOUBLE PRECISION NOT NULL,
        clock          TEXT NOT NULL,
        closed_until_s DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (base_url, fingerprint)
    );
    CREATE TABLE create_slots (
        place       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        record_id   TEXT NOT NULL UNIQUE,
        base_url    TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        owner       TEXT NOT NULL,
        waits       INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX create_slots_by_account ON create_slots (base_url, fingerprint, place);
"""

MIGRATIONS: Final[tuple[tuple[str, str], ...]] = (
    ("0001_records", _RECORDS),
    ("0002_spending", _SPENDING),
    ("0003_flat_costs", _FLAT_COSTS),
    ("0004_one_pace", _PACE),
)


def migrate(connection: Any, *, schema: str, now: float) -> None:
    """Create the schema, and apply the steps that are missing.

    Args:
        connection: A psycopg connection in autocommit mode.
        schema: The schema's name; it becomes the search path of this connection.
        now: The time that is noted, in seconds since 1970.

    Raises:
        JournalError: A newer version of this package wrote it.
    """
    from psycopg import IsolationLevel, sql

    # Under the lock it must see what whoever had it before has made, whatever the server's default is.
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    with connection.transaction():
        # Also for two that create the schema at once, which IF NOT EXISTS does not keep apart.
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('flux2-tool migrate ' || %s, 0))", (schema,))
        exists = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone()
        if exists is None:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        elif connection.execute("SELECT has_schema_privilege(%s, 'USAGE')", (schema,)).fetchone() == (False,):
            raise ServerError(f"permission denied for schema {schema}", reason="permissions")
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
        # IF NOT EXISTS would need the right to create tables also where nothing is created.
        if connection.execute("SELECT to_regclass('migrations')").fetchone() == (None,):
            connection.execute("CREATE TABLE migrations (name TEXT PRIMARY KEY, applied_at DOUBLE PRECISION NOT NULL)")
        applied = {name for (name,) in connection.execute("SELECT name FROM migrations")}
        newer = sorted(applied - {name for name, _ in MIGRATIONS})
        if newer:
            raise ServerError(
                f"the schema {schema} was written by a newer version of flux2-tool: it has {newer[0]}", reason="newer"
            )
        for name, script in MIGRATIONS:
            if name not in applied:
                connection.execute(script)
                connection.execute("INSERT INTO migrations VALUES (%s, %s)", (name, now))
