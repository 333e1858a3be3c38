"""The result of looking back: the last pictures of a conversation and what may still be spent. Shapes as in the
manifest's `output_schema`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from flux2_tool.exceptions import InvalidArgumentsError
from flux2_tool.schema.results import ToolResult

LINK_ENDED: Final = "link ended"
"""Marks in every text a finished picture that neither a link nor a file leads to; `next` speaks of the mark."""

RecentState = Literal["completed", "processing", "sending", "unknown"]


@dataclass(frozen=True, kw_only=True)
class RecentImage:
    """One picture of the conversation.

    Attributes:
        ref: "task:ID"; None for a request of which no task is known.
        state: "unknown" where it is not known whether it was made.
        title: The beginning of the prompt.
        made_at: When it was requested, in this machine's time zone.
        usd: What it cost, or is expected to cost; None when unknown.
        url: Its link, while that works.
        path: Its saved copy, while that is there.
    """

    ref: str | None
    state: RecentState
    title: str | None
    made_at: str
    usd: float | None
    url: str | None
    path: str | None
    model: str


@dataclass(frozen=True, kw_only=True)
class CapUse:
    """A cap and its use, in US dollars; `resets_at` is None for one that does not reset."""

    cap: Literal["image", "day", "session", "sender"]
    limit_usd: float
    spent_usd: float
    reserved_usd: float
    left_usd: float
    resets_at: str | None


@dataclass(frozen=True, kw_only=True)
class TierPrice:
    """An image's price; None where none is known. `fits` says whether one may be made now."""

    tier: str
    resolution: str
    usd: float | None
    fits: bool


@dataclass(frozen=True, kw_only=True)
class BudgetLeft:
    """What may still be spent, in US dollars.

    Attributes:
        left_usd: The least that is left of any cap, and of the balance where that is told.
        balance_usd: The RunAPI account's; None when it is not known, or may not be told here.
    """

    left_usd: float
    balance_usd: float | None
    caps: tuple[CapUse, ...]
    prices: tuple[TierPrice, ...]


@dataclass(frozen=True, kw_only=True)
class RecentImages:
    """The last pictures of a conversation, newest first; `budget` is None for a caller who may not spend."""

    recent: tuple[RecentImage, ...]
    budget: BudgetLeft | None
    warnings: tuple[str, ...]
    next: str


CallResult = ToolResult | RecentImages


def one_task(result: CallResult) -> ToolResult:
    """Return the result of a call that names a task or makes one.

    Raises:
        InvalidArgumentsError: The call asked for the last pictures.
    """
    if isinstance(result, RecentImages):
        raise InvalidArgumentsError('"recent" names no task', hint="The method recent() returns the last pictures.")
    return result
