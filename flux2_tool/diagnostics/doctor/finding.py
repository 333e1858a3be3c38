"""A check's finding: one line, with the command that fixes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["ok", "note", "warning", "failure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check.

    Attributes:
        area: What was checked, in one word or two.
        state: A failure prevents images; a warning may, now or later; a note is about this shell alone.
        message: The finding in words, without any secret.
        fix: The command, or the line, that fixes it; empty when nothing is wrong.
        facts: The finding as data for programs.
    """

    area: str
    state: State
    message: str
    fix: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_object(self) -> dict[str, Any]:
        """Return the JSON-ready object."""
        return {
            "area": self.area,
            "state": self.state,
            "message": self.message,
            "fix": self.fix or None,
            "facts": dict(self.facts),
        }


def ok(area: str, message: str, **facts: Any) -> Finding:
    """Return a finding that needs no fix."""
    return Finding(area=area, state="ok", message=message, facts=facts)


def note(area: str, message: str, fix: str = "", **facts: Any) -> Finding:
    """Return a finding about this shell, where a gateway with a key of its own makes the images."""
    return Finding(area=area, state="note", message=message, fix=fix, facts=facts)


def warning(area: str, message: str, fix: str = "", **facts: Any) -> Finding:
    """Return a finding that may prevent images, now or later."""
    return Finding(area=area, state="warning", message=message, fix=fix, facts=facts)


def failure(area: str, message: str, fix: str = "", **facts: Any) -> Finding:
    """Return a finding that prevents images."""
    return Finding(area=area, state="failure", message=message, fix=fix, facts=facts)


def report(findings: Sequence[Finding]) -> list[str]:
    """Return the findings as lines for a person, and one last line that counts them."""
    width = max((len(finding.area) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<7}  {finding.area:<{width}}  {finding.message}")
        if finding.fix:
            lines.append(f"{'':<7}  {'':<{width}}  fix: {finding.fix}")
    counts = {state: sum(finding.state == state for finding in findings) for state in ("failure", "warning")}
    found = [f"{count} {state}{'' if count == 1 else 's'}" for state, count in counts.items() if count]
    return [*lines, ", ".join(found) or "no problems found"]
