"""Journals with pictures of many kinds, for tests of what the gallery shows of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flux2_tool.gallery.entries import Entry, file_address
from flux2_tool.gallery.making import Gallery, GalleryMaker
from flux2_tool.images.decoder import shared_decoder
from flux2_tool.journal import Outcome, SavedCopy
from flux2_tool.schema.manifest import load_manifest
from tests.support.journal import NEVER, NOON, Machine
from tests.support.pictures import file_of, scene
from tests.support.virtual_time import run_virtual

DAY_S = 86400.0
WEEK_AHEAD = "2026-12-30T00:00:00Z"
ENDED = "2026-01-01T00:00:00Z"
LINK = "https://cdn.example/fox.png"
HOSTILE = '</script><script>document.title="taken"</script><img src=x onerror="document.title=\'taken\'"> & "q" \' <!--'


class Album:
    """Writes records as processes would have.

    Args:
        home: The data folder.
        folder: Of saved copies.
    """

    def __init__(self, home: Path, folder: Path) -> None:
        self.home = home
        self.folder = folder
        self._machine = Machine(home)
        self._journal = self._machine.open()
        self._count = 0

    def add(
        self,
        prompt: str = "a red fox in the snow",
        *,
        at: float = NOON,
        saved: str | None = "fox.png",
        expires_at: str | None = WEEK_AHEAD,
        cost_usd: float | None = 0.05,
        url: str = LINK,
        **values: Any,
    ) -> str:
        """Add a finished picture and return its record's id; `saved` names its copy, None for none."""
        self._count += 1
        body = json.dumps({"prompt": prompt}, ensure_ascii=True).encode()
        intent = self._machine.intent(f"{self._count}", body=body, **values)
        assert self._journal.claim([intent], NEVER, now=at).outcome == "new"
        task_id = f"tsk_{self._count}"
        self._journal.note_accepted(intent.record_id, now=at, task_id=task_id, status_url=None, request_id=None)
        outcome = Outcome(state="completed", images=((url, expires_at),), cost_usd=cost_usd)
        self._journal.note_end(intent.record_id, outcome, now=at + 8)
        if saved is not None:
            path = self.folder / saved
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_bytes(file_of("PNG", scene((96, 64))))
            self._journal.note_saved(intent.record_id, [SavedCopy(path=str(path), width_px=96, height_px=64)])
        return intent.record_id

    def change(self, sql: str) -> None:
        """Change the journal's file by hand."""
        self.close()
        with sqlite3.connect(self.home / "journal.db") as connection:
            connection.execute(sql)
        connection.close()

    def close(self) -> None:
        """Close the journal, as when its process ends."""
        self._journal.close()


def made(
    home: Path,
    *,
    now: float = NOON + DAY_S / 24,
    file_of: Callable[[Entry], str | None] = file_address,
    is_offline: bool = True,
    cap_usd: float = 5.0,
    **options: Any,
) -> Gallery:
    """Make the page of a data folder."""
    maker = GalleryMaker(
        home=home,
        place=home,
        cap_usd=cap_usd,
        manifest=load_manifest(),
        decoder=shared_decoder(),
        file_of=file_of,
        is_offline=is_offline,
        **options,
    )
    return run_virtual(maker.make(now=now))
