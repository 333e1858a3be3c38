"""One call's source pictures: looked up, checked and uploaded within the wait that the call has.

Nothing is paid here. An upload that the call has stopped to wait for goes on, so that the next call finds it done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final

import httpx

from flux2_tool._clock import Clock
from flux2_tool.context import CallContext
from flux2_tool.engine.sources import ResolvedSources, SourceHelp, resolve_sources, source_places
from flux2_tool.engine.wait import PROGRESS_EVERY_S, SUBMIT_GRACE_S, Call, tell, wait_for
from flux2_tool.exceptions import CancelledCallError, ServiceUnavailableError
from flux2_tool.images.inspect import Picture
from flux2_tool.runapi.uploads import Uploads
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.settings import Settings
from flux2_tool.tasks.registry import Registry
from flux2_tool.tasks.task import ImageTask

SOURCE_LOOKUP_WAIT_S: Final = 15.0


class SourceResolver:
    """What brings the sources of one process's calls.

    Args:
        registry: Knows earlier tasks.
        uploads: Brings pictures to RunAPI.
        settings: Where files may lie, and whether they keep their metadata.
        clock: Time.
    """

    def __init__(self, *, registry: Registry, uploads: Uploads, settings: Settings, clock: Clock) -> None:
        self._registry = registry
        self._uploads = uploads
        self._settings = settings
        self._clock = clock

    async def gather(
        self, call: Call, caller: CallContext, sources: Sequence[str], *, storage: httpx.AsyncClient
    ) -> ResolvedSources:
        """Return one URL per source before the call's wait ends; the wait is then at least not over for the image.

        Args:
            call: Whose wait and progress it is.
            caller: Decides which tasks and folders may be used.
            sources: As the agent gave them, already validated.
            storage: Carries no key of its own; sends the bytes.

        Raises:
            CancelledCallError: The host stopped the call.
            ServiceUnavailableError: The wait ended first.
            Flux2Error: As `resolve_sources`.
        """
        uploading: set[str] = set()
        help_ = self._help(call, caller, storage, uploading)
        resolved = await self._within_wait(call, resolve_sources(sources, help_), uploading)
        # What follows is the POST: it gets its own short grace even where the sources have used up the wait.
        call.deadline_s = max(call.deadline_s, self._clock.monotonic())
        return resolved

    def _help(self, call: Call, caller: CallContext, storage: httpx.AsyncClient, uploading: set[str]) -> SourceHelp:
        account = call.account

        async def find_task(ref: TaskRef) -> ImageTask:
            image_task = self._registry.find(account, ref, caller=caller, as_source=True)
            if not image_task.is_over:
                deadline_s = min(call.deadline_s, self._clock.monotonic() + SOURCE_LOOKUP_WAIT_S)
                # Several are looked up at once, so each wait is woken by its own.
                own = replace(call, wake=asyncio.Event())
                await wait_for(own, image_task, clock=self._clock, deadline_s=deadline_s, until_answered=True)
            if image_task.error is not None:
                raise image_task.error
            return image_task

        async def upload(picture: Picture, where: str) -> str:
            uploading.add(where)
            call.wake.set()
            try:
                return await self._uploads.url_of(
                    account.client, storage, fingerprint=account.fingerprint, picture=picture, where=where
                )
            finally:
                uploading.discard(where)

        return SourceHelp(
            find_task=find_task,
            upload=upload,
            places=source_places(caller, self._settings.source_roots),
            keep_metadata=self._settings.keep_metadata,
            now=self._clock.now,
        )

    async def _within_wait(
        self, call: Call, work: Coroutine[Any, Any, ResolvedSources], uploading: set[str]
    ) -> ResolvedSources:
        # A wait of nothing still has time for a quick upload, as it has for the POST.
        deadline_s = max(call.deadline_s, call.begun_s + SUBMIT_GRACE_S)
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _task: call.wake.set())
        call.cancel.watch(call.wake)
        told, told_at_s = "", float("-inf")
        try:
            while not task.done():
                call.wake.clear()
                if call.cancel.is_set:
                    raise CancelledCallError("The call was stopped before anything was sent.", charged="no")
                now_s = self._clock.monotonic()
                if now_s >= deadline_s:
                    raise _late(uploading, now_s - call.begun_s)
                message = _message(uploading)
                if message and (message != told or now_s - told_at_s >= PROGRESS_EVERY_S):
                    told, told_at_s = message, now_s
                    tell(call, "preparing", message, now_s=now_s)
                await self._clock.wait(call.wake, min(deadline_s - now_s, PROGRESS_EVERY_S))
            return task.result()
        finally:
            call.cancel.unwatch(call.wake)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _message(uploading: set[str]) -> str:
    if not uploading:
        return ""
    return "uploading the picture" if len(uploading) == 1 else f"uploading {len(uploading)} pictures"


def _late(uploading: set[str], waited_s: float) -> ServiceUnavailableError:
    what = f"{', '.join(sorted(uploading))} was not uploaded" if uploading else "the source pictures were not ready"
    return ServiceUnavailableError(
        f"Within the {waited_s:.0f} s of this call's wait {what}. No image was requested.",
        hint="Call again with exactly the same arguments in a minute; what has been uploaded by then is used.",
    )
