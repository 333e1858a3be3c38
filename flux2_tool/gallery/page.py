"""Write the page: one file that loads nothing, whose policy lets it load nothing, and in which all text is text.

Pure, but for its own style and script, which are beside this module.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from html import escape
from importlib import resources
from typing import Final

from flux2_tool._clock import iso_utc
from flux2_tool.gallery.chart import chart
from flux2_tool.gallery.entries import Entry
from flux2_tool.gallery.spending import DaySpending
from flux2_tool.gallery.thumbnails import Thumbnail
from flux2_tool.schema.money import cost_text

MARK: Final = "<!-- made by flux2-tool gallery -->"
"""The second line of every page; a file without it is not one, and is not replaced."""
MOST_BYTES: Final = 48 * 1024 * 1024
"""The most that a page's pictures take; older ones are left out, and it says how many."""
_SHORT_PROMPT: Final = 240


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
    """

    entries: Sequence[Entry]
    thumbnails: Mapping[str, Thumbnail]
    days: Sequence[DaySpending]
    cap_usd: float
    notes: Sequence[str]
    now: float
    version: str
    place: str


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
    made = f"{_local(content.now):%Y-%m-%d %H:%M}"
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
    sources, cards, size_bytes = _sources(content.entries), list[str](), 0
    for number, entry in enumerate(content.entries):
        card = _card(entry, content.thumbnails.get(entry.key), file_of(entry), sources)
        size_bytes += len(card)
        if size_bytes > MOST_BYTES and cards:
            return cards, len(content.entries) - number
        cards.append(card)
    return cards, 0


def _card(entry: Entry, thumbnail: Thumbnail | None, file: str | None, sources: Mapping[str, str]) -> str:
    source = _source_of(entry)
    marks = "".join(
        f'<span class="mark">{mark}</span>'
        for mark, is_so in (("sandbox, no real cost", entry.is_sandbox), ("edit", entry.is_edit))
        if is_so
    )
    facts = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in _facts(entry, file, sources))
    data = f'data-model="{escape(entry.model)}" data-source="{escape(source)}" data-copy="{"yes" if file else "no"}"'
    return f"""<article class="card" id="p-{entry.key}" {data}>
{_shot(entry, thumbnail, file)}
<div class="about">
{marks}{_prompt(entry.prompt)}
<dl class="facts">{facts}</dl>
</div>
</article>
"""


def _shot(entry: Entry, thumbnail: Thumbnail | None, file: str | None) -> str:
    if thumbnail is None:
        inside = '<span class="none">not on this page; open it by its link</span>'
    else:
        data = base64.b64encode(thumbnail.data).decode("ascii")
        # One line: the alternative text is an attribute.
        alt = escape(" ".join(entry.prompt[:_SHORT_PROMPT].split()))
        inside = (
            f'<img src="data:{thumbnail.media_type};base64,{data}" width="{thumbnail.width_px}"'
            f' height="{thumbnail.height_px}" loading="lazy" decoding="async" alt="{alt}">'
        )
    address = file or entry.url
    return f'<div class="shot">{inside}</div>' if address is None else _link(address, inside, kind="shot")


def _link(address: str, inside: str, *, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f'<a{attribute} href="{escape(address)}" target="_blank" rel="noopener noreferrer">{inside}</a>'


def _prompt(prompt: str) -> str:
    whole = f'<p class="prompt" dir="auto">{escape(prompt)}</p>'
    if len(prompt) <= _SHORT_PROMPT:
        return whole
    short = escape(prompt[:_SHORT_PROMPT])
    return f'<details><summary><span class="prompt" dir="auto">{short}…</span></summary>{whole}</details>'


def _facts(entry: Entry, file: str | None, sources: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    made = _local(entry.made_at)
    yield "Date", f'<time datetime="{iso_utc(entry.made_at)}">{made:%Y-%m-%d %H:%M}</time>'
    yield "Model", f"{escape(entry.model)}, {escape(entry.resolution)}"
    yield "Cost", escape(cost_text(entry.cost.usd, entry.cost.basis))
    yield "Task", escape(entry.ref)
    if len(sources) > 1:
        yield "From", escape(sources[_source_of(entry)])
    if file is not None and entry.path is not None:
        yield "File", _link(file, escape(_shown_name(entry.path.name)))
    if entry.url is not None:
        until = f" until {_until(entry.expires_at)}" if entry.expires_at else ""
        yield "Link", _link(entry.url, f"works{escape(until)}")


def _until(expires_at: str) -> str:
    try:
        return f"{datetime.fromisoformat(expires_at).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return expires_at[:40]


def _shown_name(name: str) -> str:
    """Return a file's name as text: a byte that is none of this locale is shown as a mark."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _filters(entries: Sequence[Entry]) -> str:
    models = sorted({entry.model for entry in entries})
    sources = _sources(entries)
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


def _source_of(entry: Entry) -> str:
    return "sandbox" if entry.is_sandbox else f"{entry.account} {entry.base_url}"


def _sources(entries: Sequence[Entry]) -> dict[str, str]:
    """Return the accounts that made the pictures, in words: they spend apart, and a sandbox spends nothing."""
    hosts = {entry.base_url for entry in entries if not entry.is_sandbox}
    found: dict[str, str] = {}
    for entry in entries:
        where = f" at {entry.base_url}" if len(hosts) > 1 else ""
        name = "sandbox on this machine" if entry.is_sandbox else f"account {entry.account}{where}"
        found.setdefault(_source_of(entry), name)
    return found


def _local(at: float) -> datetime:
    return datetime.fromtimestamp(at).astimezone()


@cache
def _own(name: str) -> str:
    return (resources.files("flux2_tool.gallery") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return a source of a Content-Security-Policy that allows this text alone."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
