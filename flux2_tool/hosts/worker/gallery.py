"""The gallery for OpenClaw's Control UI: the page in a file that the plugin sends, and where a picture's copy is.

Only the gateway's operators reach the plugin's route. The page is shown in a frame that opens no other windows, so its
pictures lead to the plugin's route, and a link of the service is text.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Final

from flux2_tool.engine.host_profile import OPENCLAW
from flux2_tool.engine.keeping import KeepRules
from flux2_tool.exceptions import ConfigurationError, JournalUnavailableError
from flux2_tool.gallery.entries import Entry, entries_of
from flux2_tool.gallery.making import FOLDER, GalleryMaker
from flux2_tool.gallery.writing import written
from flux2_tool.images.decoder import shared_decoder
from flux2_tool.images.kept_files import prune_kept
from flux2_tool.journal import JournalError, place_of
from flux2_tool.journal.snapshot import read_snapshot
from flux2_tool.schema.manifest import Manifest
from flux2_tool.settings import Settings

PAGE: Final = "control-ui.html"
ROUTE: Final = "gallery/picture"
"""Below the page's own address; `plugin/gallery.js` serves it."""
FETCHING_S: Final = 10.0
MAKING_S: Final = 20.0
"""A browser waits for it; what there was no time for, the next page has."""


async def gallery_page(settings: Settings, manifest: Manifest) -> dict[str, Any]:
    """Write the page anew, and return its path.

    Raises:
        ConfigurationError: It cannot be written.
        JournalUnavailableError: The journal cannot be read.
    """
    home = _home(settings)
    await asyncio.to_thread(_prune, settings)
    maker = GalleryMaker(
        home=home,
        place=place_of(settings) or home,
        cap_usd=settings.daily_cap_usd,
        manifest=manifest,
        decoder=shared_decoder(),
        file_of=_address,
        is_framed=True,
        fetching_s=FETCHING_S,
        making_s=MAKING_S,
    )
    try:
        made = await maker.make(now=time.time())
        path = await asyncio.to_thread(written, home / FOLDER / PAGE, made.html)
    except JournalError as exc:
        raise JournalUnavailableError(f"{exc}.", hint="On the gateway's machine run: flux2-tool doctor") from exc
    except OSError as exc:
        raise ConfigurationError(f"the page cannot be written to {home / FOLDER}: {exc.strerror}") from exc
    return {"path": str(path)}


async def gallery_picture(settings: Settings, manifest: Manifest, *, key: str) -> dict[str, Any]:
    """Return the path of a picture's saved copy, None where there is none."""
    path = await asyncio.to_thread(_copy_of, settings, manifest, key)
    return {"path": None if path is None else str(path)}


def _copy_of(settings: Settings, manifest: Manifest, key: str) -> Path | None:
    now = time.time()
    try:
        place, record_id = place_of(settings) or _home(settings), key.rpartition("-")[0]
        snapshot = read_snapshot(place, since=now, record_id=record_id)
    except JournalError:
        return None
    records = () if snapshot is None else snapshot.records
    for entry in entries_of(records, manifest, now=now).shown:
        # What the journal names and the system calls a plain file: no link in its place is followed.
        if entry.key == key and entry.path is not None and not os.path.islink(entry.path):  # noqa: PTH114 - as it is
            return entry.path
    return None


def _prune(settings: Settings) -> None:
    """Remove copies that are too old: no picture may have been finished for long."""
    rules = KeepRules.of(settings, OPENCLAW)
    if rules is not None:
        prune_kept(rules.folder, now=time.time(), older_than_s=rules.life_s, most_bytes=rules.most_bytes)


def _address(entry: Entry) -> str | None:
    return None if entry.path is None else f"{ROUTE}/{entry.key}"


def _home(settings: Settings) -> Path:
    if settings.home is None:
        raise ConfigurationError("there is no folder for data")
    return settings.home
