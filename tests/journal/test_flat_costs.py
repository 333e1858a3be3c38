"""What the journal's operations cost: the same with few records and with many, on either store.

Counted is the work that the database says it does: the steps of SQLite's virtual machine, the rows that PostgreSQL
reads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.journal_rows import ACCOUNT, BASE_URL, DAY_S, DEDUP_KEY, MODEL, RESOLUTION, SESSION, Mix, fill
from benchmarks.picture_chain import Picture, rules_of
from flux2_tool.context import CONNECTION
from flux2_tool.journal import Conversation, SqlJournal
from flux2_tool.journal.database import Database
from flux2_tool.journal.place import DatabaseUrl
from flux2_tool.journal.postgres_database import open_database
from flux2_tool.journal.sqlite import FILE_NAME
from flux2_tool.journal.sqlite_database import SqliteDatabase, connect
from tests.support import stores
from tests.support.journal import NOON, Named

# The few fill as many quarters of an hour of their day as the many.
FEW, MANY = 3_000, 12_000
# PostgreSQL may plan for any values from the sixth run of what is prepared, which is so from the fifth run on.
_RUNS = 14
ME = Named("me")
OF_ACCOUNT = {"fingerprint": ACCOUNT, "base_url": BASE_URL}
EMPTY = "agent:main:nobody"
DAY_AGO = NOON - DAY_S


class Counted:
    """A database that counts the work of its statements."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.order, self.same = database.order, database.same
        self.for_update, self.lock_records, self.sums = database.for_update, database.lock_records, database.sums
        self.for_long = database.for_long
        self.work = 0

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Any:
        return self._database.execute(sql, values)

    def ask(self, sql: str, values: Sequence[Any] = (), /) -> Callable[[], Sequence[Sequence[Any]]]:
        return self._database.ask(sql, values)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._database.executemany(sql, rows)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        with self.writing():
            yield

    @contextlib.contextmanager
    def writing(self, **how: bool) -> Iterator[None]:
        with self._database.writing(**how):
            before = self._rows_read()
            yield
            self.work += self._rows_read() - before

    def lock(self, name: str) -> None:
        self._database.lock(name)

    def checkpoint(self) -> None:
        self._database.checkpoint()

    def close(self) -> None:
        self._database.close()

    def _rows_read(self) -> int:
        """Return how many rows a server's process has read, up to when it last reported them."""
        if self.order != "seq":
            return 0
        [(rows,)] = self.execute(
            "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_xact_user_tables"
            " WHERE schemaname = current_schema()"
        ).fetchall()
        return int(rows)

    def step(self) -> None:
        """Count a step of SQLite's virtual machine."""
        self.work += 1


@contextlib.contextmanager
def counted(home: Path, mix: Mix, rows: int) -> Iterator[tuple[SqlJournal, Counted]]:
    """Open a journal with so many records."""
    place = stores.place_of(home)
    assert place is not None
    fill(place, mix, first=1, last=rows, total=rows, now=NOON)
    if isinstance(place, DatabaseUrl):
        database = Counted(open_database(place.url, schema=place.schema, now=NOON))
    else:
        connection = connect(str(home / FILE_NAME), now=NOON)
        database = Counted(SqliteDatabase(connection, home / FILE_NAME))
        connection.set_progress_handler(database.step, 1)
    journal = SqlJournal(database, ME)
    yield journal, database
    journal.close()


