"""Asking before paying: a call above the setting `ask_above_usd` needs a person's consent, where a model decides.

A host asks that person the `Question` of a call before the call begins, and passes the `Approval` with it. Whether an
approval covers a call is decided here, right before the request, so that a host that never asks cannot pay either.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Final

from flux2_tool._characters import is_ignorable
from flux2_tool.context import Approval, CallContext
from flux2_tool.exceptions import NotApprovedError
from flux2_tool.journal.model import CENT_FRACTION
from flux2_tool.runapi.prices import Price
from flux2_tool.schema.money import usd_text
from flux2_tool.settings import Settings

# How long a call may be looked at before its question is known, in seconds; a host waits for that.
QUESTION_WAIT_S: Final = 15.0
SETTING: Final = "ask_above_usd"
# What OpenClaw shows of a question at most.
MAX_TITLE: Final = 80
MAX_TEXT: Final = 512
_MAX_PROMPT: Final = 200

_NOT_AGAIN: Final = "Tell the user so, and do not call it again unless the user asks for it."
_ASK_ELSEWHERE: Final = "Call text_to_image or remix_image instead: there a person can be asked."


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the images of one call cost together, as far as is known before.

    Attributes:
        usd: The amount; an image of unknown price counts as `unknown_price_usd`.
        is_known: Whether every price is known.
        images: How many they are.
    """

    usd: float
    is_known: bool
    images: int = 1

    @property
    def what(self) -> str:
        """What costs it, at the beginning of a sentence."""
        return "This image costs" if self.images == 1 else f"These {self.images} images cost"

    @property
    def text(self) -> str:
        """The amount for a person."""
        return usd_text(self.usd) if self.is_known else f"an unknown price, counted as {usd_text(self.usd)}"


def cost_of(price: Price, settings: Settings, *, images: int = 1) -> Cost:
    """Return the cost of one call that makes this many images of a kind."""
    each_usd = settings.unknown_price_usd if price.usd is None else price.usd
    return Cost(usd=each_usd * images, is_known=price.usd is not None, images=images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a person is asked before a call begins.

    Attributes:
        title: In one line.
        text: What is bought, and that a refusal costs nothing.
        approval: What goes with the call once the person has agreed.
    """

    title: str
    text: str
    approval: Approval

    @property
    def amount(self) -> str:
        """The price as a decimal number of US dollars."""
        return usd_text(self.approval.usd).removesuffix(" USD")


def question_of(approval: Approval, cost: Cost, *, what: tuple[str, str, str], count: int, prompt: str) -> Question:
    """Return the question about a call.

    Args:
        approval: For it.
        cost: Of all its images.
        what: The tool, the model and the resolution.
        count: How many images it makes.
        prompt: Of the call.
    """
    tool, model, resolution = what
    images, more = ("an image", "") if count == 1 else (f"{count} images", f", {count} images")
    seen = " ".join("".join(" " if is_ignorable(one) else one for one in prompt).split())
    shown = seen if len(seen) <= _MAX_PROMPT else f"{seen[:_MAX_PROMPT]}\u2026"
    text = (
        f'{tool} with {model}, {resolution}{more}, by RunAPI, for {cost.text}: "{shown}". '
        "Without your consent nothing is sent and nothing is charged."
    )
    return Question(
        title=f"Pay {usd_text(cost.usd)} for {images}?"[:MAX_TITLE], text=text[:MAX_TEXT], approval=approval
    )


class Approvals:
    """Decides whether a person has agreed to a call; each approval counts once.

    Args:
        settings: The limit above which a person is asked.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._used: set[str] = set()

    def applies(self, caller: CallContext) -> bool:
        """Return whether there is a limit for this caller at all."""
        return caller.must_ask and self._settings.ask_above_usd is not None

    def needs_one(self, caller: CallContext, cost: Cost) -> bool:
        """Return whether a new image of this cost needs an approval."""
        limit_usd = self._settings.ask_above_usd
        return caller.must_ask and limit_usd is not None and cost.usd > limit_usd + CENT_FRACTION

    def refusal(self, caller: CallContext, cost: Cost, request_key: str) -> NotApprovedError | None:
        """Return why a call may not make a new image, None if it may."""
        if not self.needs_one(caller, cost):
            return None
        approval, limit = caller.approval, usd_text(self._settings.ask_above_usd)
        needs = f"{cost.what} {cost.text}, and above {limit} a person has to agree first (setting {SETTING})"
        if approval is None:
            elsewhere = f"{_ASK_ELSEWHERE} " if caller.is_unattributed else ""
            return not_approved(f"{needs}. Nobody was asked here, or could be.", elsewhere)
        if approval.request_key != request_key:
            return not_approved(f"{needs}. What was agreed to is another call: its arguments have changed since.")
        # An amount that is no number covers nothing: every comparison with it is false.
        if not (isfinite(approval.usd) and cost.usd <= approval.usd + CENT_FRACTION):
            return not_approved(f"{needs}. What was agreed to is {usd_text(approval.usd)}: the price has risen since.")
        if approval.approval_id in self._used:
            return not_approved(f"{needs}. What was agreed to is one call, which was requested already.")
        return None

    def use(self, approval: Approval | None) -> None:
        """Note that a new image is being requested under an approval."""
        if approval is not None:
            self._used.add(approval.approval_id)

    def give_back(self, approval: Approval | None) -> None:
        """Note that no new image was requested after all."""
        if approval is not None:
            self._used.discard(approval.approval_id)


def not_approved(reason: str, advice: str = "") -> NotApprovedError:
    """Return the error of a call that nobody has agreed to."""
    return NotApprovedError(
        f"{reason} Nothing was sent, and nothing is charged.",
        hint=f"{advice}{_NOT_AGAIN} A cheaper model, or output_resolution 1k, may need no consent. The operator can "
        f"change the setting {SETTING}: plugins.entries.flux2.config.{SETTING} in OpenClaw, "
        f"FLUX2_TOOL_{SETTING.upper()} elsewhere.",
    )


def declined(question: Question, *, was_answered: bool) -> NotApprovedError:
    """Return the error of a call whose question was answered with no, or not at all."""
    how = "The user refused to pay" if was_answered else "The user did not say whether to pay"
    return not_approved(f"{how} {question.amount} USD for this call (setting {SETTING}).")
