"""Turn each source picture of a call into a URL that RunAPI can fetch, within the call's wait.

A public link stays as it is. A file, an inbound reference and a `data:` URL are checked, stripped of metadata and
uploaded. `task:ID` and `task:last` refer to the first picture of an earlier task: a model sees signed links redacted,
so a link that it copies does not work. Everything is read and checked before anything is uploaded, and nothing is paid
here. An upload continues after its call has stopped waiting, so that the next call can use it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from flux2_tool._clock import Alarm, Clock, iso_utc
from flux2_tool.context import CallContext
from flux2_tool.engine.source_checks import (
    CheckedSource,
    all_refusals,
    checked_file,
    checked_link,
    checked_picture,
    source_places,
)
from flux2_tool.engine.wait import (
    LOOKUP_WAIT_S,
    PROGRESS_EVERY_S,
    SUBMIT_GRACE_S,
    ToolCall,
    raise_error_of,
    report_progress,
    wait_for,
)
from flux2_tool.exceptions import (
    CancelledCallError,
    ContentRefusedError,
    Flux2Error,
    GenerationFailedError,
    ServiceUnavailableError,
    SourceRefusedError,
    TaskNotFoundError,
    UnexpectedAnswerError,
)
from flux2_tool.images.decoder import Decoder, PictureCopy
from flux2_tool.images.open_files import opened
from flux2_tool.images.safe_open import open_saved_copy
from flux2_tool.images.source_names import meant
from flux2_tool.images.source_places import SourcePlaces
from flux2_tool.images.source_refusals import ask_for_it
from flux2_tool.runapi import contract
from flux2_tool.runapi.uploads import Uploads
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.settings import Settings
from flux2_tool.tasks.registry import Registry
from flux2_tool.tasks.task import ImageTask

# How long the work on a picture may go on after its call's wait has ended; with its end, within a second.
PICTURE_GRACE_S: Final = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSources:
    """The URLs to send, in order, and the identities that deduplication compares; for both see `CheckedSource`."""

    urls: list[str]
    identities: list[str]
    warnings: list[str] = field(default_factory=list)


class SourceResolver:
    """Resolves the sources of one process's calls.

    Args:
        registry: Finds earlier tasks.
        uploads: Uploads pictures to RunAPI.
        settings: The folders for source files, and whether pictures keep their metadata.
        clock: Time.
        decoder: Decodes pictures.
    """

    def __init__(
        self, *, registry: Registry, uploads: Uploads, settings: Settings, clock: Clock, decoder: Decoder
    ) -> None:
        self.decoder = decoder
        self.registry = registry
        self.uploads = uploads
        self.settings = settings
        self.clock = clock

    async def resolve(
        self, call: ToolCall, caller: CallContext, sources: Sequence[str], *, storage: httpx.AsyncClient
    ) -> ResolvedSources:
        """Return one URL per source before the call's wait ends; afterwards the call's deadline is at least now.

        Args:
            call: Its deadline, cancellation and progress callback apply.
            caller: Decides which tasks and folders may be used.
            sources: As given by the agent, already validated.
            storage: An HTTP client without a key, for the uploaded bytes.

        Raises:
            SourceRefusedError: A source may not or cannot be used; the message names it and the rule. No image was
                requested, and when a source was refused nothing was uploaded.
            CancelledCallError: The host stopped the call.
            ServiceUnavailableError: The wait ended first.
            Flux2Error: An upload failed.
        """
        one = self._of_call(call, caller, storage)
        resolved = await one.within_wait(sources)
        # The POST comes next: it gets its own short grace even if the sources have used up the wait.
        call.deadline_s = max(call.deadline_s, self.clock.monotonic())
        return resolved

    async def aclose(self) -> None:
        """Stop the uploads that no call waits for."""
        await self.uploads.aclose()

    async def check(
        self, call: ToolCall, caller: CallContext, sources: Sequence[str], *, storage: httpx.AsyncClient
    ) -> ResolvedSources:
        """Return the sources without URLs: as `resolve`, but nothing is uploaded."""
        return await self._of_call(call, caller, storage, uploads=False).within_wait(sources)

    def _of_call(
        self, call: ToolCall, caller: CallContext, storage: httpx.AsyncClient, *, uploads: bool = True
    ) -> _CallSources:
        places = source_places(caller, self.settings.source_roots)
        return _CallSources(owner=self, call=call, caller=caller, storage=storage, places=places, uploads=uploads)


@dataclass(slots=True, kw_only=True)
class _CallSources:
    """The sources of one call while they are resolved."""

    owner: SourceResolver
    call: ToolCall
    caller: CallContext
    storage: httpx.AsyncClient
    places: SourcePlaces
    uploads: bool
    uploading: set[str] = field(default_factory=set)
    looked_up: list[ImageTask] = field(default_factory=list)
    # One at a time, so that a call with eight pictures leaves the line to others.
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    # ---- within the call's wait --------------------------------------------------------------------------------------

    async def within_wait(self, sources: Sequence[str]) -> ResolvedSources:
        """Resolve the sources and report progress, until they are ready, the wait is over or the host stops it."""
        call, clock = self.call, self.owner.clock
        # Even wait 0 has time for a quick upload, as it has for the POST.
        deadline_s = max(call.deadline_s, call.begun_s + SUBMIT_GRACE_S)
        task = asyncio.ensure_future(self._resolved(sources))
        task.add_done_callback(lambda _task: call.wake.set())
        call.cancel.watch(call.wake)
        last_message, reported_at_s = "", float("-inf")
        try:
            while not task.done():
                call.wake.clear()
                if call.cancel.is_set:
                    raise CancelledCallError("The call was stopped before anything was sent.", charged="no")
                now_s = clock.monotonic()
                if now_s >= deadline_s:
                    raise self._late(now_s - call.begun_s)
                message = self._message()
                if message and (message != last_message or now_s - reported_at_s >= PROGRESS_EVERY_S):
                    last_message, reported_at_s = message, now_s
                    report_progress(call, "preparing", message, now_s=now_s)
                await clock.wait(call.wake, min(deadline_s - now_s, PROGRESS_EVERY_S))
            return task.result()
        finally:
            call.cancel.unwatch(call.wake)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _message(self) -> str:
        if not self.uploading:
            return ""
        return "uploading the picture" if len(self.uploading) == 1 else f"uploading {len(self.uploading)} pictures"

    def _late(self, waited_s: float) -> ServiceUnavailableError:
        names = ", ".join(sorted(self.uploading))
        problem = f"{names} was not uploaded" if names else "the source pictures were not ready"
        for image_task in self.looked_up:
            if image_task.log.last_response is None and image_task.log.last_failure is not None:
                reason = image_task.log.last_failure.message
                problem = f"RunAPI reported no status of task {image_task.task_id}: {reason}"
        return ServiceUnavailableError(
            f"Within the {waited_s:.0f} s of this call's wait {problem}. No image was requested.",
            hint="Call again with exactly the same arguments in a minute; what has been uploaded by then is used.",
        )

    # ---- check all, then upload --------------------------------------------------------------------------------------

    async def _resolved(self, sources: Sequence[str]) -> ResolvedSources:
        names = [f"source_image_urls[{index}]" for index in range(len(sources))]
        checks = (self._check(source, where) for source, where in zip(sources, names, strict=True))
        found = await asyncio.gather(*checks, return_exceptions=True)
        refused = [item for item in found if isinstance(item, SourceRefusedError)]
        if refused:
            raise all_refusals(refused)
        checked = [_unless_failed(item) for item in found]
        urls = []
        if self.uploads:
            found_urls = (self._url_of(item, where) for item, where in zip(checked, names, strict=True))
            urls = await asyncio.gather(*found_urls)
        return ResolvedSources(
            urls=urls,
            identities=[item.identity for item in checked],
            warnings=[warning for item in checked for warning in item.warnings],
        )

    async def _check(self, source: str, where: str) -> CheckedSource:
        source = meant(source)
        if source.lower().startswith(("http:", "https:")):
            return checked_link(source, where, places=self.places)
        ref = TaskRef.parse_source(source)
        if ref is not None:
            return await self._check_task(ref, where)
        async with self._within_wait():
            return await checked_file(
                source,
                where,
                places=self.places,
                decoder=self.owner.decoder,
                keep_metadata=self.owner.settings.keep_metadata,
            )

    @asynccontextmanager
    async def _within_wait(self) -> AsyncIterator[None]:
        """Decode one picture of this call at a time, and none for longer than the call waits."""
        call, clock = self.call, self.owner.clock
        left_s = max(0.0, call.deadline_s - clock.monotonic()) + PICTURE_GRACE_S
        try:
            async with asyncio.timeout(left_s), self.decoding:
                yield
        except TimeoutError as exc:
            raise self._late(clock.monotonic() - call.begun_s) from exc

    async def _url_of(self, item: CheckedSource, where: str) -> str:
        if item.url is not None:
            return item.url
        assert item.picture is not None  # noqa: S101 - one of the two is set
        return await self._upload(item.picture, where)

    async def _upload(self, picture: PictureCopy, where: str) -> str:
        account = self.call.account
        self.uploading.add(where)
        self.call.wake.set()
        try:
            return await self.owner.uploads.url_of(
                account.client, self.storage, fingerprint=account.fingerprint, picture=picture, where=where
            )
        finally:
            self.uploading.discard(where)

    # ---- the picture of an earlier task ------------------------------------------------------------------------------

    async def _check_task(self, ref: TaskRef, where: str) -> CheckedSource:
        try:
            image_task = await self._find_task(ref)
        except (TaskNotFoundError, GenerationFailedError, ContentRefusedError, UnexpectedAnswerError) as exc:
            raise SourceRefusedError(
                f"{where}: {ref} cannot be used: {exc.message}",
                hint=ask_for_it(
                    self.places,
                    "use the ref of a task of this conversation that has a picture, or a public image link.",
                ),
                task_id=exc.task_to_fetch,
            ) from exc
        except Flux2Error as exc:
            # The source is not at fault, and this call has cost nothing, whatever the source's task did.
            exc.charged = "no"
            raise
        task_id = image_task.task_id
        if task_id is None or image_task.final is None or not image_task.final.images:
            raise SourceRefusedError(
                f"{where}: {ref} is not finished yet.",
                hint=f'Call get_image_task with task_id "{task_id}" first, then use it as a source.',
                task_id=task_id,
            )
        identity = str(TaskRef(task_id))
        link = image_task.final.images[0]
        expires_at = link.expires_at or image_task.expires_at(link)
        spare_s = contract.SOURCE_SPARE_LIFE_S if image_task.saved else 0.0
        if expires_at is None or expires_at > iso_utc(self.owner.clock.now() + spare_s):
            return CheckedSource(identity=identity, url=link.url)
        if not image_task.saved:
            raise SourceRefusedError(
                f"{where}: the picture of {ref} has expired at {expires_at} and there is no saved copy.",
                hint=ask_for_it(self.places, "use another picture; with the setting save_dir pictures are kept."),
                task_id=task_id,
            )
        async with self._within_wait():
            path = Path(image_task.saved[0].path)
            with await opened(partial(open_saved_copy, path, where=where)) as file:
                picture = await checked_picture(
                    file, where, decoder=self.owner.decoder, keep_metadata=self.owner.settings.keep_metadata
                )
        return CheckedSource(identity=identity, picture=picture)

    async def _find_task(self, ref: TaskRef) -> ImageTask:
        """Return the image task of a reference, after a poll unless it is over."""
        call, clock = self.call, self.owner.clock
        image_task = await self.owner.registry.find(call.account, ref, caller=self.caller, as_source=True)
        if not image_task.is_over:
            deadline_s = min(call.deadline_s, clock.monotonic() + LOOKUP_WAIT_S)
            # Several are looked up at once, so each wait needs an event of its own.
            own = replace(call, wake=Alarm())
            self.looked_up.append(image_task)
            await wait_for(own, [image_task], clock=clock, deadline_s=deadline_s, until_response=True)
        await self.owner.registry.check_lookup(image_task, self.caller)
        raise_error_of(image_task)
        return image_task


def _unless_failed(found: CheckedSource | BaseException) -> CheckedSource:
    if isinstance(found, BaseException):
        raise found
    return found
