"""Turn each source picture of `remix_image` into a URL that RunAPI can fetch.

A public link stays as it is. A file, an inbound reference and a `data:` URL are checked, freed of metadata and
uploaded. `task:ID` and `task:last` stand for the first picture of an earlier task, because a signed link reaches a
model masked and a model that repeats it repeats a dead one. Everything is read and checked before anything is uploaded.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from flux2_tool._clock import iso_utc
from flux2_tool._net import is_private_host
from flux2_tool.context import CallContext
from flux2_tool.exceptions import (
    ContentRefusedError,
    Flux2Error,
    GenerationFailedError,
    SourceRefusedError,
    TaskNotFoundError,
    UnexpectedAnswerError,
)
from flux2_tool.images.inspect import Picture, PictureError, read_picture, without_metadata
from flux2_tool.images.safe_open import (
    MAX_SOURCE_BYTES,
    SourcePlaces,
    inbound_folder,
    path_of,
    read_saved_copy,
    read_source,
    too_large,
)
from flux2_tool.runapi import contract
from flux2_tool.schema.task_ref import TaskRef
from flux2_tool.tasks.task import ImageTask

_LIMITS_HINT: Final = "Use a PNG, JPEG, WebP or GIF picture within the limits."


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceHelp:
    """What resolving needs from the rest of the tool.

    Attributes:
        find_task: Brings the image task that a reference names; asks RunAPI when this process never saw it.
        upload: Brings a picture to RunAPI and returns its URL; also given the argument's name for errors.
        places: Where files may lie.
        keep_metadata: Whether pictures go out with their metadata.
        now: The wall clock.
    """

    find_task: Callable[[TaskRef], Awaitable[ImageTask]]
    upload: Callable[[Picture, str], Awaitable[str]]
    places: SourcePlaces
    keep_metadata: bool
    now: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSources:
    """URLs to send, in order, and what makes requests with these sources equal: content, not temporary links."""

    urls: list[str]
    identities: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    identity: str
    url: str | None = None
    picture: Picture | None = None


async def resolve_sources(sources: Sequence[str], help_: SourceHelp) -> ResolvedSources:
    """Return one URL per source.

    Args:
        sources: As the agent gave them, already validated.
        help_: The rest of the tool.

    Raises:
        SourceRefusedError: A source may not or cannot be used; the message names it and the rule. No image was
            requested, and when a source was refused nothing was uploaded.
        Flux2Error: An upload failed.
    """
    names = [f"source_image_urls[{index}]" for index in range(len(sources))]
    decoding = asyncio.Semaphore(1)  # a decoded picture is large
    found = await asyncio.gather(
        *(_check(source, where, help_, decoding) for source, where in zip(sources, names, strict=True)),
        return_exceptions=True,
    )
    checked = [_unless_failed(item) for item in found]

    async def url_of(item: _Checked, where: str) -> str:
        if item.url is not None:
            return item.url
        assert item.picture is not None  # noqa: S101 - one of the two is set
        return await help_.upload(item.picture, where)

    urls = await asyncio.gather(*(url_of(item, where) for item, where in zip(checked, names, strict=True)))
    return ResolvedSources(urls=list(urls), identities=[item.identity for item in checked])


def source_places(caller: CallContext, source_roots: tuple[Path, ...]) -> SourcePlaces:
    """Return where a caller's source files may lie; configured roots stand in the workspace's place."""
    workspace = () if caller.workspace_dir is None else (caller.workspace_dir,)
    staged = None
    if caller.state_dir is not None and caller.workspace_dir is not None:
        staged = inbound_folder(caller.workspace_dir)
    return SourcePlaces(
        roots=None if caller.any_folder else (*(source_roots or workspace), *caller.source_dirs),
        workspace=caller.workspace_dir,
        inbound=None if caller.state_dir is None else inbound_folder(caller.state_dir),
        staged=staged,
        inbound_only=caller.sandboxed,
    )


def _unless_failed(found: _Checked | BaseException) -> _Checked:
    if isinstance(found, BaseException):
        raise found
    return found


async def _check(source: str, where: str, help_: SourceHelp, decoding: asyncio.Semaphore) -> _Checked:
    scheme = source.split(":", 1)[0].lower()
    if scheme in ("http", "https"):
        _check_link(source, where)
        return _Checked(identity=source, url=source)
    ref = TaskRef.parse_source(source)
    if ref is not None:
        return await _check_task(ref, where, help_, decoding)
    async with decoding:
        if scheme == "data":
            return await _check_bytes(_data_of(source, where), where, help_)
        path = path_of(source, help_.places, where=where)
        data = await asyncio.to_thread(read_source, path, help_.places, where=where)
        return await _check_bytes(data, where, help_)


def _check_link(source: str, where: str) -> None:
    parts = urlsplit(source)
    if parts.username is not None or parts.password is not None:
        raise SourceRefusedError(
            f"{where} was refused: a link must not carry a user name or password. Nothing was sent.",
            hint="Use a public link.",
        )
    if is_private_host(parts.hostname or ""):
        raise SourceRefusedError(
            f"{where} was refused: its link leads to a private address, which RunAPI cannot and must not fetch. "
            "Nothing was sent.",
            hint="Use a public link, a file of the workspace, or task:ID.",
        )


async def _check_task(ref: TaskRef, where: str, help_: SourceHelp, decoding: asyncio.Semaphore) -> _Checked:
    try:
        image_task = await help_.find_task(ref)
    except (TaskNotFoundError, GenerationFailedError, ContentRefusedError, UnexpectedAnswerError) as exc:
        raise SourceRefusedError(
            f"{where}: {ref} cannot be used: {exc.message}",
            hint="Use the ref of a task of this conversation that brought a picture, or a public image link.",
            task_id=exc.task_id,
        ) from exc
    except Flux2Error as exc:
        # The source is not at fault, and whatever its own task cost, this call has cost nothing.
        exc.charged = "no"
        raise
    if image_task.final is None or not image_task.final.images:
        raise SourceRefusedError(
            f"{where}: {ref} is not finished yet.",
            hint=f'Call get_image_task with task_id "{image_task.task_id}" first, then use it as a source.',
            task_id=image_task.task_id,
        )
    identity = str(TaskRef.text_of(image_task.task_id))
    link = image_task.final.images[0]
    expires_at = link.expires_at or image_task.expires_at(link)
    needed_until = help_.now() + (contract.SOURCE_SPARE_LIFE_S if image_task.saved else 0.0)
    if expires_at is None or expires_at > iso_utc(needed_until):
        return _Checked(identity=identity, url=link.url)
    if not image_task.saved:
        raise SourceRefusedError(
            f"{where}: the picture of {ref} has expired at {expires_at} and there is no saved copy.",
            hint="Use another picture; set save_dir so that pictures are kept.",
            task_id=image_task.task_id,
        )
    async with decoding:
        data = await asyncio.to_thread(read_saved_copy, Path(image_task.saved[0].path), where=where)
        return _Checked(identity=identity, picture=(await _check_bytes(data, where, help_)).picture)


async def _check_bytes(data: bytes, where: str, help_: SourceHelp) -> _Checked:
    try:
        picture = await asyncio.to_thread(read_picture if help_.keep_metadata else without_metadata, data)
    except PictureError as exc:
        raise SourceRefusedError(f"{where} was refused: it {exc}. Nothing was sent.", hint=_LIMITS_HINT) from exc
    return _Checked(identity=f"sha256:{hashlib.sha256(data).hexdigest()}", picture=picture)


def _data_of(source: str, where: str) -> bytes:
    head, _, text = source.partition(",")
    if not head.lower().endswith(";base64"):
        raise SourceRefusedError(
            f"{where} was refused: a data: URL must be base64. Nothing was sent.", hint="Use data:image/png;base64,…"
        )
    if len(text) > MAX_SOURCE_BYTES * 4 // 3 + 4:
        raise too_large(where, len(text) * 3 // 4)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise SourceRefusedError(
            f"{where} was refused: the data: URL's base64 is broken. Nothing was sent.", hint=_LIMITS_HINT
        ) from exc
