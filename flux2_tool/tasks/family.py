"""The conversations of one family, and the images that they were not given.

A host names the conversations that spawned another one, such as a subagent's; its images are theirs, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from flux2_tool._clock import Clock
from flux2_tool.context import CallContext
from flux2_tool.journal import JournalError, JournalWithFallback
from flux2_tool.runapi import contract
from flux2_tool.tasks.left_behind import LeftImage, left_behind
from flux2_tool.tasks.live_tasks import LiveTasks

logger = logging.getLogger(__name__)

# As many records of this process the journal is told not to read.
_MOST_KNOWN: Final = 100


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

    async def complete(self, caller: CallContext, *, names_tasks: bool = True) -> CallContext:
        """Return an agent's caller with the conversations that it has spawned, after recording those that spawned it.

        Without a journal it has none: it gets no access that cannot be proved.

        Args:
            names_tasks: Whether its call may name an earlier image; if not, it needs none of them.
        """
        session, ancestors = caller.session, caller.ancestors
        if session is None or not caller.by_model:
            return caller
        try:
            if ancestors:
                await self._journals.read(lambda journal: journal.note_ancestors(session, ancestors))
            if not names_tasks:
                return caller
            descendants = await self._journals.read(lambda journal: journal.descendants_of(session), finds_lost=True)
        except JournalError as exc:
            # Whether the call may go on without a journal is decided where it spends.
            logger.warning("%s", exc)
            return caller
        return replace(caller, descendants=frozenset(descendants))

    async def left_behind(self, caller: CallContext) -> list[LeftImage]:
        """Return the images of a caller's conversation, and of those that it has spawned, that none was given."""
        session, now = caller.session, self._clock.now()
        if session is None:
            return []
        since, known = now - contract.IMAGE_URL_LIFE_S, self._live.not_given_of(session)[-_MOST_KNOWN:]
        try:
            sessions, records = await self._journals.read(
                lambda journal: journal.not_given(session, since=since, now=now, known=known), finds_lost=True
            )
        except JournalError as exc:
            logger.warning("%s", exc)
            sessions, records = [session, *sorted(caller.descendants)], []
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
