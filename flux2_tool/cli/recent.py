"""Print the last pictures of a conversation, and what may still be spent, for a person."""

from __future__ import annotations

from datetime import datetime

from flux2_tool.cli.terminal import clean, note, shown_path, write_path
from flux2_tool.schema.money import usd_text
from flux2_tool.schema.recent import LINK_ENDED, CapUse, RecentImage, RecentImages

_CAPS = {"image": "per image", "day": "today", "session": "in this conversation", "sender": "today for this person"}


def print_recent(result: RecentImages) -> None:
    """Print one picture a line on stdout, newest first, and what is left to spend on stderr."""
    for image in result.recent:
        write_path(_line(image))
    if not result.recent:
        note("no pictures; flux2-tool tasks lists those of every conversation")
    for warning in result.warnings:
        note(f"warning: {warning}")
    if result.budget is not None:
        for cap in result.budget.caps:
            note(_cap(cap))
        if result.budget.balance_usd is not None:
            note(f"balance: {usd_text(result.budget.balance_usd)}")
        fitting = [f"{one.tier} {one.resolution}" for one in result.budget.prices if one.fits]
        note(f"that pays for one of: {', '.join(fitting) or 'nothing'}")


def _line(image: RecentImage) -> str:
    made = datetime.fromisoformat(image.made_at).strftime("%Y-%m-%d %H:%M")
    where = image.path or image.url or (LINK_ENDED if image.state == "completed" else "")
    facts = [image.ref or "no task id", image.state, made, usd_text(image.usd), image.title]
    # The place stays as it is: a path of other letters than this locale's has to lead to the file.
    return "  ".join([*(clean(fact) for fact in facts if fact), *([shown_path(where)] if where else [])])


def _cap(cap: CapUse) -> str:
    if cap.cap == "image":
        return f"at most {usd_text(cap.limit_usd)} {_CAPS[cap.cap]}"
    return f"left {_CAPS[cap.cap]}: {usd_text(cap.left_usd)} of {usd_text(cap.limit_usd)}"
