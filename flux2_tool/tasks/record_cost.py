"""What a recorded request cost, for lists and pages that people read. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from flux2_tool.journal import Record
from flux2_tool.schema.manifest import Manifest


class RecordCost(NamedTuple):
    """An amount in US dollars, None when unknown, and where it comes from."""

    usd: float | None
    basis: Literal["billed", "list price", "expected", "unknown"]


def cost_of(record: Record, manifest: Manifest) -> RecordCost:
    """Return the billed cost, zero for a failed task; before that the expected one: a list price or a live one."""
    if record.state in ("failed", "not_created"):
        return RecordCost(record.cost_usd or 0.0, "billed")
    if record.state == "completed" and record.cost_usd is not None:
        return RecordCost(record.cost_usd, "billed")
    if record.price_usd is None:
        return RecordCost(None, "unknown")
    model = manifest.models.get(record.model)
    is_listed = model is not None and model.prices_usd.get(record.resolution) == record.price_usd
    return RecordCost(record.price_usd, "list price" if is_listed else "expected")
