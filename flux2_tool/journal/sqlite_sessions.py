"""The records by conversation: its newest image, what it spawned, and the images that no call was given.

A host names the conversations that spawned another one, such as a subagent's; they stay known for as long as the
journal exists, also after the host has forgotten the subagent.
"""

from __future__ import annotations

from collections.abc import Sequence

from flux2_tool.journal.model import Record, RecordState
from flux2_tool.journal.sqlite_claims import ClaimTable


class SessionTable(ClaimTable):
    """The table of records by conversation."""

    def note_ancestors(self, session: str, ancestors: Sequence[str]) -> None:
        rows = [(session, ancestor) for ancestor in ancestors]
        with self._guarded():
            known = {tuple(row) for row in self._connection.execute(
                "SELECT session, ancestor FROM session_ancestors WHERE session = ?", (session,)
            )}  # fmt: skip
        if not known.issuperset(rows):
            with self._transaction(synced=True):
                self._connection.executemany(
                    "INSERT OR IGNORE INTO session_ancestors (session, ancestor) VALUES (?, ?)", rows
                )

    def descendants_of(self, session: str) -> list[str]:
        with self._guarded():
            rows = self._connection.execute("SELECT session FROM session_ancestors WHERE ancestor = ?", (session,))
            return [row[0] for row in rows]

    def note_delivered(self, record_id: str, *, now: float, elsewhere: str | None = None) -> None:
        with self._transaction():
            self._connection.execute(
                "UPDATE records SET delivered_at = coalesce(delivered_at, ?),"
                # Who still follows it has to write its end.
                " owner = CASE WHEN state = 'completed' THEN NULL ELSE owner END WHERE record_id = ?",
                (now, record_id),
            )
            if elsewhere is not None:
                self._connection.execute(
                    "INSERT OR IGNORE INTO shown_elsewhere (session, record_id) VALUES (?, ?)", (elsewhere, record_id)
                )

    def not_given(self, sessions: Sequence[str], *, since: float, now: float) -> list[Record]:
        marks = ", ".join("?" * len(sessions))
        # In a transaction, because looking at another process's lease may note what was seen.
        with self._transaction():
            found = self._select(
                f"session IN ({marks}) AND created_at >= ? AND delivered_at IS NULL AND task_id IS NOT NULL"
                " AND state IN ('processing', 'completed') AND coalesce(told, '') != state",
                (*sessions, since),
            )
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
        of_account = "fingerprint = ? AND base_url = ? AND state = 'completed'"
        own = "(session IS ? OR record_id IN (SELECT record_id FROM shown_elsewhere WHERE session = ?))"
        order = f"{'delivered_at IS NULL, ' if delivered_first else ''}rowid DESC LIMIT 1"
        with self._guarded():
            found = self._select(f"{of_account} AND {own}", (fingerprint, base_url, session, session), order)
            if not found and inherited_session_prefix is not None:
                for (other_session,) in self._connection.execute(
                    f"SELECT session FROM records WHERE {of_account}"  # noqa: S608 - own names
                    " AND substr(session, 1, ?) = ? GROUP BY session ORDER BY max(rowid) DESC",
                    (fingerprint, base_url, len(inherited_session_prefix), inherited_session_prefix),
                ):
                    if self._owner.liveness(other_session.removeprefix(inherited_session_prefix)) == "dead":
                        values = (fingerprint, base_url, other_session)
                        found = self._select(f"{of_account} AND session IS ?", values, order)
                        break
            return found[0] if found else None
