"""An account's pace among the processes of one journal: what is said of it, and this process's part in it.

A process that meets a 429, or recovers from one, writes that to the journal's database, which tells the others at once
where it can (PostgreSQL); they also read it when they open the journal, before each POST and with each heartbeat. So no
poll asks the database. Where it is away, each process goes by what it meets itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from flux2_tool._clock import Clock
from flux2_tool.journal.errors import JournalError
from flux2_tool.runapi.rate_limit import Pace, RateLimiter

if TYPE_CHECKING:
    from flux2_tool.journal.protocol import Journal

logger = logging.getLogger(__name__)

# What a server takes as a message, in bytes.
_MOST_TOLD: Final = 7900


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPace:
    """The pace of one account.

    Attributes:
        owners: The processes that send, by name, in the order in which they begin after a 429.
    """

    base_url: str
    fingerprint: str
    pace: Pace
    owners: tuple[str, ...] = ()

    def seen_by(self, name: str) -> Pace:
        """Return it as a process of this name goes by it; one that is not among the owners comes last."""
        others = [owner for owner in self.owners if owner != name]
        place = self.owners.index(name) if name in self.owners else len(others)
        return replace(self.pace, senders=len(others) + 1, place=place)

    def message(self) -> str:
        """Return it for other processes; without the owners, if those are too many."""
        pace = self.pace
        told = [pace.version, pace.refusals, pace.in_a_row, pace.gap_s, pace.closed_s]
        text = json.dumps({"of": [self.base_url, self.fingerprint], "pace": told, "owners": self.owners})
        return text if len(text.encode()) <= _MOST_TOLD else replace(self, owners=()).message()


@dataclass(frozen=True, slots=True)
class FreeTurn:
    """A create slot is free for a request that waited for one."""

    record_id: str

    def message(self) -> str:
        """Return it for other processes."""
        return json.dumps({"turn": self.record_id})


News = AccountPace | FreeTurn


def read_message(text: str) -> News | None:
    """Return what another process says, None if that cannot be read."""
    try:
        told = json.loads(text)
        if "turn" in told:
            return FreeTurn(str(told["turn"]))
        version, refusals, in_a_row, gap_s, closed_s = told["pace"]
        base_url, fingerprint = told["of"]
        pace = Pace(
            version=int(version),
            refusals=int(refusals),
            in_a_row=int(in_a_row),
            gap_s=float(gap_s),
            closed_s=float(closed_s),
        )
        owners = tuple(str(owner) for owner in told["owners"])
        return AccountPace(base_url=str(base_url), fingerprint=str(fingerprint), pace=pace, owners=owners)
    except (ValueError, TypeError, KeyError):
        return None


class CreateLimit(NamedTuple):
    """How many create POSTs may be in flight.

    Attributes:
        most: Of the account, in all processes.
        own: How many of this process are, beside the one in question; more than that have ended, whether or not the
            journal says so already.
        base_url: The account's address.
        fingerprint: The account's key.
    """

    most: int
    own: int
    base_url: str
    fingerprint: str


class Turn(NamedTuple):
    """Whether a create POST may be sent now.

    Attributes:
        is_free: Whether it may.
        ahead: How many requests come before it that have no slot either.
        closed_s: For how long the account may send nothing, in seconds; zero if that is not the reason.
    """

    is_free: bool
    ahead: int = 0
    closed_s: float = 0.0


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
