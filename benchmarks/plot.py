"""One picture of a run, as SVG: mean lateness against polls, for both clients and for the best that is possible.

A panel a kind. Lines come from the simulation (`optimum.py`): no plan of polls gets below the lower one. Points are
measured; without measured ones the panels show the lines alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.kinds import KINDS, Kind
from benchmarks.targets import OURS, THEIRS, of_client

WIDTH, HEIGHT = 960, 876
_PANEL_WIDTH, _PANEL_HEIGHT = 380, 300
_LEFT, _TOP, _GAP_X, _GAP_Y = 70, 128, 90, 88
_MOST_LATENESS_S = 1.6
_INK, _QUIET, _GRID = "#1f2328", "#59636e", "#e4e7eb"
_OPTIMUM, _FIXED, _WARM, _COLD, _SDK = "#1a7f37", "#8c959f", "#0969da", "#0969da", "#bc4c00"


@dataclass(frozen=True, slots=True)
class Panel:
    """Where one kind's figures are drawn, in pixels and in units."""

    left: float
    top: float
    most_polls: float

    def x(self, polls: float) -> float:
        """Return where a number of polls is."""
        return self.left + polls / self.most_polls * _PANEL_WIDTH

    def y(self, lateness_s: float) -> float:
        """Return where a lateness is."""
        return self.top + (1 - lateness_s / _MOST_LATENESS_S) * _PANEL_HEIGHT


def draw(results: Mapping[str, Any]) -> str:
    """Return the plot of pieces' figures, the simulation among them."""
    # Where nothing was measured the points are those on virtual time.
    entries = [*results.get("cold", []), *results.get("warm", [])] or results.get("virtual", [])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13" role="img">',
        "<title>Mean lateness against polls a task</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(_LEFT, 34, "How late a finished picture is seen, and for how many polls", size=18, weight="bold"),
        *_legend(bool(entries)),
    ]
    for index, kind in enumerate(KINDS):
        row, column = divmod(index, 2)
        simulated = results["simulation"][kind.name]
        panel = Panel(
            left=_LEFT + column * (_PANEL_WIDTH + _GAP_X),
            top=_TOP + row * (_PANEL_HEIGHT + _GAP_Y),
            most_polls=_even(1.35 * simulated["fixed"]["2"][0]),
        )
        parts += _axes(panel, kind)
        parts += _lines(panel, simulated, f"panel-{index}")
        parts += _points(panel, kind, entries)
    return "\n".join([*parts, "</svg>", ""])


def _even(value: float) -> float:
    return 2.0 * -(-value // 2.0)


def _legend(with_points: bool) -> Iterator[str]:
    entries = [
        (_line([(0, 0), (26, 0)], _OPTIMUM, 2.5), "best possible plan of polls"),
        (_line([(0, 0), (26, 0)], _FIXED, 1.5, dashed=True), "a fixed interval, 1 to 5 s"),
    ]
    if with_points:
        entries += [
            (_mark(13, 0, _SDK, "square"), "the vendor's SDK (fixed 2 s)"),
            (_mark(13, 0, _COLD, "ring"), "flux2-tool, cold"),
            (_mark(13, 0, _WARM, "dot"), "flux2-tool, warm"),
        ]
    places = [(0, 0), (270, 0), (540, 0), (0, 24), (270, 24)]
    for (mark, label), (x, y) in zip(entries, places, strict=False):
        yield f'<g transform="translate({_LEFT + x} {60 + y})">{mark}{_text(36, 4.5, label)}</g>'


def _axes(panel: Panel, kind: Kind) -> Iterator[str]:
    right, bottom = panel.left + _PANEL_WIDTH, panel.top + _PANEL_HEIGHT
    title = f"{kind.name}: median {kind.median_s:g} s, σ {kind.sigma:g}"
    yield _text(panel.left, panel.top - 10, title, size=14, weight="bold")
    for tick in range(9):
        lateness_s = tick * 0.2
        y = panel.y(lateness_s)
        yield _line([(panel.left, y), (right, y)], _GRID if tick else _INK, 1)
        yield _text(panel.left - 8, y + 4.5, f"{lateness_s:.1f}", anchor="end", color=_QUIET)
    for polls in range(0, int(panel.most_polls) + 1, 2):
        x = panel.x(polls)
        yield _line([(x, panel.top), (x, bottom)], _GRID if polls else _INK, 1)
        yield _text(x, bottom + 18, str(polls), anchor="middle", color=_QUIET)
    yield _text((panel.left + right) / 2, bottom + 38, "polls a task", anchor="middle")
    middle = (panel.top + bottom) / 2
    yield (
        f'<g transform="translate({panel.left - 44} {middle}) rotate(-90)">'
        f"{_text(0, 0, 'mean lateness, seconds', anchor='middle')}</g>"
    )


def _lines(panel: Panel, simulated: Mapping[str, Any], name: str) -> Iterator[str]:
    yield (
        f'<clipPath id="{name}"><rect x="{panel.left}" y="{panel.top}" width="{_PANEL_WIDTH}" '
        f'height="{_PANEL_HEIGHT}"/></clipPath><g clip-path="url(#{name})">'
    )
    for points, color, width, dashed in (
        (simulated["fixed"].values(), _FIXED, 1.5, True),
        (simulated["optimum"], _OPTIMUM, 2.5, False),
    ):
        yield _line([(panel.x(polls), panel.y(late_s)) for polls, late_s in points], color, width, dashed=dashed)
    yield "</g>"


def _points(panel: Panel, kind: Kind, entries: list[dict[str, Any]]) -> Iterator[str]:
    for client, history, color, shape in (
        (THEIRS, "warm", _SDK, "square"),
        (OURS, "cold", _COLD, "ring"),
        (OURS, "warm", _WARM, "dot"),
    ):
        found = of_client(entries, client, history=history, kind=kind.name)
        if found is not None and found.finished:
            yield _mark(panel.x(found.mean_polls), panel.y(found.mean_lateness_s), color, shape)


def _mark(x: float, y: float, color: str, shape: str) -> str:
    if shape == "square":
        return f'<rect x="{x - 5.5:.1f}" y="{y - 5.5:.1f}" width="11" height="11" fill="{color}"/>'
    fill = color if shape == "dot" else "#ffffff"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{fill}" stroke="{color}" stroke-width="2.5"/>'


def _line(points: Sequence[tuple[float, float]], color: str, width: float, *, dashed: bool = False) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"{dash}/>'


def _text(
    x: float, y: float, text: str, *, size: int = 13, weight: str = "normal", anchor: str = "start", color: str = _INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{color}">{escape(text)}</text>'
    )
