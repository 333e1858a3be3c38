"""What the processes of an account share of its pace: the state after a 429, and who may send a create POST.

A create slot is a place in the account's queue. The first `max_creates` of it may send; the rest wait, first come first
served. A place is taken in the transaction that notes the POST, which may be that of its claim, and given back in the
one that notes its outcome. It counts only as long as its record is being sent by a process whose lease runs, so those
of killed processes become free by themselves. Times are on the clock of the leases.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from flux2_tool.journal.account_pace import AccountPace, CreateLimit, FreeTurn, Turn
from flux2_tool.journal.database import Database
from flux2_tool.journal.lease_table import LeaseTable
from flux2_tool.journal.process_id import Moment, Owner
from flux2_tool.runapi.rate_limit import FIRST_GAP_S, Pace, PaceChange, narrower, wider

# After so long without another 429 its spacing is forgotten, also where nobody was left to relieve it.
PACE_LIFE_S: Final = 60.0
_PACE: Final = "version, refusals, in_a_row, gap_s, clock, closed_until_s"
_NEW: Final = Pace(version=0, refusals=0, in_a_row=0, gap_s=0.0, closed_s=-PACE_LIFE_S)


class PaceTable(LeaseTable):
    """The tables of the accounts' pace and of the create slots."""

    def __init__(self, database: Database, owner: Owner) -> None:
        super().__init__(database, owner)
        # Requests that a slot became free for; those of this process need not wait to be told.
        self._woken: deque[FreeTurn] = deque()

    def note_pace(self, change: PaceChange, *, base_url: str, fingerprint: str) -> AccountPace:
        """Write what this process has met, tell the others, and return what holds now."""
        with self._transaction(timed=True):
            self._lock_account(base_url, fingerprint)
            moment = self._owner.moment()
            known = self._pace_row(base_url, fingerprint)(moment)
            is_over = known.closed_s <= -PACE_LIFE_S
            if is_over:
                known = replace(known, in_a_row=0, gap_s=0.0)
            pace = _changed(known, change, is_over=is_over)
            if pace is None:
                return self._with_owners(base_url, fingerprint, known, moment)
            self._database.execute(
                f"INSERT INTO account_pace (base_url, fingerprint, {_PACE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
                " ON CONFLICT (base_url, fingerprint) DO UPDATE SET version = excluded.version,"
                " refusals = excluded.refusals, in_a_row = excluded.in_a_row, gap_s = excluded.gap_s,"
                " clock = excluded.clock, closed_until_s = excluded.closed_until_s",
                (
                    *(base_url, fingerprint, pace.version, pace.refusals, pace.in_a_row, pace.gap_s),
                    *(moment.clock, moment.s + pace.closed_s),
                ),
            )
            of_all = self._with_owners(base_url, fingerprint, pace, moment)
            self._database.notify(of_all.message())
            return of_all

    def paces(self) -> list[AccountPace]:
        """Return the pace of every account of which a 429 may still have an effect."""
        with self._guarded():
            return self._ask_paces()(self._owner.moment())

    def give_back_slot(self, record_id: str) -> None:
        """Let another request send while this one's pauses."""
        with self._transaction():
            self._free_slot(record_id, self._ask_waiting(record_id))

    def take_woken(self) -> list[FreeTurn]:
        """Return the requests that a slot became free for, once."""
        woken = []
        with contextlib.suppress(IndexError):
            while True:
                woken.append(self._woken.popleft())
        return woken

    # ---- within a transaction ----------------------------------------------------------------------------------------

    def _ask_paces(self) -> Callable[[Moment], list[AccountPace]]:
        """Return what reads what `paces` returns, see `Database.ask`."""
        rows = self._database.ask(f"SELECT base_url, fingerprint, {_PACE} FROM account_pace")  # noqa: S608 - own names

        def read(moment: Moment) -> list[AccountPace]:
            known = [(*row[:2], _pace_of(row[2:], moment)) for row in rows()]
            return [
                self._with_owners(base_url, fingerprint, pace, moment)
                for base_url, fingerprint, pace in known
                if pace.closed_s > -PACE_LIFE_S
            ]

        return read

    def _ask_turn(self, record_id: str, limit: CreateLimit) -> Callable[[Moment], tuple[Turn, AccountPace | None]]:
        """Give a record of this process a place in the queue, which it keeps until its POST may be sent.

        Returns:
            What reads, at a moment, whether it may be sent now, see `Database.ask`, and the account's pace, if a 429
            may still have an effect.
        """
        account = (limit.base_url, limit.fingerprint)
        self._lock_account(*account)
        self._database.execute(
            "INSERT INTO create_slots (record_id, base_url, fingerprint, owner) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (record_id) DO UPDATE SET owner = excluded.owner",
            (record_id, *account, self._name),
        )
        queued = self._database.ask(
            "SELECT own.waits, count(other.place), count(CASE WHEN other.owner = own.owner THEN 1 END)"
            " FROM create_slots AS own LEFT JOIN create_slots AS other ON other.base_url = own.base_url"
            " AND other.fingerprint = own.fingerprint AND other.place < own.place"
            " WHERE own.record_id = ? GROUP BY own.place, own.waits",
            (record_id,),
        )
        pace = self._pace_row(*account)
        return lambda moment: self._turn(record_id, limit, queued()[0], pace(moment), moment)

    def _turn(
        self, record_id: str, limit: CreateLimit, queued: Sequence[int], pace: Pace, moment: Moment
    ) -> tuple[Turn, AccountPace | None]:
        """Return whether a record's POST may be sent now.

        Args:
            record_id: The record's id.
            limit: How many may be in flight.
            queued: Whether it waited before, how many are before it in the queue, and how many of those this process's.
            pace: The account's.
            moment: Now.
        """
        account = (limit.base_url, limit.fingerprint)
        waits, all_ahead, own_ahead = queued
        most, own = limit.most, min(own_ahead, limit.own)
        ahead = all_ahead - own_ahead + own
        if ahead >= most:
            ahead = self._others_ahead(record_id, account, moment) + own
        if ahead >= most:
            if not waits:
                self._database.execute("UPDATE create_slots SET waits = 1 WHERE record_id = ?", (record_id,))
            return Turn(is_free=False, ahead=ahead - most), None
        if waits:
            self._database.execute("UPDATE create_slots SET waits = 0 WHERE record_id = ?", (record_id,))
            if ahead + 1 < most:  # two that became free at once were both offered to this one
                self._wake(
                    self._database.ask(
                        "SELECT record_id FROM create_slots WHERE base_url = ? AND fingerprint = ? AND waits = 1"
                        " ORDER BY place LIMIT 1",
                        account,
                    )()
                )
        known = self._with_owners(*account, pace, moment) if pace.closed_s > -PACE_LIFE_S else None
        return Turn(is_free=pace.closed_s <= 0.0, closed_s=max(0.0, pace.closed_s)), known

    def _ask_waiting(self, record_id: str) -> Callable[[], Sequence[Sequence[str]]]:
        """Return what reads which request waits for a record's slot, see `Database.ask`."""
        return self._database.ask(
            "SELECT next.record_id FROM create_slots AS own JOIN create_slots AS next ON next.base_url = own.base_url"
            " AND next.fingerprint = own.fingerprint AND next.place != own.place AND next.waits = 1"
            " WHERE own.record_id = ? AND own.owner = ? ORDER BY next.place LIMIT 1",
            (record_id, self._name),
        )

    def _free_slot(self, record_id: str, waiting: Callable[[], Sequence[Sequence[str]]]) -> None:
        """Give this process's place back, if the record has one, and wake who waits for it."""
        woken = waiting()
        self._database.execute("DELETE FROM create_slots WHERE record_id = ? AND owner = ?", (record_id, self._name))
        self._wake(woken)

    def _free_all_slots(self) -> None:
        """Give back the places of all records of this process."""
        rows = self._database.execute("SELECT record_id FROM create_slots WHERE owner = ?", (self._name,)).fetchall()
        for (record_id,) in rows:
            self._free_slot(record_id, self._ask_waiting(record_id))

    # ---- private -----------------------------------------------------------------------------------------------------

    def _lock_account(self, base_url: str, fingerprint: str) -> None:
        self._database.lock(f"{fingerprint} {base_url}")

    def _pace_row(self, base_url: str, fingerprint: str) -> Callable[[Moment], Pace]:
        """Return what reads an account's pace at a moment, see `Database.ask`."""
        rows = self._database.ask(
            f"SELECT {_PACE} FROM account_pace WHERE base_url = ? AND fingerprint = ?",  # noqa: S608 - own names
            (base_url, fingerprint),
        )
        return lambda moment: _pace_of(row, moment) if (row := next(iter(rows()), None)) else _NEW

    def _with_owners(self, base_url: str, fingerprint: str, pace: Pace, moment: Moment) -> AccountPace:
        rows = self._database.execute(
            "SELECT DISTINCT owner FROM records WHERE owner IS NOT NULL AND base_url = ? AND fingerprint = ?"
            " AND state IN ('sending', 'processing') AND lease_clock = ? AND lease_until_s > ?",
            (base_url, fingerprint, moment.clock, moment.s),
        ).fetchall()
        owners = sorted(str(row[0]) for row in rows)
        return AccountPace(base_url=base_url, fingerprint=fingerprint, pace=pace, owners=tuple(owners))

    def _wake(self, waiting: Sequence[Sequence[str]]) -> None:
        for (record_id,) in waiting:
            self._database.notify(FreeTurn(record_id).message())
            self._woken.append(FreeTurn(record_id))

    def _others_ahead(self, record_id: str, account: tuple[str, str], moment: Moment) -> int:
        """Return how many places of other processes before a record's count, and remove those that do not."""
        rows = self._database.execute(
            "SELECT other.record_id, other.owner, records.owner, lease_clock, lease_until_s, state, task_id"
            " FROM create_slots AS other LEFT JOIN records ON records.record_id = other.record_id"
            " WHERE other.base_url = ? AND other.fingerprint = ? AND other.owner != ?"
            " AND place < (SELECT place FROM create_slots WHERE record_id = ?)",
            (*account, self._name, record_id),
        ).fetchall()
        gone = [row[0] for row in rows if not self._is_sending(*row[1:], moment=moment)]
        for ended in gone:
            self._database.execute("DELETE FROM create_slots WHERE record_id = ?", (ended,))
        return len(rows) - len(gone)

    def _is_sending(
        self,
        taken_by: str,
        owner: str | None,
        clock: str | None,
        until_s: float | None,
        state: str | None,
        task_id: str | None,
        *,
        moment: Moment,
    ) -> bool:
        """Whether a record's process may be sending its POST."""
        if owner is None or owner != taken_by or state != "sending" or task_id is not None:
            return False
        if self._owner.liveness(owner) == "dead":
            return False
        # On another boot's clock nothing can be told; such a process has its own machine's limit.
        return clock == moment.clock and until_s is not None and until_s > moment.s


