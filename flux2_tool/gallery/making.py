"""Make the page of a data folder: read the journal, make the thumbnails, write the HTML."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from flux2_tool.gallery.entries import Entries, Entry, entries_of
from flux2_tool.gallery.page import Content, page
from flux2_tool.gallery.spending import first_instant, spending_by_day
from flux2_tool.gallery.thumbnails import FETCHING_S, Thumbnails
from flux2_tool.images.decoder import Decoder
from flux2_tool.journal import JournalPlace, place_text
from flux2_tool.journal.snapshot import Snapshot, read_snapshot
from flux2_tool.runapi.http_client import open_http
from flux2_tool.schema.manifest import Manifest

FOLDER: Final = "gallery"
"""In the data folder: the thumbnails, and the page where none is named. Nothing in it is lost if it is deleted."""
THUMBNAILS: Final = "thumbnails"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """A page and what can be said of it.

    Attributes:
        has_journal: Whether there is a journal at all.
        shown: How many pictures are on it.
        notes: What is not on it, and why.
    """

    html: bytes
    has_journal: bool
    shown: int
    notes: Sequence[str]


@dataclass(slots=True, kw_only=True)
class GalleryMaker:
    """Makes pages of one data folder.

    Attributes:
        home: The data folder, for thumbnails.
        place: Where the journal is.
        cap_usd: The cap per day, for the chart.
        manifest: For list prices and the version.
        decoder: Makes the thumbnails.
        file_of: Returns the address of a picture's saved copy.
        is_offline: Whether no picture is fetched.
        since: Only pictures from then on, in seconds since 1970.
        is_framed: Whether the page is shown in a frame that opens no other windows.
        fetching_s: How long pictures are fetched, in seconds.
        making_s: How long thumbnails are made, in seconds; the next page makes more.
        on_step: Called with the number of pictures done and of all.
    """

    home: Path
    place: JournalPlace
    cap_usd: float
    manifest: Manifest
    decoder: Decoder
    file_of: Callable[[Entry], str | None]
    is_offline: bool = False
    since: float | None = None
    is_framed: bool = False
    fetching_s: float = FETCHING_S
    making_s: float = math.inf
    on_step: Callable[[int, int], None] = lambda _done, _all: None
    _clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)

    async def make(self, *, now: float) -> Gallery:
        """Return the page.

        Raises:
            JournalError: The journal cannot be read.
        """
        snapshot = await asyncio.to_thread(read_snapshot, self.place, since=first_instant(now=now))
        records = (snapshot or Snapshot()).records
        every = await asyncio.to_thread(entries_of, records, self.manifest, now=now)
        shown = [entry for entry in every.shown if self.since is None or entry.made_at >= self.since]
        thumbnails = Thumbnails(
            cache=None if snapshot is None else self.home / FOLDER / THUMBNAILS,
            decoder=self.decoder,
            http_of=self._http_of,
            is_offline=self.is_offline,
            fetching_s=self.fetching_s,
            making_s=self.making_s,
            on_step=self.on_step,
        )
        try:
            small = await thumbnails.of(shown)
        finally:
            await asyncio.gather(*(client.aclose() for client in self._clients.values()))
            self._clients.clear()
        await asyncio.to_thread(thumbnails.forget_others, every.shown)
        notes = _notes(every, thumbnails, left_out=len(every.shown) - len(shown))
        if snapshot is not None and snapshot.has_more:
            notes.append(f"Only the newest {len(records)} requests are looked at; older pictures are left out.")
        content = Content(
            entries=shown,
            thumbnails=small,
            days=spending_by_day((snapshot or Snapshot()).spent, now=now),
            cap_usd=self.cap_usd,
            notes=notes,
            now=now,
            version=self.manifest.version,
            place=place_text(self.place),
            is_framed=self.is_framed,
        )
        html = await asyncio.to_thread(page, content, file_of=self.file_of)
        return Gallery(html=html, has_journal=snapshot is not None, shown=len(shown), notes=notes)

    def _http_of(self, base_url: str) -> httpx.AsyncClient:
        if base_url not in self._clients:
            self._clients[base_url] = open_http(base_url)
        return self._clients[base_url]


def _notes(every: Entries, thumbnails: Thumbnails, *, left_out: int) -> list[str]:
    notes = []
    if left_out:
        notes.append(f"{_counted(left_out, 'older picture')} left out, as --since says.")
    if every.gone:
        notes.append(
            f"{_counted(every.gone, 'picture')} no longer shown: the link has ended, and there is no saved copy."
        )
    notes += [
        f"{_counted(count, 'picture')} without a thumbnail: {reason}." for reason, count in thumbnails.failures.items()
    ]
    return notes


def _counted(count: int, noun: str) -> str:
    return f"1 {noun} is" if count == 1 else f"{count} {noun}s are"