def picture(journal: SqlJournal) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield all that is written for one picture, of a prompt that half of "alike" asks for."""
    made = Picture.of(SESSION, dedup_key=DEDUP_KEY)
    rules = replace(rules_of(SESSION, now=NOON), inherited_session_prefix=CONNECTION)
    record_id = made.record_id

    def claim() -> None:
        assert journal.claim([made.intent], rules, now=NOON).outcome == "new"

    yield "claim", claim
    yield "join", lambda: journal.claim([Picture.of(SESSION, dedup_key=DEDUP_KEY).intent], rules, now=NOON)
    yield "note_route", lambda: journal.note_route(record_id, "guide", now=NOON)
    yield "take_over", lambda: journal.take_over(record_id, now=NOON)
    yield "note_accepted", lambda: journal.note_accepted(record_id, now=NOON, **made.accepted())
    yield "not_given", lambda: journal.not_given([SESSION, EMPTY], since=DAY_AGO, now=NOON)
    yield "heartbeat", lambda: journal.heartbeat(now=NOON)
    yield "mark_unconfirmed", lambda: journal.mark_unconfirmed(sent_before=DAY_AGO, now=NOON)
    yield "unowned", lambda: journal.unowned(**OF_ACCOUNT, now=NOON, resend_since=DAY_AGO)
    yield "note_orphaned", lambda: journal.note_orphaned(record_id)
    yield "note_end", lambda: journal.note_end(record_id, made.outcome(), now=NOON)
    yield "note_told", lambda: journal.note_told(record_id, "completed")
    yield "note_delivered", lambda: journal.note_delivered(record_id, now=NOON, elsewhere="agent:main:parent")
    yield "find_task", lambda: journal.find_task(made.accepted()["task_id"], **OF_ACCOUNT)
    yield "has_other", lambda: journal.has_other(made.accepted()["task_id"], base_url=BASE_URL, than=record_id)
    yield "conversations_of", lambda: journal.conversations_of(made.accepted()["task_id"])
    yield "get", lambda: journal.get(record_id)
    yield "release", lambda: journal.release(record_id)


def look_ups(journal: SqlJournal) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what calls look up, in a busy conversation, in one without pictures, and without one."""
    for session in (SESSION, EMPTY, "agent:main:parent", f"{CONNECTION}me", None):
        prefix = CONNECTION if session is not None and session.startswith(CONNECTION) else None
        conversation = Conversation(
            **OF_ACCOUNT, session=session, descendants=frozenset({EMPTY}), inherited_session_prefix=prefix
        )
        for is_first in (True, False):
            yield (
                f"newest of {session}, {is_first}",
                lambda session=session, is_first=is_first, prefix=prefix: journal.newest(
                    **OF_ACCOUNT, session=session, delivered_first=is_first, inherited_session_prefix=prefix
                ),
            )
        yield f"recent of {session}", lambda conversation=conversation: journal.recent(conversation, limit=5)
    yield "newest_records", lambda: journal.newest_records(5)
    yield "find_task of nobody", lambda: journal.find_task("nobody's", **OF_ACCOUNT)
    yield "descendants_of", lambda: journal.descendants_of(SESSION)
    for cap in rules_of(SESSION, now=NOON).caps:
        yield f"spending of the {cap.kind}", lambda cap=cap: journal.spending(cap)
    for resolution in (RESOLUTION, "8k"):
        yield (
            f"durations of {resolution}",
            lambda resolution=resolution: journal.durations(
                base_url=BASE_URL, model=MODEL, resolution=resolution, limit=40
            ),
        )
    yield "ended lately", lambda: journal.records(states=("completed",), ended_since=NOON)
    yield "ended of a day", lambda: journal.records(states=("completed",), since=DAY_AGO, ended_since=NOON)
    yield "the first completed", lambda: journal.completed(since=NOON - 60.0, most=5)
    yield "open", lambda: journal.records(states=("unknown", "sending"))


def works(home: Path, mix: Mix, rows: int) -> dict[str, int]:
    """Return the work of each operation; of its last run, because a server plans the first ones otherwise."""
    found: dict[str, int] = {}
    with counted(home, mix, rows) as (journal, database):
        for run in range(_RUNS):
            for name, operation in (*(picture(journal) if run < 2 else ()), *look_ups(journal)):
                before = database.work
                operation()
                found[name] = database.work - before
    return found


@pytest.mark.parametrize("mix", ["spread", "alike"])
def test_no_operation_costs_more_with_many_records(tmp_path: Path, mix: Mix) -> None:
    """Nor where all are of one conversation, one prompt and one day: a claim holds up all others meanwhile."""
    few, many = works(tmp_path / "few", mix, FEW), works(tmp_path / "many", mix, MANY)

    grown = {name: (few[name], many[name]) for name in few if many[name] > 1.2 * few[name] + 100}
    assert grown == {}
    assert len(few) > 40
