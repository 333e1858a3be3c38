"""The chart of the last days' spending, as an SVG that needs no script and no style of its own. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from flux2_tool.gallery.spending import DaySpending
from flux2_tool.schema.money import usd_text

_WIDTH: Final = 600
_HEIGHT: Final = 150
# Above the highest bar or the cap, so that neither touches the edge.
_HEADROOM: Final = 1.08


def chart(days: Sequence[DaySpending], *, cap_usd: float) -> str:
    """Return the chart with its words.

    Args:
        days: Oldest first; the last is today.
        cap_usd: The cap per day, drawn as a line.
    """
    today, total = days[-1], sum(day.spent_usd for day in days)
    most = max(day.spent_usd + day.reserved_usd for day in days)
    # A cap far above what is ever spent would leave nothing to see of it.
    is_cap_drawn = bool(most) and cap_usd <= 8 * most
    scale = (_HEIGHT - 1) / (_HEADROOM * max(most, cap_usd if is_cap_drawn else 0.0, 0.01))
    reserved = f", and {usd_text(today.reserved_usd)} reserved" if today.reserved_usd else ""
    words = f"Today {usd_text(today.spent_usd)} spent{reserved}, of at most {usd_text(cap_usd)} a day. "
    words += f"The last {len(days)} days: {usd_text(round(total, 4))}."
    cap = ""
    if is_cap_drawn:
        y = _HEIGHT - 1 - cap_usd * scale
        cap = f'<line class="cap" x1="0" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"><title>The cap per day</title></line>'
    keys = ["spent", *(["reserved"] if any(day.reserved_usd for day in days) else []), *(["cap"] if cap else [])]
    names = {"spent": "spent", "reserved": "reserved for open requests", "cap": f"cap, {usd_text(cap_usd)} a day"}
    return f"""<section class="panel" aria-label="Spending">
<h2>Spending by day</h2>
<p>{escape(words)}</p>
<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(words)}">
<line class="base" x1="0" x2="{_WIDTH}" y1="{_HEIGHT - 0.5}" y2="{_HEIGHT - 0.5}"/>
{"".join(_bars(days, scale))}{cap}
</svg>
<div class="axis"><span>{days[0].day:%Y-%m-%d}</span><span>highest: {usd_text(round(most, 4))}</span>\
<span>{today.day:%Y-%m-%d}</span></div>
<ul class="legend">{"".join(f'<li><span class="key {key}"></span>{escape(names[key])}</li>' for key in keys)}</ul>
</section>"""


def _bars(days: Sequence[DaySpending], scale: float) -> Iterator[str]:
    step = _WIDTH / len(days)
    for number, day in enumerate(days):
        x, width = number * step + step * 0.12, step * 0.76
        spent, reserved = day.spent_usd * scale, day.reserved_usd * scale
        title = f"{day.day:%Y-%m-%d}: {usd_text(day.spent_usd)}"
        title += f", {usd_text(day.reserved_usd)} reserved" if day.reserved_usd else ""
        yield f"<g><title>{escape(title)}</title>"
        yield f'<rect class="day" x="{number * step:.1f}" y="0" width="{step:.1f}" height="{_HEIGHT}"/>'
        top = float(_HEIGHT - 1)
        for kind, height in (("spent", spent), ("reserved", reserved)):
            if height:
                top -= height
                yield f'<rect class="{kind}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
        yield "</g>"
