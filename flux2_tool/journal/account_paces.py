"""This process's part in its accounts' pace among the processes of one journal.

A process that meets a 429, or recovers from one, writes that to the journal's database, which tells the others at once
where it can (PostgreSQL); they also read it when they open the journal, before each POST and with each heartbeat. So no
poll asks the database. Where it is away, each process goes by what it meets itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from flux2_tool._clock import Clock
from flux2_tool.journal.account_pace import AccountPace, FreeTurn, News
from flux2_tool.journal.errors import JournalError
from flux2_tool.journal.protocol import Journal
from flux2_tool.runapi.rate_limit import Pace, RateLimiter

logger = logging.getLogger(__name__)


class AccountPaces:
    """This process's part in the pace of its accounts.

    Args:
        clock: Measures and waits.
        name: This process's name as the owner of records.
    """

    def __init__(self, clock: Clock, *, name: str) -> None:
        self._clock = clock
        self._name = name
        self._limiters: dict[tuple[str, str], RateLimiter] = {}
        # Of accounts that no call has used yet.
        self._heard: dict[tuple[str, str], AccountPace] = {}
        self._journal: Journal | None = None
        self._telling: dict[tuple[str, str], asyncio.Task[None]] = {}
        self.on_free_turn: Callable[[str], None] = lambda _record_id: None

    def limiter(self, base_url: str, fingerprint: str) -> RateLimiter:
        """Return the rate limiter of an account."""
        key = (base_url, fingerprint)
        if key not in self._limiters:
            limiter = RateLimiter(self._clock, on_change=lambda _limiter: self._tell(key))
            self._limiters[key] = limiter
            heard = self._heard.pop(key, None)
            if heard is not None:
                limiter.adopt(heard.seen_by(self._name))
        return self._limiters[key]

    async def attach(self, journal: Journal) -> None:
        """Share the pace through this journal from now on."""
        self._journal = journal
        for limiter in self._limiters.values():
            limiter.forget_shared()
        try:
            await journal.listen(self._hear)
        except JournalError as exc:
            logger.warning("the account's pace is this process's own: %s", exc)

    def detach(self) -> None:
        """Go on alone."""
        self._journal = None

    async def aclose(self) -> None:
        """Stop telling."""
        self._journal = None
        loop = asyncio.get_running_loop()
        ours = [task for task in self._telling.values() if task.get_loop() is loop]
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)

    # ---- private -----------------------------------------------------------------------------------------------------

    def _hear(self, news: Sequence[News]) -> None:
        for one in news:
            if isinstance(one, FreeTurn):
                self.on_free_turn(one.record_id)
                continue
            key = (one.base_url, one.fingerprint)
            limiter = self._limiters.get(key)
            if limiter is None:
                self._heard[key] = one
            else:
                limiter.adopt(one.seen_by(self._name))

    def _tell(self, key: tuple[str, str]) -> None:
        """Tell the others in the background, one thing after the other."""
        if self._journal is None:
            self._limiters[key].take_change()
            self._limiters[key].was_told(None)
        elif key not in self._telling or self._telling[key].done():
            self._telling[key] = asyncio.get_running_loop().create_task(self._tell_all(key))

    async def _tell_all(self, key: tuple[str, str]) -> None:
        limiter, (base_url, fingerprint) = self._limiters[key], key
        while (change := limiter.take_change()) is not None:
            told: Pace | None = None
            try:
                if self._journal is not None:
                    of_all = await self._journal.note_pace(change, base_url=base_url, fingerprint=fingerprint)
                    told = of_all.seen_by(self._name)
            except JournalError as exc:
                logger.warning("the account's pace is this process's own: %s", exc)
            finally:
                limiter.was_told(told)
