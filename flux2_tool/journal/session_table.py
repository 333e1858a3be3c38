"""The records by conversation: its newest image, what it spawned, and the images that no call was given.

A host names the conversations that spawned another one, such as a subagent's; they stay known for as long as the
journal exists, also after the host has forgotten the subagent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

from flux2_tool.journal.claim_table import ClaimTable
from flux2_tool.journal.model import Conversation, Record, RecordState

_SHOWN_IN: Final = "SELECT record_id FROM shown_elsewhere WHERE session = ?"


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
        shown = "record_id IN (SELECT record_id FROM shown_elsewhere WHERE session = ?)"
        own = f"(session {self._database.same} ? OR {shown})"
        order = f"{'delivered_at IS NULL, ' if delivered_first else ''}{self._database.order} DESC LIMIT 1"
        with self._guarded():
            found = self._select(f"{of_account} AND {own}", (fingerprint, base_url, session, session), order)
            if not found and inherited_session_prefix is not None:
                for other_session in self._inherited_sessions(fingerprint, base_url, inherited_session_prefix):
                    values = (fingerprint, base_url, other_session)
                    found = self._select(f"{of_account} AND session {self._database.same} ?", values, order)
                    break
            return found[0] if found else None

    def recent(self, wanted: Conversation, *, limit: int) -> list[Record]:
        with self._guarded():
            others = list(wanted.descendants)
            if wanted.inherited_session_prefix is not None:
                inherited = self._inherited_sessions(
                    wanted.fingerprint, wanted.base_url, wanted.inherited_session_prefix
                )
                others += itertools.islice(inherited, 1)
            marks = ", ".join("?" * len(others))
            in_others = f" OR session IN ({marks})" if others else ""
            theirs = f"(session {self._database.same} ?{in_others} OR record_id IN ({_SHOWN_IN}))"
            return self._select(
                f"fingerprint = ? AND base_url = ? AND state NOT IN ('failed', 'not_created') AND {theirs}",
                (wanted.fingerprint, wanted.base_url, wanted.session, *others, wanted.session),
                f"{self._database.order} DESC LIMIT {limit:d}",
            )

    def _inherited_sessions(self, fingerprint: str, base_url: str, prefix: str) -> Iterator[str]:
        """Yield an account's sessions of dead owners that have images, newest first."""
        for (session,) in self._database.execute(
            "SELECT session FROM records WHERE fingerprint = ? AND base_url = ? AND state = 'completed'"  # noqa: S608
            f" AND substr(session, 1, ?) = ? GROUP BY session ORDER BY max({self._database.order}) DESC",
            (fingerprint, base_url, len(prefix), prefix),
        ):
            if self._owner.liveness(session.removeprefix(prefix)) == "dead":
                yield session