def _pace_of(row: Sequence[Any], moment: Moment) -> Pace:
    version, refusals, in_a_row, gap_s, clock, until_s = row
    closed_s = until_s - moment.s if clock == moment.clock else -PACE_LIFE_S
    return Pace(version=version, refusals=refusals, in_a_row=in_a_row, gap_s=gap_s, closed_s=closed_s)


def _changed(known: Pace, change: PaceChange, *, is_over: bool) -> Pace | None:
    """Return the pace after what a process has met, None if that changes nothing.

    Args:
        known: The pace so far.
        change: What was met.
        is_over: Whether the last 429 is so long ago that it has no effect any more.
    """
    refusals, in_a_row, gap_s, closed_s = known.refusals, known.in_a_row, known.gap_s, known.closed_s
    is_current = is_over or change.seen == known.refusals
    if change.closed_s is not None:
        if change.is_refusal and is_current:
            # Those that several processes meet at once count as one.
            refusals, in_a_row, gap_s = refusals + 1, in_a_row + 1, wider(gap_s)
        gap_s, closed_s = gap_s or FIRST_GAP_S, max(closed_s, change.closed_s)
    elif change.responses and is_current and gap_s > 0.0:
        in_a_row, gap_s = 0, narrower(gap_s, change.responses)
    else:
        return None
    return Pace(version=known.version + 1, refusals=refusals, in_a_row=in_a_row, gap_s=gap_s, closed_s=closed_s)
