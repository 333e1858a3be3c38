"""Keep a copy of every finished picture, beside the calls: a link ends after days, and a conversation goes on.

Nothing waits for it: a copy is made a moment after its picture was answered, from the copy that the host got where
there is one, else from the link. Where more pictures come than can be kept meanwhile, and where one could not be kept,
a look through the journal finds it later, in this process or the next one. A failure is a line in the log: the picture
exists, and its link works.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import httpx

from flux2_tool._clock import Clock
from flux2_tool._files import is_file
from flux2_tool._folders import state_folder
from flux2_tool._net import is_loopback_url
from flux2_tool.engine.host_profile import HostProfile
from flux2_tool.images.decoder import Decoder
from flux2_tool.images.download import DownloadError, download_image, file_stem
from flux2_tool.images.kept_bounds import KeptBounds
from flux2_tool.images.kept_files import DAY_S, FOLDER, free_bytes, kept_copy
from flux2_tool.journal import JournalError, Record, RecordHandle, SavedCopy
from flux2_tool.settings import Settings
from flux2_tool.tasks.kept_records import KeptRecords
from flux2_tool.tasks.task import ImageTask

logger = logging.getLogger(__name__)

MB: Final = 1_000_000
KEEP_DELAY_S: Final = 2.0
"""How long after its answer a picture's copy is made, so that the answer has the network for itself."""
SWEEP_EVERY_S: Final = 600.0
RESERVE_BYTES: Final = 200 * MB
"""What stays free on the disk: the journal needs it more than copies do."""
END_GRACE_S: Final = 1.0
MOST_WAITING: Final = 100
"""How many pictures may wait for their copy; the journal remembers the others."""
# How far back the first sweep looks: RunAPI's links work for a week.
_LINK_LIFE_S: Final = 8 * DAY_S
# What other processes finished shortly before a sweep may have been written after it.
_OVERLAP_S: Final = 3600.0
_PAUSES_S: Final = (5.0, 30.0)
_AT_ONCE: Final = 2

