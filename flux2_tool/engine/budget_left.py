"""What a caller may still spend: the caps, the balance where it may be told, and which images fit into that."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from flux2_tool._clock import Clock, local_time
from flux2_tool.context import CallContext
from flux2_tool.engine.refusals import balance_usd_of
from flux2_tool.engine.wait import ToolCall
from flux2_tool.exceptions import BudgetExceededError
from flux2_tool.journal import Spending
from flux2_tool.runapi.prices import Prices
from flux2_tool.schema.manifest import Manifest, Model
from flux2_tool.schema.recent import BudgetLeft, CapUse, TierPrice
from flux2_tool.settings import Settings
from flux2_tool.tasks.budget import caps_of
from flux2_tool.tasks.budget_errors import dollars
from flux2_tool.tasks.recent_tasks import RecentTasks

_OF_CAP: Final = {
    "day": "today's cap",
    "session": "this conversation's cap",
    "sender": "today's cap of whoever asks",
}


class BudgetReport:
    """Reports what one engine's callers may still spend.

    Args:
        manifest: Tiers and list prices.
        settings: The caps, and what an unknown price counts as.
        tasks: Reads what was spent.
        prices: Their cache is read; nothing is requested.
        clock: Time.
    """

    def __init__(
        self, manifest: Manifest, settings: Settings, tasks: RecentTasks, prices: Prices, clock: Clock
    ) -> None:
        self._manifest = manifest
        self._settings = settings
        self._tasks = tasks
        self._prices = prices
        self._clock = clock

    async def of(self, call: ToolCall, caller: CallContext, *, with_balance: bool) -> tuple[BudgetLeft | None, str]:
        """Return what a caller may still spend, and a text of it; None for one who may not spend at all.

        Args:
            call: Its account and cancellation apply.
            caller: Whose caps apply.
            with_balance: Whether the account's balance may be told, if RunAPI soon says it.

        Raises:
            JournalUnavailableError: The journal, which says what was spent, cannot be read.
        """
        try:
            caps = caps_of(self._settings, caller, base_url=call.account.base_url, now=self._clock.now())
        except BudgetExceededError as exc:
            return None, f"No new picture can be made: {exc.message.removesuffix(' Nothing was sent.')}"
        spendings = await self._tasks.spendings(caps)
        balance_usd = await balance_usd_of(call) if with_balance and not call.cancel.is_set else None
        running = [spending for spending in spendings if spending.cap.kind != "image"]
        left = [spending.left_usd for spending in running] + ([] if balance_usd is None else [balance_usd])
        budget = BudgetLeft(
            left_usd=round(min(left), 6),
            balance_usd=balance_usd,
            caps=tuple(_use(spending) for spending in spendings),
            prices=tuple(await self._tier_prices(call, spendings, balance_usd)),
        )
        return budget, _text(budget, running)

    async def _tier_prices(
        self, call: ToolCall, spendings: Sequence[Spending], balance_usd: float | None
    ) -> list[TierPrice]:
        found = []
        for model in self._models():
            for resolution in model.prices_usd:
                price = await self._prices.price_of(
                    call.account.client, model=model.slug, resolution=resolution, timeout_s=0.0
                )
                counted_usd = self._settings.unknown_price_usd if price.usd is None else price.usd
                fits = all(spending.has_room_for(counted_usd) for spending in spendings)
                is_affordable = balance_usd is None or price.usd is None or price.usd <= balance_usd
                found.append(
                    TierPrice(tier=model.tier, resolution=resolution, usd=price.usd, fits=fits and is_affordable)
                )
        return found

    def _models(self) -> list[Model]:
        """Return one model of each enabled tier."""
        of_tier: dict[str, Model] = {}
        for tool in self._manifest.tools.values():
            for model in tool.enabled_models(self._settings.tiers):
                of_tier.setdefault(model.tier, model)
        return list(of_tier.values())


def _use(spending: Spending) -> CapUse:
    cap = spending.cap
    return CapUse(
        cap=cap.kind,
        limit_usd=cap.limit_usd,
        spent_usd=spending.spent_usd,
        reserved_usd=spending.reserved_usd,
        left_usd=round(spending.left_usd, 6),
        resets_at=None if cap.until is None else _local_minute(cap.until),
    )


def _text(budget: BudgetLeft, running: Sequence[Spending]) -> str:
    """Return what is left and what that pays for, in two or three sentences."""
    parts = [
        f"{dollars(spending.left_usd)} of {_OF_CAP[spending.cap.kind]} of {dollars(spending.cap.limit_usd)}"
        for spending in running
    ]
    if budget.balance_usd is not None:
        parts.append(f"{dollars(budget.balance_usd)} in the RunAPI account")
    fitting = [price for price in budget.prices if price.fits]
    said = [f"Left to spend: {', '.join(parts)}."]
    if fitting:
        said.append(f"That pays for one of: {_prices_text(fitting)}.")
    else:
        said.append("No picture fits into that now.")
    resets = {use.resets_at for use in budget.caps if use.resets_at is not None and use.left_usd < use.limit_usd}
    if not all(price.fits for price in budget.prices) and resets:
        said.append(f"Today's cap starts anew at {min(resets)}.")
    return " ".join(said)


def _prices_text(prices: Sequence[TierPrice]) -> str:
    """Return prices by tier: "pro 1k $0.05 or 2k $0.07; flex 1k $0.14"."""
    return "; ".join(
        f"{tier} "
        + " or ".join(
            f"{one.resolution} {'at an unknown price' if one.usd is None else dollars(one.usd)}" for one in of
        )
        for tier, of in groupby(prices, key=lambda one: one.tier)
    )


def _local_minute(epoch_s: float) -> str:
    return local_time(epoch_s).isoformat(timespec="minutes")
