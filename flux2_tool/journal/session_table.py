"""The records by conversation: its newest image, what it spawned, and the images that no call was given.

A host names the conversations that spawned another one, such as a subagent's; they stay known for as long as the
journal exists, also after the host has forgotten the subagent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

from flux2_tool.journal.claim_table import ClaimTable
from flux2_tool.journal.model import Conversation, Record, RecordState

_SHOWN_IN: Final = "SELECT record_id FROM shown_elsewhere WHERE session = ?"


# So that SQLite looks up the conversation, and not all that are completed.
_COMPLETED: Final = "state || '' = 'completed'"
# How many conversations are looked up each by itself; SQLite combines at most 500 queries.
_SINGLY: Final = 100
# Among so many of the newest images of connections one looks for what it inherits.
_INHERITED_OF: Final = 1000


class SessionTable(ClaimTable):
    """The table of records by conversation."""

    def note_ancestors(self, session: str, ancestors: Sequence[str]) -> None:
        rows = [(session, ancestor) for ancestor in ancestors]
        with self._guarded():
            known = {tuple(row) for row in self._database.execute(
                "SELECT session, ancestor FROM session_ancestors WHERE session = ?", (session,)
            )}  # fmt: skip
        if not known.issuperset(rows):
            with self._transaction(synced=True):
                self._database.executemany(
                    "INSERT INTO session_ancestors (session, ancestor) VALUES (?, ?) ON CONFLICT DO NOTHING", rows
                )

    def descendants_of(self, session: str) -> list[str]:
        with self._guarded():
            rows = self._database.execute("SELECT session FROM session_ancestors WHERE ancestor = ?", (session,))
            return [row[0] for row in rows]

    def note_delivered(self, record_id: str, *, now: float, elsewhere: str | None = None) -> None:
        with self._transaction():
            self._database.execute(
                "UPDATE records SET delivered_at = coalesce(delivered_at, ?),"
                # Who still follows it has to write its end.
                " owner = CASE WHEN state = 'completed' THEN NULL ELSE owner END WHERE record_id = ?",
                (now, record_id),
            )
            if elsewhere is not None:
                self._database.execute(
                    "INSERT INTO shown_elsewhere (session, record_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
                    (elsewhere, record_id),
                )

    def not_given(
        self, sessions: Sequence[str], *, since: float, now: float, known: Sequence[str] = ()
    ) -> list[Record]:
        marks = ", ".join("?" * len(sessions))
        but_known = f" AND record_id NOT IN ({', '.join('?' * len(known))})" if known else ""
        condition = (
            f"session IN ({marks}) AND created_at >= ? AND delivered_at IS NULL AND task_id IS NOT NULL"
            f" AND state IN ('processing', 'completed') AND coalesce(told, '') != state{but_known}"
        )
        values = (*sessions, since, *known)
        with self._guarded():
            found = self._select(condition, values)
        if all(record.owner in (None, self._name) for record in found):
            return found  # the usual case
        # In a transaction, because looking at another process's lease may note what was seen.
        with self._transaction(timed=True):
            found = self._select(condition, values)
            return [record for record in found if not self._is_held_by_another(record, now)]

    def note_told(self, record_id: str, state: RecordState) -> None:
        with self._transaction():
            self._update(record_id, told=state)

    def newest(
        self,
        *,
        fingerprint: str,
        base_url: str,
        session: str | None,
        delivered_first: bool = False,
        inherited_session_prefix: str | None = None,
    ) -> Record | None:
        first = "delivered_at IS NULL, " if delivered_first else ""
        with self._guarded():
            found = self._newest(fingerprint, base_url, _COMPLETED, [session], session, first=first)
            if not found and inherited_session_prefix is not None:
                for other_session in self._inherited_sessions(fingerprint, base_url, inherited_session_prefix):
                    found = self._newest(fingerprint, base_url, _COMPLETED, [other_session], first=first)
                    break
            return found[0] if found else None

    def recent(self, wanted: Conversation, *, limit: int) -> list[Record]:
        with self._guarded():
            sessions = [wanted.session, *wanted.descendants]
            if wanted.inherited_session_prefix is not None:
                inherited = self._inherited_sessions(
                    wanted.fingerprint, wanted.base_url, wanted.inherited_session_prefix
                )
                sessions += itertools.islice(inherited, 1)
            return self._newest(
                wanted.fingerprint,
                wanted.base_url,
                "state NOT IN ('failed', 'not_created')",
                sessions,
                wanted.session,
                limit=limit,
            )

    def last_of(self, sessions: Sequence[str | None], *, limit: int) -> tuple[list[Record], int]:
        """Return the last records of sessions, oldest first, and how many there are in all."""
        order, found, count = self._database.order, list[str](), 0
        with self._guarded():
            for own, its in _conditions(list(dict.fromkeys(sessions))):
                counted = self._database.ask(f"SELECT count(*) FROM records WHERE {own}", its)  # noqa: S608 - own names
                sql = f"SELECT record_id FROM records WHERE {own} ORDER BY {order} DESC LIMIT {limit:d}"  # noqa: S608
                found += [record_id for (record_id,) in self._database.ask(sql, its)()]
                count += int(counted()[0][0])
            marks = ", ".join("?" * len(found)) or "''"
            last = self._select(f"record_id IN ({marks})", tuple(found), f"{order} DESC LIMIT {limit:d}")
            return last[::-1], count

    def _newest(
        self,
        fingerprint: str,
        base_url: str,
        condition: str,
        sessions: Sequence[str | None],
        shown_in: str | None = None,
        *,
        first: str = "",
        limit: int = 1,
    ) -> list[Record]:
        """Return an account's newest records of sessions, and of what was shown in one.

        The newest of each session are looked up by themselves, so that it does not matter how many there are.
        """
        order, account = self._database.order, (fingerprint, base_url)
        wanted = f"fingerprint = ? AND base_url = ? AND {condition}"
        parts, values = [_SHOWN_IN], list[Any]([shown_in])
        for own, its in _conditions(sessions):
            for more in ("", " AND delivered_at IS NOT NULL")[: 2 if first else 1]:
                parts.append(
                    f"SELECT record_id FROM (SELECT record_id FROM records WHERE {own} AND {wanted}{more}"  # noqa: S608
                    f" ORDER BY {order} DESC LIMIT {limit:d}) AS newest"
                )
                values += (*its, *account)
        return self._select(
            f"record_id IN ({' UNION ALL '.join(parts)}) AND {wanted}",
            (*values, *account),
            f"{first}{order} DESC LIMIT {limit:d}",
        )

    def _inherited_sessions(self, fingerprint: str, base_url: str, prefix: str) -> Iterator[str]:
        """Yield an account's sessions of dead owners that have images, newest first; of the newest images only."""
        # Word for word as in the index records_of_connections.
        starts = "substr(session, 1, {:d}) = '{}'".format(len(prefix), prefix.replace("'", "''"))
        for (session,) in self._database.ask(
            "SELECT session FROM (SELECT session, "  # noqa: S608 - own names
            f"{self._database.order} AS place FROM records WHERE fingerprint = ? AND base_url = ?"
            f" AND state = 'completed' AND {starts} ORDER BY {self._database.order} DESC LIMIT {_INHERITED_OF:d})"
            " AS newest GROUP BY session ORDER BY max(place) DESC",
            (fingerprint, base_url),
        )():
            if self._owner.liveness(session.removeprefix(prefix)) == "dead":
                yield session


def _conditions(sessions: Sequence[str | None]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield a condition for each session and its values; from the hundredth on one for all others together."""
    for session in sessions[:_SINGLY]:
        yield ("session IS NULL", ()) if session is None else ("session = ?", (session,))
    if others := tuple(session for session in sessions[_SINGLY:] if session is not None):
        yield f"session IN ({', '.join('?' * len(others))})", others
