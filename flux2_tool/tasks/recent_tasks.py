"""The last tasks of a conversation, and the use of its caps, as the journal knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flux2_tool.context import CallContext
from flux2_tool.journal import Cap, Conversation, Journal, JournalError, JournalWithFallback, Record, Spending
from flux2_tool.journal.errors import unavailable
from flux2_tool.tasks.deduplication import inherited_session_prefix
from flux2_tool.tasks.live_tasks import LiveTasks
from flux2_tool.tasks.resume import Account

_WITHOUT_IMAGE: Final = ("failed", "not_created")


class RecentTasks:
    """Reads what a conversation has made and what it may still spend.

    Args:
        journals: Where it is.
        live: The image tasks of this process, of which more is known than is written yet.
    """

    def __init__(self, journals: JournalWithFallback, *, live: LiveTasks) -> None:
        self._journals = journals
        self._live = live

    async def records(self, account: Account, caller: CallContext, *, limit: int) -> list[Record]:
        """Return the last requests of a caller's conversation that made an image, or may have, newest first.

        Raises:
            JournalUnavailableError: The journal cannot be read.
        """
        wanted = Conversation(
            fingerprint=account.fingerprint,
            base_url=account.base_url,
            session=caller.session,
            descendants=caller.descendants,
            inherited_session_prefix=inherited_session_prefix(caller.session),
        )
        try:
            found = await self._journals.read(lambda journal: journal.recent(wanted, limit=limit))
        except JournalError as exc:
            raise unavailable(exc) from exc
        known = [self._known(record) for record in found]
        return [record for record in known if record.state not in _WITHOUT_IMAGE]

    async def spendings(self, caps: Sequence[Cap]) -> list[Spending]:
        """Return the use of caps.

        Raises:
            JournalUnavailableError: The journal cannot be read.
        """

        async def of(journal: Journal) -> list[Spending]:
            return [await journal.spending(cap) for cap in caps]

        try:
            return await self._journals.read(of)
        except JournalError as exc:
            raise unavailable(exc) from exc

    def _known(self, record: Record) -> Record:
        image_task = self._live.of_record(record.record_id)
        return record if image_task is None or image_task.record is None else image_task.record
