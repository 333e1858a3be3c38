"""The create slot that a call takes before its claim, so that the claim is the note of its first POST, too.

Only where nothing comes between the two but a few steps of this process: one picture, a slot that is free, and an
account that no 429 slows. A slot that was taken before the claim is the one that its POST is sent in, so that no other
request of this process can come between them. For all else the POST is noted by itself, when its turn has come.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from flux2_tool.journal import ClaimRules, CreateLimit, Intent
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.rate_limit import ConcurrencyLimiter, Slot


class FirstTurn:
    """What a claim asks for its first POST.

    Attributes:
        slot: Taken for it; None where its claim asks nothing.
        limit: For the claim.
    """

    def __init__(self, slot: Slot | None, limit: CreateLimit | None) -> None:
        self.slot = slot
        self.limit = limit

    def hand_over(self) -> Slot | None:
        """Return the slot, which whoever gets it gives back."""
        slot, self.slot = self.slot, None
        return slot


def create_limit(slots: ConcurrencyLimiter, *, base_url: str, fingerprint: str) -> CreateLimit:
    """Return how many create POSTs may be in flight, for a request that has a slot of this process."""
    return CreateLimit(slots.count, slots.taken - 1, base_url, fingerprint)


@contextlib.asynccontextmanager
async def first_turn(
    slots: ConcurrencyLimiter, client: RunapiClient, intents: Sequence[Intent], rules: ClaimRules
) -> AsyncIterator[FirstTurn]:
    """Take a slot for a claim, if it can be the note of its first POST; what is not handed over is given back."""
    may_wait = len(intents) > 1 or rules.is_trial or rules.needs_approval or client.is_slowed
    slot = None if may_wait else await slots.take_free()
    limit = None
    if slot is not None:
        limit = create_limit(slots, base_url=intents[0].base_url, fingerprint=intents[0].fingerprint)
    turn = FirstTurn(slot, limit)
    try:
        yield turn
    finally:
        if turn.slot is not None:
            turn.slot.give_back()
