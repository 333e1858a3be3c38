"""The error for a request that would exceed a cap: what is left, what still fits, when it resets, who can raise it.

Pure. A request whose price is above a cap itself never fits, and the error then says so instead of a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from flux2_tool._clock import local_time
from flux2_tool.exceptions import BudgetExceededError
from flux2_tool.journal import Spending
from flux2_tool.tasks.budget import local_day

_SETTING_OF: Final = {
    "image": "max_image_usd",
    "day": "daily_cap_usd",
    "session": "session_cap_usd",
    "sender": "sender_daily_cap_usd",
}
_NAME_OF: Final = {
    "image": "cap per image",
    "day": "daily cap",
    "session": "cap per conversation",
    "sender": "daily cap per person",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A model and resolution for a request, with its price.

    Attributes:
        resolution: Empty where the model has no choice of it.
        counted_usd: What it counts as against the caps: the price, or a set amount where there is none.
        is_known: Whether that is a price.
    """

    model: str
    resolution: str
    counted_usd: float
    is_known: bool = True

    @property
    def price_text(self) -> str:
        """Its price for a message."""
        price = dollars(self.counted_usd)
        return price if self.is_known else f"an unknown price, counted as {price}"


def budget_error(
    spendings: Sequence[Spending], *, wanted: Choice, others: Sequence[Choice], now: float, count: int = 1
) -> BudgetExceededError:
    """Return the error for a request that exceeds at least one cap.

    Args:
        spendings: The use of every cap on the request, narrowest first.
        wanted: What was requested.
        others: What could be requested instead, in the manifest's order.
        now: The wall clock, in seconds since 1970.
        count: How many images were requested at once.
    """
    fit = max((n for n in range(1, count) if _all_have_room(spendings, wanted, n)), default=0)
    if fit:
        return _fewer_fit(spendings, wanted=wanted, count=count, fit=fit)
    exceeded = [one for one in spendings if not one.has_room_for(wanted.counted_usd, images=count)]
    full = [one for one in exceeded if not one.has_room_for(wanted.counted_usd)]
    never = [one for one in full if not one.can_ever_hold(wanted.counted_usd)]
    fit_later = max((n for n in range(1, count + 1) if all(_frees(one, wanted, n) for one in spendings)), default=0)
    fitting = [one for one in others if all(spending.has_room_for(one.counted_usd) for spending in spendings)]
    later = [one for one in others if all(_frees(spending, one) for spending in spendings)]
    stays = any(spending.cap.kind == "session" for spending in full)
    resets = any(spending.cap.since is not None for spending in full)
    # A time is named only where something is possible from then on that is not possible now.
    helps_to_wait = resets and not stays and bool(not never or (later and not fitting))
    reset_at = local_time(local_day(now)[1]).isoformat(timespec="minutes")

    clauses = "; and ".join(_clause(spending, is_never=spending in never) for spending in exceeded)
    said = [f"{_cost_text(wanted, count)}, and {clauses}."]
    if never:
        said.append(f"So {'it can never' if count == 1 else 'not one of them can ever'} be made under this cap.")
    elif count > 1:
        fits_ever = all(one.can_ever_hold(wanted.counted_usd, images=count) for one in exceeded)
        said.append(f"Not one of them fits now{'' if fits_ever else ', and all of them at once never will'}.")
    said.append("Nothing was sent.")
    if helps_to_wait:
        said.append(f"It resets at {reset_at}.")
    if stays:
        said.append("The cap per conversation does not reset by itself.")
    single = "" if count == 1 else ", as a single image"
    said.append(
        f"What still fits now{single}: {choices_text(fitting)}." if fitting else "No other image fits now either."
    )

    again = ""
    if helps_to_wait and not never:
        again = f" The same call fits from {reset_at} on."
        if fit_later < count:
            again = f" From {reset_at} on the same call fits with count {fit_later}, not with {count}."
    if fitting:
        hint = f"Tell the user what fits, and call again with that only if they agree.{again}"
    elif helps_to_wait:
        hint = f"Tell the user that no image can be made before {reset_at}."
        hint += again or f" From then on {choices_text(later)} fits."
    else:
        where = "in this conversation any more" if stays else "under this cap"
        hint = f"Tell the user that no image can be made {where}; do not try again."
    return BudgetExceededError(" ".join(said), hint=f"{hint} {_raise_text(never or exceeded)}")


def _all_have_room(spendings: Sequence[Spending], wanted: Choice, images: int) -> bool:
    return all(spending.has_room_for(wanted.counted_usd, images=images) for spending in spendings)


def _fewer_fit(spendings: Sequence[Spending], *, wanted: Choice, count: int, fit: int) -> BudgetExceededError:
    """Return the error for images that do not all fit: how many of them do."""
    exceeded = [one for one in spendings if not one.has_room_for(wanted.counted_usd, images=count)]
    never = [one for one in exceeded if not one.can_ever_hold(wanted.counted_usd, images=count)]
    clauses = "; and ".join(_clause(spending, is_never=spending in never) for spending in exceeded)
    return BudgetExceededError(
        f"{_cost_text(wanted, count)}, and {clauses}. {fit} of {count} fit. Nothing was sent.",
        hint=f"Call again with count {fit} if the user agrees. {_raise_text(exceeded)}",
    )


def _cost_text(wanted: Choice, count: int) -> str:
    if count == 1:
        return f"This image would cost {wanted.price_text}"
    return f"{count} images would cost {dollars(wanted.counted_usd * count)} ({wanted.price_text} each)"


def choices_text(choices: Sequence[Choice]) -> str:
    """Return choices by model: "flux-2-pro-text-to-image 1k ($0.05) or 2k ($0.07)"."""
    models = [
        f"{model} " + " or ".join(f"{one.resolution} ({one.price_text})".strip() for one in of_model)
        for model, of_model in groupby(choices, key=lambda one: one.model)
    ]
    return "; ".join(models)


def dollars(usd: float) -> str:
    """Return an amount with cents, and with more digits only if needed."""
    return f"${usd:.2f}" if abs(round(usd, 2) - usd) < 1e-6 else f"${usd:.4f}"


def _frees(spending: Spending, choice: Choice, images: int = 1) -> bool:
    """Return whether a cap has room for a choice once it resets; one that does not reset must have it now."""
    if spending.cap.since is None:
        return spending.has_room_for(choice.counted_usd, images=images)
    return spending.can_ever_hold(choice.counted_usd, images=images)


def _clause(spending: Spending, *, is_never: bool) -> str:
    cap, name = spending.cap, _NAME_OF[spending.cap.kind]
    if is_never:  # as every image above the cap per image is
        return f"the {name} is {dollars(cap.limit_usd)}"
    return (
        f"of the {name} of {dollars(cap.limit_usd)} only {dollars(spending.left_usd)} is left: "
        f"{dollars(spending.spent_usd)} is spent and {dollars(spending.reserved_usd)} reserved for images being made "
        "or of unknown outcome"
    )


def _raise_text(spendings: Sequence[Spending]) -> str:
    settings = [_SETTING_OF[spending.cap.kind] for spending in spendings]
    places = ", ".join(
        f"plugins.entries.flux2.config.{setting} in OpenClaw, FLUX2_TOOL_{setting.upper()} elsewhere"
        for setting in settings
    )
    return f"The operator can raise the setting {' and '.join(settings)}: {places}."
