"""What the processes of one journal say to each other of an account's pace, and of whose turn it is."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from flux2_tool.runapi.rate_limit import Pace

# What a server takes as a message, in bytes.
_MOST_TOLD: Final = 7900
# How soon a queued request looks again without being told; those further back seldom have to.
_FIRST_LOOK_S: Final = 0.5
_LOOK_PER_PLACE_S: Final = 0.25
_LONGEST_LOOK_S: Final = 10.0


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

    def queued(self, freed: asyncio.Event) -> Queued | None:
        """Return what to wait for, None if nothing; the event is set when its turn may have come."""
        if self.is_free:
            return None
        again_s = self.closed_s or min(_LONGEST_LOOK_S, _FIRST_LOOK_S + _LOOK_PER_PLACE_S * self.ahead)
        return Queued(freed=freed, again_s=again_s, is_closed=self.closed_s > 0.0)


class Queued(NamedTuple):
    """A create POST has to wait for other processes.

    Attributes:
        freed: Is set when its turn may have come.
        again_s: After how long to look in any case, in seconds.
        is_closed: Whether the account may send nothing yet; otherwise its create slots are taken.
    """

    freed: asyncio.Event
    again_s: float
    is_closed: bool
