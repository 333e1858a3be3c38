"""What a call claims and what it gets: the requests of its pictures, their image tasks, and the errors of a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from flux2_tool.exceptions import NotApprovedError
from flux2_tool.journal import Claim, ClaimRules, Intent
from flux2_tool.tasks.budget import OverBudgetError
from flux2_tool.tasks.create_request import CreateRequest
from flux2_tool.tasks.deduplication import repeated_error
from flux2_tool.tasks.task import ImageTask


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A request that is ready to be journaled and sent."""

    request: CreateRequest
    intent: Intent


@dataclass(slots=True, kw_only=True)
class TaskHandle:
    """The image tasks that a call waits for, one for each picture; `joined` says that another call began them."""

    image_tasks: tuple[ImageTask, ...]
    joined: bool = False
    warnings: list[str] = field(default_factory=list)

    def drop(self) -> None:
        """End what was begun and is not sent yet: its call has ended before it could wait for it."""
        if not self.joined:
            for image_task in self.image_tasks:
                image_task.drop()


def raise_refusal(claim: Claim, rules: ClaimRules, intents: Sequence[Intent]) -> None:
    """Raise the error of a claim that was refused.

    Raises:
        RepeatedRequestError: Too many new equal requests in the window.
        OverBudgetError: It would exceed a cap.
        NotApprovedError: Nobody has agreed to its price.
    """
    if claim.outcome == "repeated":
        raise repeated_error(claim.repeated, rules, count=len(intents))
    if claim.outcome == "over_budget":
        raise OverBudgetError(claim.spendings)
    if claim.outcome == "unapproved":
        raise NotApprovedError("Nobody has agreed to the price of this image. Nothing was sent.")
