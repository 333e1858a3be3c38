"""Who owns a record: the process that submits and follows it, until it ends, releases it or is lost.

On one machine it matters only whether the owner lives. Where that cannot be told (another container or host), the
lease decides, and it is measured on monotonic clocks: on the clock of this boot if the owner has the same one, else by
watching from here that it was not renewed for its whole length. So nobody who sets a clock makes two owners.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flux2_tool.journal.database import Database
from flux2_tool.journal.errors import JournalError, OwnershipLostError
from flux2_tool.journal.model import Record
from flux2_tool.journal.process_id import Moment, Owner
from flux2_tool.journal.record_table import RecordTable

# A process owns a record for this long after its last heartbeat.
LEASE_S: Final = 30.0
# For so long after its claim a POST may begin without another look at whose the record is: next to nothing of a lease.
JUST_S: Final = 1.0


class LeaseTable(RecordTable):
    """The table of records with the rules of ownership.

    Args:
        database: An open database.
        owner: This process.
    """

    def __init__(self, database: Database, owner: Owner) -> None:
        super().__init__(database)
        self._owner = owner
        self._name = owner.name

    def _lease(self, now: float) -> dict[str, Any]:
        """Return the columns that make this process the owner."""
        moment = self._owner.moment()
        return {
            "owner": self._name,
            "lease_until": now + LEASE_S,
            "lease_clock": moment.clock,
            "lease_until_s": moment.s + LEASE_S,
        }

    def _is_held(self, record: Record, now: float) -> bool:
        """Whether a process owns a record, or may own it. Only within a transaction: it may note what it saw."""
        if record.owner is None:
            return False
        if record.owner == self._name:
            return True
        liveness = self._owner.liveness(record.owner)
        if liveness == "dead":
            return False
        if liveness == "alive" and record.task_id is None:
            return True  # it may be stopped in the middle of a POST, however long
        return not self._is_lease_over(record, now)

    def _is_held_by_another(self, record: Record, now: float) -> bool:
        return record.owner != self._name and self._is_held(record, now)

    def _may_be_orphaned(self, record: Record, now: float) -> bool:
        """Whether a record is worth joining or watching: `take_over` decides whether its request may be sent again."""
        if record.owner is None:
            return True
        if record.owner == self._name:
            return False
        liveness = self._owner.liveness(record.owner)
        if liveness != "unknown":
            return liveness == "dead" or (record.task_id is not None and self._is_expired_here(record) is True)
        expired = self._is_expired_here(record)
        return _is_over_by_wall_clock(record, now) if expired is None else expired

    def _check_owned(self, record_id: str, read: Callable[[], Record | None] | None = None) -> Record:
        """Return a record of which this process is the owner.

        Args:
            record_id: Its id.
            read: Reads it, if it was asked for before.

        Raises:
            OwnershipLostError: Another process is, or nobody.
            JournalError: It is not in the journal any more.
        """
        record = self._known(record_id, read)
        if record.owner != self._name:
            raise OwnershipLostError(f"record {record_id} belongs to {record.owner or 'nobody'}")
        return record

    def _known(self, record_id: str, read: Callable[[], Record | None] | None = None) -> Record:
        record = self._locked(record_id) if read is None else read()
        if record is None:
            raise JournalError(f"record {record_id} is not in the journal any more", reason="replaced")
        return record

    # ---- leases ------------------------------------------------------------------------------------------------------

    def _is_expired_here(self, record: Record) -> bool | None:
        """Whether a lease is over on the clock of this boot; None if it is of another one."""
        moment = self._owner.moment()
        if record.lease_clock != moment.clock or record.lease_until_s is None:
            return None
        return moment.s >= record.lease_until_s

    def _is_lease_over(self, record: Record, now: float) -> bool:
        expired = self._is_expired_here(record)
        if expired is not None:
            return expired
        return self._was_unrenewed(record) and _is_over_by_wall_clock(record, now)

    def _was_unrenewed(self, record: Record) -> bool:
        """Whether this boot's processes have seen the same lease for its whole length; begins to watch it if not."""
        moment = self._owner.moment()
        lease = f"{record.owner} {record.lease_until} {record.lease_until_s}"
        row = self._database.execute(
            "SELECT lease, since_s FROM watched_leases WHERE record_id = ? AND clock = ?",
            (record.record_id, moment.clock),
        ).fetchone()
        if row is not None and row[0] == lease:
            return bool(moment.s - row[1] >= LEASE_S)
        self._database.execute(
            "INSERT INTO watched_leases (record_id, clock, lease, since_s) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (record_id, clock) DO UPDATE SET lease = excluded.lease, since_s = excluded.since_s",
            (record.record_id, moment.clock, lease, moment.s),
        )
        return False


def is_just_leased(record: Record, moment: Moment) -> bool:
    """Whether a lease was made or renewed a moment ago, on a clock that also counts while a machine is suspended."""
    if record.lease_until_s is None or record.lease_clock != moment.clock:
        return False
    return 0.0 <= moment.s - (record.lease_until_s - LEASE_S) <= JUST_S


def _is_over_by_wall_clock(record: Record, now: float) -> bool:
    """Whether a lease is over by the wall clock. One longer than any lease says that a clock was set."""
    left_s = (record.lease_until or 0.0) - now
    return left_s <= 0.0 or left_s > LEASE_S
