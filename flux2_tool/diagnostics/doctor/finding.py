"""What an examination finds: one line each, with the command that mends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: What was looked at, in one word or two.
        state: A failure keeps images from being made; a warning may.
        said: What was found, without any secret.
        mend: The command, or the line, that mends it; empty when nothing is to be mended.
        facts: The same for programs.
    """

    area: str
    state: State
    said: str
    mend: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_object(self) -> dict[str, Any]:
        """Return the JSON-ready object."""
        return {
            "area": self.area,
            "state": self.state,
            "said": self.said,
            "mend": self.mend or None,
            "facts": dict(self.facts),
        }


def ok(area: str, said: str, **facts: Any) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(area=area, state="ok", said=said, facts=facts)


def warning(area: str, said: str, mend: str = "", **facts: Any) -> Finding:
    """Return a finding that may keep images from being made, now or later."""
    return Finding(area=area, state="warning", said=said, mend=mend, facts=facts)


def failure(area: str, said: str, mend: str = "", **facts: Any) -> Finding:
    """Return a finding that keeps images from being made."""
    return Finding(area=area, state="failure", said=said, mend=mend, facts=facts)


def report(findings: Sequence[Finding]) -> list[str]:
    """Return the findings as lines for a person, and one last line that sums them up."""
    width = max((len(finding.area) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<7}  {finding.area:<{width}}  {finding.said}")
        if finding.mend:
            lines.append(f"{'':<7}  {'':<{width}}  mend: {finding.mend}")
    counts = {state: sum(finding.state == state for finding in findings) for state in ("failure", "warning")}
    summed = [f"{count} {state}{'' if count == 1 else 's'}" for state, count in counts.items() if count]
    return [*lines, ", ".join(summed) or "all is well"]
