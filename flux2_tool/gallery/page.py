"""Write the page: one file that loads nothing, whose policy lets it load nothing, and in which all text is text.

Pure, but for its own style and script, which are beside this module.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from typing import Final

from flux2_tool._clock import local_time
from flux2_tool.gallery.cards import Shown, card, sources_of
from flux2_tool.gallery.chart import chart
from flux2_tool.gallery.entries import Entry
from flux2_tool.gallery.spending import DaySpending
from flux2_tool.gallery.thumbnails import Thumbnail

MARK: Final = "<!-- made by flux2-tool gallery -->"
"""The second line of every page; a file without it is not one, and is not replaced."""
MOST_BYTES: Final = 48 * 1024 * 1024
"""The most that a page's pictures take; older ones are left out, and it says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a page shows.

    Attributes:
        entries: Newest first.
        thumbnails: By the entries' keys.
        days: The last days' spending, oldest first.
        cap_usd: The cap per day.
        notes: Sentences about what is not shown, and why.
        now: When it is made, in seconds since 1970.
        version: Of this package.
        place: Where the journal is, in words.
        is_framed: Whether it is shown in a frame that opens no other windows.
    """

    entries: Sequence[Entry]
    thumbnails: Mapping[str, Thumbnail]
    days: Sequence[DaySpending]
    cap_usd: float
    notes: Sequence[str]
    now: float
    version: str
    place: str
    is_framed: bool = False


def page(content: Content, *, file_of: Callable[[Entry], str | None]) -> bytes:
    """Return the page as UTF-8.

    Args:
        content: What it shows.
        file_of: Returns the address of a picture's saved copy, None where it has none.
    """
    cards, left_out = _cards(content, file_of)
    notes = list(content.notes)
    if left_out:
        notes.append(f"The {left_out} oldest pictures are left out, because the page would be too large.")
    style, script = _own("page.css"), _own("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    made = f"{local_time(content.now):%Y-%m-%d %H:%M}"
    shown = cards or ['<p class="empty">No pictures yet. The first one appears here once it is made.</p>']
    text = f"""<!DOCTYPE html>
{MARK}
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Pictures by Flux 2</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>Pictures by Flux 2</h1>
<p class="made">Made on {made} from {escape(content.place)} by flux2-tool {escape(content.version)}. \
It holds prompts and pictures: share it only with those who may see them.</p>
{chart(content.days, cap_usd=content.cap_usd)}
{"".join(f'<p class="note">{escape(note)}</p>' for note in notes)}
{_filters(content.entries) if cards else ""}
<div class="grid">
{"".join(shown)}
</div>
</main>
<script>{script}</script>
</body>
</html>
"""
    return text.encode("utf-8", "replace")


def _cards(content: Content, file_of: Callable[[Entry], str | None]) -> tuple[list[str], int]:
    """Return as many cards as the page may have, newest first, and how many are left out."""
    sources, cards, size_bytes = sources_of(content.entries), list[str](), 0
    for number, entry in enumerate(content.entries):
        shown = Shown(
            entry=entry, thumbnail=content.thumbnails.get(entry.key), file=file_of(entry), is_framed=content.is_framed
        )
        html = card(shown, sources)
        size_bytes += len(html)
        if size_bytes > MOST_BYTES and cards:
            return cards, len(content.entries) - number
        cards.append(html)
    return cards, 0


def _filters(entries: Sequence[Entry]) -> str:
    models = sorted({entry.model for entry in entries})
    sources = sources_of(entries)
    options = "".join(f'<option value="{escape(model)}">{escape(model)}</option>' for model in models)
    source = ""
    if len(sources) > 1:
        listed = "".join(f'<option value="{escape(key)}">{escape(name)}</option>' for key, name in sources.items())
        source = f'<select name="source" aria-label="Account"><option value="">all accounts</option>{listed}</select>'
    return f"""<form class="filters" hidden>
<input name="words" type="search" placeholder="search prompts, tasks, dates" aria-label="Search" autocomplete="off">
<select name="model" aria-label="Model"><option value="">all models</option>{options}</select>
{source}
<select name="copy" aria-label="Saved copy"><option value="">saved or not</option>\
<option value="yes">saved copy</option><option value="no">link only</option></select>
<output></output>
</form>"""


@cache
def _own(name: str) -> str:
    return (resources.files("flux2_tool.gallery") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return a source of a Content-Security-Policy that allows this text alone."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
