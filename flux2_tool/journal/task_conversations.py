"""Which conversations a task was made in, for as long as the journal exists: what decides who may see it.

A record says so while it stands. `prune` and `forget` delete records, so they keep the task's id and conversation in a
table of their own. Both are looked up by the id alone: neither another key nor another spelling of the base URL makes
the task anybody else's. Ids are compared without letter case and the punctuation of a UUID, because a service may read
`{6F9619FF…}` as the task `6f9619ff-…`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flux2_tool.journal.database import Database

# The same expression as that of the index `records_by_task_key`; see `0011_task_conversations` in migrations.py.
_KEY: Final = "lower(replace(replace(replace({}, '-', ''), '{{', ''), '}}', ''))"
_OF_COLUMN: Final = _KEY.format("task_id")
_OF_VALUE: Final = _KEY.format("?")


def conversations_of(database: Database, task_id: str) -> list[str | None]:
    """Return the sessions that a task was made in, in any spelling of its id; none if it was made elsewhere.

    None stands for a call without a session, such as one of the command line.
    """
    rows = database.execute(
        f"SELECT session FROM records WHERE {_OF_COLUMN} = {_OF_VALUE}"  # noqa: S608 - own names
        f" UNION SELECT session FROM task_conversations WHERE task_key = {_OF_VALUE}",
        (task_id, task_id),
    )
    return [row[0] for row in rows]


def keep_conversations(database: Database, condition: str, values: Sequence[Any]) -> None:
    """Keep the conversations of the records that match a condition and are about to be deleted."""
    database.execute(
        # EXCEPT takes two missing sessions for equal, unlike a primary key.
        f"INSERT INTO task_conversations (task_key, session) SELECT {_OF_COLUMN}, session FROM records"  # noqa: S608
        f" WHERE task_id IS NOT NULL AND ({condition}) EXCEPT SELECT task_key, session FROM task_conversations",
        tuple(values),
    )
