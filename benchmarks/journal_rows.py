"""Fill a journal with made-up requests of the past, as many as wanted, by one statement that the database carries out.

Two mixes. "spread" is what a year of use leaves: many conversations, days, people, and three accounts. "alike" is what
would make a sum or a guard scan: one account, one conversation, one day, and one prompt over and over, though not in
the window of the repeat guard.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

from flux2_tool.journal import ThisProcess, open_journal
from flux2_tool.journal.place import DatabaseUrl
from flux2_tool.journal.spending_sums import count_anew
from flux2_tool.journal.store import SqlJournal

Mix = Literal["spread", "alike"]
DAY_S = 86_400.0
# What the claims of a benchmark ask for, so that "alike" has the same.
ACCOUNT, BASE_URL, SESSION, DEDUP_KEY = "a" * 16, "https://runapi.ai", "agent:main:telegram:group:-1001", "d" * 64
MODEL, RESOLUTION = "flux-2-pro-text-to-image", "1k"
PROMPT = "a red fox in the snow at dawn, photographed from the side, long lens, its breath visible in the cold air"
BODY = f'{{"prompt":"{PROMPT}","aspect_ratio":"16:9","output_resolution":"1k","callback_url":null}}'.encode()
IMAGES = f'[["https://file.runapi.ai/generated/{"0" * 36}.jpg?signature={"f" * 64}", "2026-11-27T10:00:00+00:00"]]'
RAW = f'{{"id":"{"0" * 36}","status":"completed","images":[{{"url":"…","expires_at":"…"}}],"cost":"0.05"}}'

_MIXES: dict[Mix, dict[str, str]] = {
    "spread": {
        "session": "'agent:main:telegram:group:-' || CAST(i % 20011 AS TEXT)",
        "dedup_key": "substr('{filler}' || CAST(i AS TEXT), length(CAST(i AS TEXT)) + 1, 64)",
        "fingerprint": "substr('{filler}' || CAST(i % 3 AS TEXT), 50, 16)",
        "sender": "CAST(i % 5003 AS TEXT)",
        "created_at": "{now} - ({total} - i) * 31.5",
        "state": "CASE WHEN i < 1000 AND i % 100 = 7 THEN 'unknown' WHEN i % 50 = 3 THEN 'failed' ELSE 'completed' END",
    },
    "alike": {
        "session": "'{session}'",
        "dedup_key": "CASE WHEN i % 2 = 0 THEN '{dedup_key}'"
        " ELSE substr('{filler}' || CAST(i AS TEXT), length(CAST(i AS TEXT)) + 1, 64) END",
        "fingerprint": "'{account}'",
        "sender": "NULL",
        "created_at": "{now} - 3600 - ({total} - i) * 72000.0 / {total}",
        "state": "'completed'",
    },
}
# As scattered as random ids, and as long.
_ID = (
    "substr(CAST((i * 2654435761) % 4294967296 AS TEXT) || '-0000-4000-8000-{filler}', 1, 26)"
    " || CAST(1000000000 + i AS TEXT)"
)
_SAME = {
    "record_id": _ID,
    "idempotency_key": f"'k' || {_ID}",
    "client_request_id": f"'c' || {_ID}",
    "task_id": f"CASE WHEN i % 50 = 3 THEN NULL ELSE 't' || {_ID} END",
    "base_url": "'{base_url}'",
    "tool": "'text_to_image'",
    "model": "'{model}'",
    "resolution": "'{resolution}'",
    "label": "'{label}'",
    "route": "'guide'",
    "price_usd": "0.05",
    "reserved_usd": "0.05",
    "cost_usd": "0.05",
    "status_url": f"'https://runapi.ai/api/v1/tasks/' || {_ID}",
    "request_id": f"'r' || {_ID}",
    "polls": "5",
    "body": "?",
    "images": "?",
    "raw": "?",
}
# As the times of a request of 12 s follow one another.
_TIMES = {
    "accepted_at": "CASE WHEN state = 'unknown' THEN NULL ELSE created_at + 1 END",
    "finished_at": "CASE WHEN state = 'unknown' THEN NULL ELSE created_at + 13 END",
    "delivered_at": "CASE WHEN state = 'completed' THEN created_at + 14 END",
    "duration_s": "CASE WHEN state = 'completed' THEN 12.0 END",
}


def fill(place: Path | DatabaseUrl, mix: Mix, *, first: int, last: int, total: int, now: float) -> None:
    """Add the requests from `first` to `last`, of `total` in the end, to the journal of a folder or a database."""
    known: dict[str, Any] = {
        "filler": "0123456789abcdef" * 4,
        "now": now,
        "total": total,
        "session": SESSION,
        "dedup_key": DEDUP_KEY,
        "account": ACCOUNT,
        "base_url": BASE_URL,
        "model": MODEL,
        "resolution": RESOLUTION,
        "label": PROMPT[:80],
    }
    columns = {name: text.format(**known) for name, text in (_SAME | _MIXES[mix]).items()}
    chosen = ", ".join(f"{text} AS {name}" for name, text in columns.items())
    names = (*columns, *_TIMES)
    with closing(open_journal(place, owner=ThisProcess(), now=now)) as journal, _uncounted(journal):
        journal._database.execute(
            f"INSERT INTO records ({', '.join(names)})"  # noqa: S608 - own names
            " WITH RECURSIVE series (i) AS"
            f" (SELECT CAST({first:d} AS BIGINT) UNION ALL SELECT i + 1 FROM series WHERE i < {last:d}),"
            f" made AS (SELECT {chosen} FROM series)"
            f" SELECT {', '.join(columns)}, {', '.join(_TIMES.values())} FROM made",
            (BODY, IMAGES, RAW),
        )


@contextmanager
def _uncounted(journal: SqlJournal) -> Iterator[None]:
    """One transaction, without the triggers that count each row: the sums are counted once, at its end."""
    database = journal._database
    is_server = database.order == "seq"
    with journal.held():
        triggers: list[tuple[str, str]] = []
        if is_server:
            database.execute("ALTER TABLE records DISABLE TRIGGER USER")
        else:
            triggers = [
                (name, sql)
                for name, sql in database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
            ]
            for name, _ in triggers:
                database.execute(f"DROP TRIGGER {name}")
        yield
        count_anew(database)
        if is_server:
            database.execute("ALTER TABLE records ENABLE TRIGGER USER")
        for _, sql in triggers:
            database.execute(sql)
    if is_server:  # as the server does by itself within a minute
        with database.writing():
            for statement in database.for_long:
                database.execute(statement)
            database.execute("ANALYZE records, spending")
