"""Save a finished image task's pictures and report their paths and sizes, within what is left of the call's wait.

Just after a picture was made its storage may not have it yet, or be busy: it is fetched again. One that cannot be saved
is a warning, never a failed result: it exists, its link works, and the warning names the command that fetches it later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx

from flux2_tool._characters import shell_word
from flux2_tool._clock import Clock, iso_utc
from flux2_tool.engine.accounts import Accounts
from flux2_tool.engine.host_profile import HostProfile
from flux2_tool.engine.keeping import Keeper, KeepRules
from flux2_tool.engine.runtime import Runtime
from flux2_tool.engine.save_targets import SaveTarget, is_of_format
from flux2_tool.engine.wait import PROGRESS_EVERY_S, ToolCall, report_progress, unless_cancelled
from flux2_tool.images.decoder import Decoder
from flux2_tool.images.download import DownloadError, SavedImage, download_image, file_stem
from flux2_tool.images.part_file import copied
from flux2_tool.journal import SavedCopy
from flux2_tool.runapi.backoff import parse_retry_after
from flux2_tool.runapi.image_links import ImageLink
from flux2_tool.schema.results import ImageInfo
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.settings import Settings
from flux2_tool.tasks.kept_records import KeptRecords
from flux2_tool.tasks.task import ImageTask

logger = logging.getLogger(__name__)

# Extra time to save an image that completes as the wait ends; the host may give up soon after.
SAVE_GRACE_S: Final = 0.75
NOT_SAVED: Final = "not_saved"
# The pauses between attempts; after the last one it is given up.
_PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0)
# For a failure that may be final as well, such as a 404: storage that is late has it within seconds.
_PAUSES_WHILE_FRESH_S: Final = _PAUSES_S[:4]
# How long after its end a task's link may not work yet.
_FRESH_S: Final = 300.0


@dataclass(slots=True, kw_only=True)
class PictureSaver:
    """Saves the pictures of one engine's tasks.

    Attributes:
        clock: Time.
        decoder: Decodes the pictures.
        keeper: Keeps a copy of each for a while; None where none are kept.
    """

    clock: Clock
    decoder: Decoder
    keeper: Keeper | None = None

    async def image_infos(
        self,
        call: ToolCall,
        image_task: ImageTask,
        targets: Sequence[SaveTarget],
        *,
        http: httpx.AsyncClient,
        loopback_allowed: bool,
        number: int | None = None,
    ) -> tuple[list[ImageInfo], list[str]]:
        """Return the pictures' entries, saved first to each target, and warnings.

        Args:
            call: Its deadline, cancellation and progress callback apply.
            image_task: Any; one that is not completed has the pictures of its last response, if any.
            targets: Where to save; the first one's paths are reported. None only reports copies saved earlier.
            http: A client without a key.
            loopback_allowed: Whether plain http to this machine is fine, as it is for a sandbox.
            number: Which of the call's tasks it is, from 1; None if there is one only.
        """
        saving = _Saving(
            saver=self,
            call=call,
            image_task=image_task,
            http=http,
            loopback_allowed=loopback_allowed,
            until_s=max(call.deadline_s, self.clock.monotonic()) + SAVE_GRACE_S,
            number=number,
        )
        recorded = dict(enumerate(image_task.saved))
        shown = dict(recorded)
        if targets and image_task.state == "completed":
            for index in range(len(_links(image_task))):
                copies = await saving.with_progress(index, targets, recorded.get(index))
                if copies:
                    # The last target is the setting's, where pictures are kept for good.
                    shown[index], recorded[index] = copies[0], copies[-1]
            if image_task.record_handle is not None and recorded:
                image_task.record_handle.saved(list(recorded.values()))
        if self.keeper is not None and image_task.state == "completed":
            self.keeper.keep(image_task, passing=[target.folder for target in targets])
        return _infos(image_task, shown), saving.warnings

    async def kept(self, copy: SavedCopy | None) -> SavedImage | None:
        """Return a kept copy that is still there, to be copied instead of fetched."""
        path = None if copy is None or self.keeper is None else Path(copy.path)
        if copy is None or self.keeper is None or path is None or not self.keeper.owns(path):
            return None
        is_there = await asyncio.to_thread(path.is_file)
        size_px = {"width_px": copy.width_px, "height_px": copy.height_px}
        return SavedImage(path=path, own_suffix=path.suffix, **size_px) if is_there else None

    async def aclose(self) -> None:
        """End what runs beside the calls."""
        if self.keeper is not None:
            await self.keeper.aclose()


def saver_of(
    settings: Settings, host: HostProfile, runtime: Runtime, records: KeptRecords, accounts: Accounts
) -> PictureSaver:
    """Return the saver of an engine, with a keeper where the host and the settings want one."""
    rules, clock, decoder = KeepRules.of(settings, host), runtime.clock, runtime.decoder
    keeper = None
    if rules is not None:
        keeper = Keeper(rules=rules, records=records, clock=clock, decoder=decoder, http_of=accounts.http)
    return PictureSaver(clock=clock, decoder=decoder, keeper=keeper)


@dataclass(slots=True, kw_only=True)
class _Saving:
    """The pictures of one task while one call saves them."""

    saver: PictureSaver
    call: ToolCall
    image_task: ImageTask
    http: httpx.AsyncClient
    loopback_allowed: bool
    until_s: float
    number: int | None
    warnings: list[str] = field(default_factory=list)

    async def with_progress(
        self, index: int, targets: Sequence[SaveTarget], earlier: SavedCopy | None
    ) -> list[SavedCopy]:
        """Save one picture to every target, report that it takes time, and return the copies that there are."""
        call, clock = self.call, self.saver.clock
        done = asyncio.Event()
        work = asyncio.ensure_future(unless_cancelled(self._saved(index, targets, earlier), call.cancel))
        work.add_done_callback(lambda _work: done.set())
        try:
            while not done.is_set():
                task_id = self.image_task.task_id
                report_progress(call, "saving", "saving the picture", now_s=clock.monotonic(), task_id=task_id)
                await clock.wait(done, PROGRESS_EVERY_S)
            copies = work.result()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        if copies is None:
            self._warn_unsaved("the call was stopped during the download", targets[0], index)
        return copies or []

    async def _saved(self, index: int, targets: Sequence[SaveTarget], earlier: SavedCopy | None) -> list[SavedCopy]:
        copies: list[SavedCopy] = []
        source = await self.saver.kept(earlier)
        for target in targets:
            is_there = earlier is not None and target.name is None and Path(earlier.path).parent == target.folder
            if is_there and earlier is not None and await asyncio.to_thread(Path(earlier.path).is_file):
                copies.append(earlier)
                continue
            try:
                source = await self._to(target, index, source)
            except DownloadError as exc:
                self._warn_unsaved(str(exc), target, index)
            except Exception as exc:  # whatever it is, the picture is paid and its link works
                logger.exception("a picture could not be saved because of a defect")
                self._warn_unsaved(type(exc).__name__, target, index)
            else:
                copies.append(SavedCopy(path=str(source.path), width_px=source.width_px, height_px=source.height_px))
        return copies

    async def _to(self, target: SaveTarget, index: int, source: SavedImage | None) -> SavedImage:
        """Save one picture to one target, from the network or from where it was saved a moment ago."""
        task = self.image_task
        usual_stem = file_stem(at=self._finished_at(), slug=task.label or "image", task_id=task.task_id)
        stem, suffix = target.names_of(usual_stem, *self._numbers(index))
        if source is None:
            saved = await self._fetched(_links(task)[index], target.folder, stem, suffix)
        else:
            given = source.own_suffix if suffix is None else suffix
            try:
                path = await asyncio.to_thread(copied, source.path, target.folder, stem, given)
            except OSError as exc:
                raise DownloadError(f"it could not be written to {target.folder}: {exc.strerror}") from exc
            saved = SavedImage(
                path=path, width_px=source.width_px, height_px=source.height_px, own_suffix=source.own_suffix
            )
        if suffix is not None:
            self._warn_of_name(saved, f"{stem}{suffix}")
        return saved

    def _numbers(self, index: int) -> list[int]:
        """Return what tells a picture of the task from the others of the call: nothing for the only one."""
        of_task = [index + 1] if len(_links(self.image_task)) > 1 else []
        return of_task if self.number is None else [self.number, *of_task]

    async def _fetched(self, link: ImageLink, folder: Path, stem: str, suffix: str | None) -> SavedImage:
        """Download a picture, again and again while that makes sense and the call's wait lasts."""
        clock, until_s = self.saver.clock, self.until_s
        for attempt in range(len(_PAUSES_S) + 1):
            try:
                return await download_image(
                    self.http,
                    link.url,
                    folder,
                    stem,
                    suffix=suffix,
                    loopback_allowed=self.loopback_allowed,
                    timeout_s=max(0.0, until_s - clock.monotonic()),
                    decoder=self.saver.decoder,
                )
            except DownloadError as exc:
                pause_s = self._pause_s(exc, attempt, link)
                if pause_s is None or clock.monotonic() + pause_s >= until_s:
                    raise
            await clock.sleep(pause_s)
        raise AssertionError  # pragma: no cover - there is no pause after the last attempt

    def _pause_s(self, error: DownloadError, attempt: int, link: ImageLink) -> float | None:
        """Return how long to wait before the next attempt, in seconds; None if there is none."""
        now = self.saver.clock.now()
        pauses: Sequence[float] = _PAUSES_S
        if error.again == "while fresh":
            expires_at = link.expires_at or self.image_task.expires_at(link)
            is_expired = expires_at is not None and expires_at <= iso_utc(now)
            is_fresh = not is_expired and now - self._finished_at() <= _FRESH_S
            pauses = _PAUSES_WHILE_FRESH_S if is_fresh else ()
        if error.again == "no" or attempt >= len(pauses):
            return None
        asked_s = parse_retry_after(error.retry_after, now=datetime.fromtimestamp(now, tz=UTC))
        return max(pauses[attempt], asked_s or 0.0)

    def _finished_at(self) -> float:
        finished_at = self.image_task.finished_at
        return self.saver.clock.now() if finished_at is None else finished_at

    # ---- warnings ----------------------------------------------------------------------------------------------------

    def _warn_unsaved(self, why: str, target: SaveTarget, index: int) -> None:
        ref = TaskRef.text_of(self.image_task.task_id)
        stem, suffix = target.names_of("", *self._numbers(index)[:1])
        place = target.folder if suffix is None else target.folder / f"{stem}{suffix}"
        words = "" if ref is None else f"{shell_word(ref)} --output {shell_word(str(place))}"
        later = words and f"; fetch it later with: flux2-tool task {words}"
        self.warnings.append(f"{NOT_SAVED}: the picture was made but could not be saved: {why}{later}")

    def _warn_of_name(self, saved: SavedImage, asked: str) -> None:
        name = saved.path.name
        if name != asked:
            self.warnings.append(f"renamed: {asked} is another file already; the picture was saved as {name}")
        if not is_of_format(saved.path.suffix, saved.own_suffix):
            self.warnings.append(
                f"other_format: {name} has the format {saved.own_suffix[1:].upper()}, whatever its name says"
            )


def _infos(image_task: ImageTask, copies: Mapping[int, SavedCopy]) -> list[ImageInfo]:
    return [
        ImageInfo(
            url=link.url,
            expires_at=image_task.expires_at(link),
            path=copies[index].path if index in copies else None,
            width_px=copies[index].width_px or None if index in copies else None,
            height_px=copies[index].height_px or None if index in copies else None,
            # A reference as a source is the task's first picture; another of the same task has only its link.
            task_ref=TaskRef.text_of(image_task.task_id) if index == 0 else None,
        )
        for index, link in enumerate(_links(image_task))
    ]


def _links(image_task: ImageTask) -> tuple[ImageLink, ...]:
    response = image_task.final if image_task.state == "completed" else image_task.log.last_response
    return () if response is None else response.images
