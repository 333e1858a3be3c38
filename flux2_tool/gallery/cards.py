"""One picture of the page as HTML, in which everything that others wrote is text. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Final

from flux2_tool._clock import iso_utc, local_epoch, local_time
from flux2_tool.gallery.entries import Entry
from flux2_tool.gallery.thumbnails import Thumbnail
from flux2_tool.schema.money import cost_text

_SHORT_PROMPT: Final = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture as the page shows it.

    Attributes:
        file: The address of its saved copy, None where it has none.
        is_framed: Whether other windows cannot be opened.
    """

    entry: Entry
    thumbnail: Thumbnail | None
    file: str | None
    is_framed: bool


def card(shown: Shown, sources: Mapping[str, str]) -> str:
    """Return the card of a picture.

    Args:
        shown: The picture.
        sources: The accounts of the page in words, see `sources_of`.
    """
    entry = shown.entry
    marks = "".join(
        f'<span class="mark">{mark}</span>'
        for mark, is_so in (("sandbox, no real cost", entry.is_sandbox), ("edit", entry.is_edit))
        if is_so
    )
    facts = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in _facts(shown, sources))
    copy = "yes" if shown.file else "no"
    data = f'data-model="{escape(entry.model)}" data-source="{escape(source_of(entry))}" data-copy="{copy}"'
    return f"""<article class="card" id="p-{entry.key}" {data}>
{_shot(shown)}
<div class="about">
{marks}{_prompt(entry.prompt)}
<dl class="facts">{facts}</dl>
</div>
</article>
"""


def source_of(entry: Entry) -> str:
    """Return a value that tells accounts apart."""
    return "sandbox" if entry.is_sandbox else f"{entry.account} {entry.base_url}"


def sources_of(entries: Sequence[Entry]) -> dict[str, str]:
    """Return the accounts that made the pictures, in words: they spend apart, and a sandbox spends nothing."""
    hosts = {entry.base_url for entry in entries if not entry.is_sandbox}
    found: dict[str, str] = {}
    for entry in entries:
        where = f" at {entry.base_url}" if len(hosts) > 1 else ""
        name = "sandbox on this machine" if entry.is_sandbox else f"account {entry.account}{where}"
        found.setdefault(source_of(entry), name)
    return found


def _shot(shown: Shown) -> str:
    entry, thumbnail = shown.entry, shown.thumbnail
    if thumbnail is None:
        inside = '<span class="none">not on this page</span>'
    else:
        data = base64.b64encode(thumbnail.data).decode("ascii")
        # One line: the alternative text is an attribute.
        alt = escape(" ".join(entry.prompt[:_SHORT_PROMPT].split()))
        inside = (
            f'<img src="data:{thumbnail.media_type};base64,{data}" width="{thumbnail.width_px}"'
            f' height="{thumbnail.height_px}" loading="lazy" decoding="async" alt="{alt}">'
        )
    address = shown.file or (None if shown.is_framed else entry.url)
    return f'<div class="shot">{inside}</div>' if address is None else _link(shown, address, inside, kind="shot")


def _link(shown: Shown, address: str, inside: str, *, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    window = "" if shown.is_framed else ' target="_blank" rel="noopener noreferrer"'
    return f'<a{attribute} href="{escape(address)}"{window}>{inside}</a>'


def _prompt(prompt: str) -> str:
    whole = f'<p class="prompt" dir="auto">{escape(prompt)}</p>'
    if len(prompt) <= _SHORT_PROMPT:
        return whole
    short = escape(prompt[:_SHORT_PROMPT])
    return f'<details><summary><span class="prompt" dir="auto">{short}…</span></summary>{whole}</details>'


def _facts(shown: Shown, sources: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    entry = shown.entry
    made = local_time(entry.made_at)
    yield "Date", f'<time datetime="{iso_utc(entry.made_at)}">{made:%Y-%m-%d %H:%M}</time>'
    yield "Model", f"{escape(entry.model)}, {escape(entry.resolution)}"
    yield "Cost", escape(cost_text(entry.cost.usd, entry.cost.basis))
    yield "Task", escape(entry.ref)
    if len(sources) > 1:
        yield "From", escape(sources[source_of(entry)])
    if shown.file is not None and entry.path is not None:
        yield "File", _link(shown, shown.file, escape(_shown_name(entry.path.name)))
    if entry.url is not None:
        until = f" until {_until(entry.expires_at)}" if entry.expires_at else ""
        yield "Link", _text_link(entry.url) if shown.is_framed else _link(shown, entry.url, f"works{escape(until)}")


def _text_link(url: str) -> str:
    return f'<span class="url">{escape(url)}</span>'


def _until(expires_at: str) -> str:
    try:
        return f"{local_time(local_epoch(datetime.fromisoformat(expires_at))):%Y-%m-%d %H:%M}"
    except ValueError:
        return expires_at[:40]


def _shown_name(name: str) -> str:
    """Return a file's name as text: a byte that is none of this locale is shown as a mark."""
    return name.encode("utf-8", "replace").decode("utf-8")
