"""Word the refusals that depend on prices: a cap that is exceeded, and an account that cannot pay.

Prices come from the cache and the manifest, so that wording an error sends nothing but, after RunAPI's own refusal, one
free request for the balance.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from copy import copy
from typing import Any, Final

from flux2_tool._clock import Clock
from flux2_tool.engine.wait import ToolCall, unless_cancelled
from flux2_tool.exceptions import BudgetExceededError, CreditsExhaustedError, Flux2Error
from flux2_tool.journal import Intent
from flux2_tool.runapi.balance import read_balance
from flux2_tool.runapi.prices import Prices
from flux2_tool.schema.manifest import Manifest, Model
from flux2_tool.settings import Settings
from flux2_tool.tasks.budget import OverBudgetError
from flux2_tool.tasks.budget_errors import Choice, budget_error, choices_text, dollars
from flux2_tool.tasks.task import ImageTask

logger = logging.getLogger(__name__)

# The balance is worth this much of a call's time, in seconds, after it has failed.
BALANCE_TIMEOUT_S: Final = 2.0


class Refusals:
    """Words the refusals of one engine.

    Args:
        manifest: Models and list prices.
        settings: The enabled tiers, and what an unknown price counts as.
        prices: Their cache is read; nothing is requested.
        clock: Time.
    """

    def __init__(self, *, manifest: Manifest, settings: Settings, prices: Prices, clock: Clock) -> None:
        self._manifest = manifest
        self._settings = settings
        self._prices = prices
        self._clock = clock

    async def over_budget(self, call: ToolCall, intent: Intent, refusal: OverBudgetError) -> BudgetExceededError:
        """Return the error for a request that a cap refuses, with what still fits."""
        wanted = Choice(
            model=intent.model,
            resolution=intent.resolution,
            counted_usd=intent.reserved_usd,
            is_known=intent.price_usd is not None,
        )
        others = await self._others(call, wanted)
        return budget_error(refusal.spendings, wanted=wanted, others=others, now=self._clock.now(), count=call.count)

    async def out_of_credits(
        self, call: ToolCall, image_task: ImageTask, error: CreditsExhaustedError
    ) -> CreditsExhaustedError:
        """Return the error with the image's price and, where RunAPI soon says it, the account's balance.

        It never fails: what cannot be had is left out.
        """
        record, error = image_task.record, copy(error)
        if record is None:
            return error
        wanted = Choice(
            model=record.model,
            resolution=record.resolution,
            counted_usd=record.reserved_usd,
            is_known=record.price_usd is not None,
        )
        price = dollars(wanted.counted_usd) if wanted.is_known else "an unknown price"
        balance_usd = None if call.cancel.is_set else await balance_usd_of(call)
        if balance_usd is None:
            error.message += f" This image costs {price}."
            return error
        error.message += f" The account's balance is {dollars(balance_usd)}; this image costs {price}."
        others = await self._others(call, wanted)
        fitting = [
            one
            for one in others
            if one.is_known and one.counted_usd <= balance_usd and one.counted_usd < wanted.counted_usd
        ]
        if fitting:
            error.hint = (
                f"The balance still pays for {choices_text(fitting)}: call again with that only if the user agrees. "
                f"{error.hint}"
            )
        elif all(one.is_known for one in others):
            error.message += " It pays for no other picture either."
        return error

    async def _others(self, call: ToolCall, wanted: Choice) -> list[Choice]:
        """Return what the call's tool could make instead with the same other arguments, in the manifest's order."""
        found = []
        for model in self._manifest.tools[call.tool].enabled_models(self._settings.tiers):
            if not _takes(model, call.arguments):
                continue
            for resolution in model.prices_usd:
                if (model.slug, resolution) == (wanted.model, wanted.resolution):
                    continue
                price = await self._prices.price_of(
                    call.account.client, model=model.slug, resolution=resolution, timeout_s=0.0
                )
                found.append(
                    Choice(
                        model=model.slug,
                        resolution=resolution if model.resolutions else "",
                        counted_usd=self._settings.unknown_price_usd if price.usd is None else price.usd,
                        is_known=price.usd is not None,
                    )
                )
        return found


async def balance_usd_of(call: ToolCall) -> float | None:
    """Return the balance of a call's account, None where RunAPI does not soon say it; it never fails."""

    async def read() -> float | None:
        async with asyncio.timeout(BALANCE_TIMEOUT_S):
            return (await read_balance(call.account.client)).balance_usd

    try:
        return await unless_cancelled(read(), call.cancel)
    except (Flux2Error, TimeoutError) as exc:
        logger.info("no balance: %s", exc)
        return None


def _takes(model: Model, arguments: Mapping[str, Any]) -> bool:
    """Return whether a model takes a call's arguments, apart from its own name and the resolution."""
    ratio = arguments.get("aspect_ratio")
    return (
        len(arguments.get("source_image_urls", ())) <= model.max_sources
        and (ratio is None or ratio in model.aspect_ratios)
        and not any(name in arguments for name in model.forbids if name != "output_resolution")
    )