Left = Literal["nothing", "later", "given up"]
"""What becomes of the pictures of a record that could not be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRules:
    """Where copies are kept, and how many.

    Attributes:
        folder: Of the copies.
        life_s: How old a picture may become, in seconds.
        most_bytes: How much they may take together.
        passing: OpenClaw's folder of what it shows, whose files go after some days; None where it is not known.
    """

    folder: Path
    life_s: float
    most_bytes: float
    passing: Path | None = None

    @classmethod
    def of(cls, settings: Settings, host: HostProfile) -> KeepRules | None:
        """Return the rules of a host; None where none are kept: not in OpenClaw, or all are saved for good anyway."""
        if not host.is_gateway or settings.home is None or settings.save_dir is not None or not settings.keep_days:
            return None
        state = state_folder(os.environ)
        return cls(
            folder=settings.home / FOLDER,
            life_s=settings.keep_days * DAY_S,
            most_bytes=settings.keep_mb * MB,
            passing=None if state is None else state / "media",
        )


@dataclass(slots=True, kw_only=True)
class Keeper:
    """Keeps the copies of one engine.

    Attributes:
        rules: Where, and how many.
        records: The journal's records.
        clock: Time.
        decoder: Checks what is fetched.
        http_of: Returns a client, without a key, for the pictures of a base URL.
    """

    rules: KeepRules
    records: KeptRecords
    clock: Clock
    decoder: Decoder
    http_of: Callable[[str], httpx.AsyncClient]
    reserve_bytes: int = RESERVE_BYTES
    _work: set[asyncio.Task[None]] = field(default_factory=set)
    _begun: set[str] = field(default_factory=set)
    _given_up: set[str] = field(default_factory=set)
    _ending: asyncio.Event = field(default_factory=asyncio.Event)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    _swept_s: float | None = None
    _swept_until: float = -math.inf
    _left_since: float = math.inf
    _is_behind: bool = False
    _is_sweeping: bool = False
    _bounds: KeptBounds = field(init=False)

    def __post_init__(self) -> None:
        rules = self.rules
        self._bounds = KeptBounds(rules.folder, older_than_s=rules.life_s, most_bytes=rules.most_bytes)

    def keep(self, image_task: ImageTask, *, passing: Sequence[Path] = ()) -> None:
        """Keep the pictures of a finished task soon, and what earlier processes have not kept.

        Args:
            image_task: Completed.
            passing: Folders in which the host puts pictures for a while.
        """
        handle = image_task.record_handle
        if handle is not None and handle.record.record_id not in self._begun:
            if len(self._begun) < MOST_WAITING:
                self._begun.add(handle.record.record_id)
                self._start(self._soon(handle, passing))
            else:
                self._leave(handle.record)
                self._is_behind = True
        if self._swept_s is None or self.clock.monotonic() - self._swept_s >= SWEEP_EVERY_S:
            self._begin_sweep()

    def owns(self, path: Path) -> bool:
        """Return whether a copy is a kept one."""
        return path.parent == self.rules.folder

    async def aclose(self) -> None:
        """End: what is being kept gets a moment, and the next process keeps the rest."""
        self._ending.set()
        if self._work:
            await asyncio.wait(self._work, timeout=END_GRACE_S)
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _soon(self, handle: RecordHandle, passing: Sequence[Path]) -> None:
        await self.clock.wait(self._ending, KEEP_DELAY_S)
        try:
            await self._in_turn(handle.record, passing, pauses_s=_PAUSES_S)
        finally:
            self._begun.discard(handle.record.record_id)
            self._catch_up()

    def _catch_up(self) -> None:
        if self._is_behind and not self._begun and not self._ending.is_set():
            self._begin_sweep()

    def _leave(self, record: Record) -> None:
        """Leave a record to the next sweep."""
        self._left_since = min(self._left_since, record.finished_at or record.created_at)

    def _begin_sweep(self) -> None:
        if not self._is_sweeping:
            self._is_sweeping = True
            self._start(self._sweep())

    async def _sweep(self) -> None:
        """Keep what has no copy: what was left, and what was completed since shortly before the last sweep."""
        await self.clock.wait(self._ending, KEEP_DELAY_S)
        now, left_since = self.clock.now(), self._left_since
        since = max(now - _LINK_LIFE_S, min(self._swept_until - _OVERLAP_S, left_since))
        self._left_since, self._is_behind = math.inf, False
        try:
            unseen = set(self._given_up)
            async with contextlib.aclosing(self.records.completed(since)) as completed:
                async for record in completed:
                    if self._ending.is_set():
                        return
                    unseen.discard(record.record_id)
                    await self._look_at(record)
            self._swept_until = now
            self._given_up -= unseen  # too old for any later sweep
            await self._prune(())
        except JournalError as exc:
            logger.warning("pictures without a copy are looked for later: %s", exc)
            self._left_since = min(self._left_since, left_since)
        finally:
            self._is_sweeping, self._swept_s = False, self.clock.monotonic()
        self._catch_up()

    async def _look_at(self, record: Record) -> None:
        record_id = record.record_id
        if record_id in self._begun or record_id in self._given_up or not self._unkept(record):
            return
        self._begun.add(record_id)
        await self._in_turn(record, (), pauses_s=())
        self._begun.discard(record_id)

    # ---- one record --------------------------------------------------------------------------------------------------

    def _unkept(self, record: Record, passing: Sequence[Path] = ()) -> list[int]:
        """Return which of a record's pictures want a copy: those that have none, or one that goes by itself."""
        made_at = record.finished_at or record.created_at
        if record.state != "completed" or self.clock.now() - made_at > self.rules.life_s:
            return []
        return [index for index in range(len(record.images)) if not self._is_safe(record, index, passing)]

    def _is_safe(self, record: Record, index: int, passing: Sequence[Path]) -> bool:
        if index >= len(record.saved):
            return False
        path = Path(record.saved[index].path)
        # A kept copy that is gone was removed by the bounds or by a person, and is not made again.
        if self.owns(path):
            return True
        places = [*passing, *([] if self.rules.passing is None else [self.rules.passing])]
        return is_file(path) and not any(path.is_relative_to(place) for place in places)

    async def _in_turn(self, record: Record, passing: Sequence[Path], *, pauses_s: Sequence[float]) -> None:
        """Keep a record's pictures when it is its turn, and leave to a later sweep what may go well then."""
        try:
            async with self._slots:
                left = await self._keep(record, passing, pauses_s)
        except Exception:  # whatever it is, the picture was answered and its link works
            logger.exception("a picture could not be kept because of a defect")
            left = "given up"
        if left == "later":
            self._leave(record)
        elif left == "given up":
            self._given_up.add(record.record_id)

    async def _keep(self, record: Record, passing: Sequence[Path], pauses_s: Sequence[float]) -> Left:
        """Return what becomes of those of a record's pictures that are not kept now."""
        wanted, copies = self._unkept(record, passing), dict(enumerate(record.saved))
        if not wanted:
            return "nothing"
        folder = self.rules.folder
        try:
            is_scarce = await asyncio.to_thread(free_bytes, folder) < self.reserve_bytes
        except OSError as exc:
            logger.warning("no copy of a picture is kept in %s: %s", folder, exc.strerror)
            return "later"
        if is_scarce:
            logger.warning("no copy of a picture is kept in %s: the disk is almost full", folder)
            return "later"
        kept, left = list[Path](), set[Left]()
        for index in wanted:
            try:
                copies[index] = await self._copy(record, index, pauses_s)
                kept.append(Path(copies[index].path))
            except (DownloadError, OSError) as exc:
                logger.warning("task %s: no copy of its picture is kept: %s", record.task_id, exc)
                left.add("given up" if isinstance(exc, DownloadError) and exc.again == "no" else "later")
        outcome: Left = "later" if "later" in left else "given up" if left else "nothing"
        if not kept:
            return outcome
        if sorted(copies) == list(range(len(copies))):
            await self.records.note(record.record_id, [copies[index] for index in sorted(copies)])
        await self._prune(kept)
        return outcome

    async def _copy(self, record: Record, index: int, pauses_s: Sequence[float]) -> SavedCopy:
        stem = file_stem(
            at=record.finished_at or record.created_at, slug=record.label or "image", task_id=record.task_id
        )
        stem = stem if len(record.images) == 1 else f"{stem}-{index + 1}"
        if index < len(record.saved):
            # Just now the host got a copy; it is not fetched a second time.
            there = record.saved[index]
            try:
                path = await asyncio.to_thread(kept_copy, Path(there.path), self.rules.folder, stem)
                return SavedCopy(path=str(path), width_px=there.width_px, height_px=there.height_px)
            except OSError as exc:
                logger.info("a copy is fetched instead of copied: %s", exc)
        saved = None
        for pause_s in (*pauses_s, None):
            try:
                saved = await download_image(
                    self.http_of(record.base_url),
                    record.images[index][0],
                    self.rules.folder,
                    stem,
                    sealed=True,
                    loopback_allowed=is_loopback_url(record.base_url),
                    decoder=self.decoder,
                )
                break
            except DownloadError as exc:
                if exc.again == "no" or pause_s is None or self._ending.is_set():
                    raise
            await self.clock.wait(self._ending, pause_s)
        assert saved is not None  # noqa: S101 - the last failure is raised
        return SavedCopy(path=str(saved.path), width_px=saved.width_px, height_px=saved.height_px)

    async def _prune(self, added: Sequence[Path]) -> None:
        removed = await asyncio.to_thread(self._bounds.after, added, now=self.clock.now())
        if removed:
            logger.info("removed %d kept pictures from %s", len(removed), self.rules.folder)
