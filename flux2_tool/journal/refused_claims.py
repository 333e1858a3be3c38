"""Claims whose calls were told that nothing is sent, though the journal may have recorded them.

The answer to a commit can be lost with its connection for longer than a call has patience. Such a record would reserve
its price, have equal requests wait for it, and be sent by whoever resumes it. So the process that made it ends it as
soon as the journal can be used again, before it renews its leases and before it claims anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from flux2_tool.journal.errors import JournalError, JournalFailureReason
from flux2_tool.journal.model import Intent
from flux2_tool.journal.protocol import LOCK_PATIENCE_S, Journal

# What else fails was certainly not recorded. A lock may be given by the server after its wait was given up here.
_UNCERTAIN: Final[frozenset[JournalFailureReason]] = frozenset(("connection", "locked"))


class RefusedClaims:
    """The claims of one process that may have been recorded all the same."""

    def __init__(self) -> None:
        self._record_ids: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._record_ids)

    @contextmanager
    def unless_made(self, intents: Sequence[Intent]) -> Iterator[None]:
        """Claim these within the block; the error that leaves it is what the call is told."""
        try:
            yield
        except BaseException as exc:
            failure = exc.__cause__
            if isinstance(failure, JournalError) and failure.reason not in _UNCERTAIN:
                raise
            self._record_ids |= dict.fromkeys(intent.record_id for intent in intents)
            raise

    async def end_in(self, journal: Journal, *, now: float, within_s: float = LOCK_PATIENCE_S) -> None:
        """End them in the journal that may have them.

        Raises:
            JournalError: It cannot be used; they are tried again with the next call of this.
        """
        record_ids = tuple(self._record_ids)
        if record_ids:
            await journal.end_unsent(record_ids, now=now, within_s=within_s)
            for record_id in record_ids:
                self._record_ids.pop(record_id, None)
