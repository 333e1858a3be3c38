"""What the file says was spent, kept for the caps in memory should the file fail: other processes spend too.

The file is read at most every few seconds and then only for what has ended since, so that a claim costs the same
however many images a day had. What this process made meanwhile is known to it anyway.
"""

from __future__ import annotations

from typing import Final

from flux2_tool.journal.model import Record
from flux2_tool.journal.protocol import Journal

# A day on which the clocks are set back.
LONGEST_DAY_S: Final = 25 * 3600.0
EVERY_S: Final = 10.0
# An end is written this much later than its date, at most: another process waited for a lock.
_OVERLAP_S: Final = 60.0


class SpentRecords:
    """The completed records of the last day."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._read_at: float | None = None

    async def update(self, journal: Journal, *, now: float) -> None:
        """Read what has ended since the last time, if that was long enough ago.

        Raises:
            JournalError: It cannot be read.
        """
        read_at = self._read_at
        if read_at is not None and 0.0 <= now - read_at < EVERY_S:
            return
        since = now - LONGEST_DAY_S
        ended_since = None if read_at is None or read_at > now else read_at - _OVERLAP_S
        for record in await journal.records(states=("completed",), since=since, ended_since=ended_since):
            self._records[record.record_id] = record
        self._records = {key: record for key, record in self._records.items() if record.created_at >= since}
        self._read_at = now

    def take(self) -> list[Record]:
        """Return the records and forget them."""
        taken = list(self._records.values())
        self._records, self._read_at = {}, None
        return taken
