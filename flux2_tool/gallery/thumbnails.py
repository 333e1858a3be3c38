"""Small copies of the pictures on the page, and the cache that keeps them from being made twice.

A picture comes from its saved copy, else from its link while that works. It is decoded in the decoding process, like
whatever strangers send. The cache has only what the page can show: when a picture is gone, so is its small copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import httpx

from flux2_tool._files import open_file
from flux2_tool.exceptions import Flux2Error
from flux2_tool.gallery.entries import Entry
from flux2_tool.images.decoder import Decoder, PictureFacts
from flux2_tool.images.decoder_process import MAX_FILE_BYTES
from flux2_tool.images.download import DownloadError, download_image
from flux2_tool.images.errors import PictureError
from flux2_tool.images.open_files import opened

MOST_FETCHED: Final = 300
"""How many pictures are fetched for one page; the next one fetches more."""
FETCHING_S: Final = 60.0
"""How long fetching them may take together, in seconds, unless a page says otherwise."""
_ONE_FETCH_S: Final = 20.0
# No more than are decoded at once: a picture of a call does not wait behind a page.
_AT_ONCE: Final = 2
_MOST_BYTES: Final = 256 * 1024
_CACHED: Final = re.compile(r"(?P<key>[A-Za-z0-9-]{1,120})\.(?P<width>\d{1,4})x(?P<height>\d{1,4})\.(?P<type>webp|jpg)")
_TYPES: Final = {"webp": "image/webp", "jpg": "image/jpeg"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """A small picture: its file, media type and size in pixels."""

    data: bytes
    media_type: str
    width_px: int
    height_px: int


@dataclass(slots=True, kw_only=True)
class Thumbnails:
    """Makes the thumbnails of one page.

    Attributes:
        cache: The folder of those made earlier; None keeps none.
        decoder: Decodes pictures.
        http_of: Returns the client, without a key, for pictures of a base URL.
        is_offline: Whether nothing is fetched.
        fetching_s: How long pictures are fetched together, in seconds.
        making_s: How long thumbnails are made, fetching included, in seconds.
        on_step: Called with the number of pictures done and of all.
        failures: Why pictures have no thumbnail, and how many.
    """

    cache: Path | None
    decoder: Decoder
    http_of: Callable[[str], httpx.AsyncClient]
    is_offline: bool = False
    fetching_s: float = FETCHING_S
    making_s: float = math.inf
    on_step: Callable[[int, int], None] = lambda _done, _all: None
    failures: Counter[str] = field(default_factory=Counter)
    _cached: dict[str, Path] = field(default_factory=dict)
    _fetched: int = 0

    async def of(self, entries: Sequence[Entry]) -> dict[str, Thumbnail]:
        """Return the thumbnails by the entries' keys; an entry without one is counted in `failures`."""
        await asyncio.to_thread(self._open_cache)
        loop, slots, found = asyncio.get_running_loop(), asyncio.Semaphore(_AT_ONCE), dict[str, Thumbnail]()
        begun_s, done = loop.time(), 0

        async def one(entry: Entry) -> None:
            nonlocal done
            async with slots:
                try:
                    found[entry.key] = await self._thumbnail(entry, took_s=loop.time() - begun_s)
                except (DownloadError, PictureError, OSError, Flux2Error) as exc:
                    self.failures[_reason(exc)] += 1
                done += 1
                self.on_step(done, len(entries))

        await asyncio.gather(*map(one, entries))
        return found

    def forget_others(self, entries: Iterable[Entry]) -> None:
        """Delete the small copies of pictures that can no longer be shown. Blocks."""
        known = {entry.key for entry in entries}
        for key, path in self._cached.items():
            if key not in known:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _open_cache(self) -> None:
        if self.cache is None:
            return
        try:
            for folder in (self.cache.parent, self.cache):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            names = os.listdir(self.cache)  # noqa: PTH208 - names are all that is wanted
        except OSError:
            self.cache = None  # a page without a cache is a page
            return
        self._cached = {match["key"]: self.cache / name for name in names if (match := _CACHED.fullmatch(name))}

    async def _thumbnail(self, entry: Entry, *, took_s: float) -> Thumbnail:
        known = self._cached.get(entry.key)
        if known is not None and (thumbnail := await asyncio.to_thread(_read, known)) is not None:
            return thumbnail
        if took_s > self.making_s:
            raise DownloadError("there was no more time to make them; the next page goes on")
        if entry.path is not None:
            return await self._made(entry, entry.path)
        if self.is_offline:
            raise DownloadError("nothing was fetched, as --offline says")
        left_s = self.fetching_s - took_s
        if self._fetched >= MOST_FETCHED:
            raise DownloadError(f"no more than {MOST_FETCHED} are fetched for one page; the next page goes on")
        if left_s <= 0:
            raise DownloadError("there was no more time to fetch them; the next page goes on")
        self._fetched += 1
        with tempfile.TemporaryDirectory(prefix="flux2-") as folder:
            saved = await download_image(
                self.http_of(entry.base_url),
                entry.url or "",
                Path(folder),
                "picture",
                loopback_allowed=entry.is_sandbox,
                timeout_s=min(_ONE_FETCH_S, left_s),
                decoder=self.decoder,
            )
            return await self._made(entry, saved.path)

    async def _made(self, entry: Entry, path: Path) -> Thumbnail:
        with await opened(partial(_plain_file, path)) as file:
            copy = await self.decoder.thumbnail(file)
        data = b"".join([block async for block in copy.blocks()])
        await asyncio.to_thread(self._keep, entry.key, copy.facts, data)
        facts, suffix = copy.facts, copy.facts.suffix[1:]
        return Thumbnail(data=data, media_type=_TYPES[suffix], width_px=facts.width_px, height_px=facts.height_px)

    def _keep(self, key: str, facts: PictureFacts, data: bytes) -> None:
        if self.cache is None:
            return
        path = self.cache / f"{key}.{facts.width_px}x{facts.height_px}{facts.suffix}"
        with contextlib.suppress(OSError):  # a full disk keeps nothing, and the page has it all the same
            with tempfile.NamedTemporaryFile(dir=self.cache, delete=False) as part:
                try:
                    part.write(data)
                    part.flush()
                    Path(part.name).replace(path)
                except OSError:
                    Path(part.name).unlink(missing_ok=True)
                    raise
            self._cached[key] = path


def _plain_file(path: Path) -> BinaryIO:
    """Open a regular file that is no link; raises OSError."""
    file = open_file(path, follows_links=False)
    if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
        file.close()
        raise OSError(None, "it is no plain file of a picture's size")
    return file


def _read(path: Path) -> Thumbnail | None:
    match = _CACHED.fullmatch(path.name)
    try:
        with _plain_file(path) as file:
            data = file.read(_MOST_BYTES)
    except OSError:
        return None
    is_whole = data.startswith((b"RIFF", b"\xff\xd8\xff")) and len(data) < _MOST_BYTES
    if match is None or not is_whole:
        return None
    return Thumbnail(
        data=data, media_type=_TYPES[match["type"]], width_px=int(match["width"]), height_px=int(match["height"])
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"its file cannot be read ({error.strerror or type(error).__name__})"
    return f"its file {error}" if isinstance(error, PictureError) else str(error)
