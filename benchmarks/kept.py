"""The last kept figures, a file in this folder, and how a new run compares with them.

The file has an entry for each piece: its figures, and the machine, versions, seed and time that they came from, so that
pieces can be measured one after the other. A figure became worse when it is outside both runs' 95 % intervals, or where
one run gives none, by more than a tenth.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.targets import Target, check

FILE: Final = Path(__file__).with_name("figures.json")
SHARE: Final = 0.1
# Below this a figure is as good as none: a tenth of it says nothing.
_LEAST: Final = 0.05


def read(file: Path = FILE) -> dict[str, Any]:
    """Return the pieces of a file of figures; none where there is no file."""
    pieces: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return pieces


def write(pieces: Mapping[str, Any], file: Path = FILE) -> None:
    """Write a file of figures, a piece a line or more, in the order of their names."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(name)}: {_pretty(piece)}" for name, piece in sorted(pieces.items())]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def figures_of(pieces: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bare figures of pieces."""
    return {name: piece["figures"] for name, piece in pieces.items()}


def targets_of(pieces: Mapping[str, Any], known: Mapping[str, Any]) -> list[Target]:
    """Return the targets of pieces; what they are compared with may come from kept ones."""
    return [target for target in check(figures_of(known) | figures_of(pieces)) if target.piece in pieces]


def compare(pieces: Mapping[str, Any], kept: Mapping[str, Any]) -> Iterator[str]:
    """Yield, in Markdown, what became worse and what became better than the kept figures."""
    before = {target.name: target for target in check(figures_of(kept))}
    changed: dict[str, list[str]] = {"worse": [], "better": []}
    same = 0
    for now in targets_of(pieces, kept):
        then = before.get(now.name)
        if then is None:
            continue
        verdict = _verdict(then, now)
        if verdict is None:
            same += 1
        else:
            told = f"{now.name}: {then.measured:.2f} before, {now.measured:.2f}{now.unit} now"
            changed[verdict].append(told)
    counts = f"{len(changed['worse'])} worse, {len(changed['better'])} better, {same} as before"
    yield f"### Against the kept figures: {counts}\n"
    for verdict, told_ones in changed.items():
        yield from (f"- **{verdict}**: {told}" for told in told_ones)
    others = sorted(name for name, piece in pieces.items() if name in kept and _is_elsewhere(piece, kept[name]))
    if others:
        yield f"\nThe kept figures of {', '.join(others)} are from another machine."


def _verdict(then: Target, now: Target) -> str | None:
    if then.half_width is not None and now.half_width is not None:
        margin = math.hypot(then.half_width, now.half_width)
    else:
        margin = max(SHARE * abs(then.measured), _LEAST)
    if abs(now.measured - then.measured) <= margin:
        return None
    return "worse" if now.measured > then.measured else "better"


def _is_elsewhere(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return any(one["machine"][name] != other["machine"][name] for name in ("processor", "cores"))


def _pretty(piece: Mapping[str, Any]) -> str:
    figures = piece["figures"]
    about = ", ".join(f"{json.dumps(name)}: {json.dumps(piece[name])}" for name in piece if name != "figures")
    if isinstance(figures, list):
        told = "[\n" + ",\n".join(f"  {json.dumps(entry)}" for entry in figures) + "\n ]"
    else:
        told = "{\n" + ",\n".join(f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in figures.items()) + "\n }"
    return "{" + about + ',\n "figures": ' + told + "}"
