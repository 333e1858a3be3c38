"""The conversations of one family, and the images that they were not given.

A host names the conversations that spawned another one, such as a subagent's; its images are theirs, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from flux2_tool._clock import Clock
from flux2_tool.context import CallContext
from flux2_tool.journal import JournalError, JournalWithFallback
from flux2_tool.runapi import contract
from flux2_tool.tasks.left_behind import LeftImage, left_behind
from flux2_tool.tasks.live_tasks import LiveTasks

logger = logging.getLogger(__name__)


class Families:
    """What the journal knows of a process's conversations beside their requests.

    Args:
        journals: Where it is.
        live: The image tasks of this process.
        clock: Time.
        is_returned: Whether a record's image has been returned a moment ago, by the record's id.
    """

    def __init__(
        self, journals: JournalWithFallback, *, live: LiveTasks, clock: Clock, is_returned: Callable[[str], bool]
    ) -> None:
        self._journals = journals
        self._live = live
        self._clock = clock
        self._is_returned = is_returned

    async def complete(self, caller: CallContext) -> CallContext:
        """Return an agent's caller with the conversations that it has spawned, after recording those that spawned it.

        Without a journal it has none: it gets no access that cannot be proved.
        """
        session, ancestors = caller.session, caller.ancestors
        if session is None or not caller.by_model:
            return caller
        try:
            if ancestors:
                await self._journals.read(lambda journal: journal.note_ancestors(session, ancestors))
            descendants = await self._journals.read(lambda journal: journal.descendants_of(session), finds_lost=True)
        except JournalError as exc:
            # Whether the call may go on without a journal is decided where it spends.
            logger.warning("%s", exc)
            return caller
        return replace(caller, descendants=frozenset(descendants))

    async def left_behind(self, caller: CallContext) -> list[LeftImage]:
        """Return the images of a caller's conversation, and of those that it has spawned, that none was given."""
        sessions = [one for one in (caller.session, *sorted(caller.descendants)) if one is not None]
        now = self._clock.now()
        since = now - contract.IMAGE_URL_LIFE_S
        try:
            records = await self._journals.read(
                lambda journal: journal.not_given(sessions, since=since, now=now), finds_lost=True
            )
        except JournalError as exc:
            logger.warning("%s", exc)
            records = []
        live = self._live.of_sessions(sessions, or_records=[record.record_id for record in records])
        return left_behind(live, records, frozenset(sessions), is_returned=self._is_returned)

    async def told(self, left: LeftImage) -> None:
        """Note that a conversation was told of an image in its state."""
        image_task = self._live.of_record(left.record_id)
        if image_task is not None and image_task.record_handle is not None:
            image_task.record_handle.told(left.state)
            return
        try:
            await self._journals.read(lambda journal: journal.note_told(left.record_id, left.state))
        except JournalError as exc:
            logger.warning("%s", exc)
