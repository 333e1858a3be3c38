"""Check source pictures: links that RunAPI may fetch, files in allowed folders, bytes that are a picture.

No network and no tasks; `source_resolver.py` handles those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from flux2_tool._net import is_private_url, split_url
from flux2_tool.context import CallContext
from flux2_tool.exceptions import SourceRefusedError
from flux2_tool.images.data_url import DataUrlError, data_of, is_data_url
from flux2_tool.images.decode_limits import MAX_SOURCE_BYTES
from flux2_tool.images.decoder import Decoder, PictureCopy
from flux2_tool.images.errors import PictureError
from flux2_tool.images.inspect import HEIC_HINT, SEND_AS_JPEG
from flux2_tool.images.open_files import nameless_file, opened
from flux2_tool.images.source_paths import open_named
from flux2_tool.images.source_places import SourcePlaces, inbound_folder
from flux2_tool.images.source_refusals import ELSE, ask_for_it, too_large
from flux2_tool.schema.install_text import install_extra_text
from flux2_tool.schema.installation import this_installation

_LIMITS_HINT: Final = "Use a PNG, JPEG or WebP picture within the limits."
# RunAPI publishes no limit; another reseller of the same model names this one.
DOCUMENTED_BYTES: Final = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSource:
    """A source that may be used: its URL, or the picture that has to be uploaded first.

    Attributes:
        identity: What deduplication compares: a hash of the file, a task reference or a public link.
        warnings: What was changed of it, and what may surprise its sender.
    """

    identity: str
    url: str | None = None
    picture: PictureCopy | None = None
    warnings: tuple[str, ...] = ()


def source_places(caller: CallContext, source_roots: tuple[Path, ...]) -> SourcePlaces:
    """Return the folders for a caller's source files; configured roots replace the workspace."""
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


def checked_link(source: str, where: str, *, places: SourcePlaces) -> CheckedSource:
    """Return a public link as it is.

    Raises:
        SourceRefusedError: It carries a password, or leads to a private address.
    """
    parts = split_url(source)
    if parts.username is not None or parts.password is not None:
        raise SourceRefusedError(
            f"{where} was refused: a link must not carry a user name or password. Nothing was sent.",
            hint=ask_for_it(places, "use a public link without them."),
        )
    if is_private_url(source, loopback_allowed=False):
        raise SourceRefusedError(
            f"{where} was refused: its link leads to a private address, which RunAPI cannot and must not fetch. "
            "Nothing was sent.",
            hint=ask_for_it(places, "use a public link, a file of the workspace, or task:ID."),
        )
    return CheckedSource(identity=source, url=source)


async def checked_file(
    source: str, where: str, *, places: SourcePlaces, decoder: Decoder, keep_metadata: bool
) -> CheckedSource:
    """Return the picture of a path, an inbound reference or a data: URL.

    Raises:
        SourceRefusedError: It lies elsewhere, cannot be read, or is no picture within the limits.
    """
    if is_data_url(source):
        file = await opened(partial(_file_of_data, source, where, places))
    else:
        file = await opened(partial(open_named, source, places, where=where))
    with file:
        by_person = places.roots is None
        picture = await checked_picture(file, where, decoder=decoder, keep_metadata=keep_metadata, by_person=by_person)
    identity = f"sha256:{picture.facts.source_sha256}"
    return CheckedSource(identity=identity, picture=picture, warnings=_warnings_of(picture, where))


async def checked_picture(
    file: BinaryIO, where: str, *, decoder: Decoder, keep_metadata: bool, by_person: bool = False
) -> PictureCopy:
    """Return a copy of a file's picture as the service may have it, see `Decoder.copy`.

    Args:
        file: The picture's file.
        where: The argument's name, for errors.
        decoder: Decodes it.
        keep_metadata: Whether a file of a usual format is used as it is.
        by_person: Whether a person reads the errors, who can install what is missing; a chat's agent cannot.

    Raises:
        SourceRefusedError: It is no picture within the limits.
    """
    try:
        return await decoder.copy(file, keep_metadata=keep_metadata)
    except PictureError as exc:
        hint = exc.hint or _LIMITS_HINT
        if by_person and hint == HEIC_HINT:
            hint = f"{SEND_AS_JPEG}; or {install_extra_text('heic', this_installation(), command=['remix'])}"
        raise SourceRefusedError(f"{where} was refused: it {exc}. Nothing was sent.", hint=hint) from exc


def all_refusals(errors: Sequence[SourceRefusedError]) -> SourceRefusedError:
    """Return one error for all the sources that are refused, so that they are corrected in one go."""
    if len(errors) == 1:
        return errors[0]
    texts = [error.message.removesuffix(" Nothing was sent.") for error in errors]
    listed = " ".join(f"{number}. {text}" for number, text in enumerate(texts, 1))
    # How the user can bring a picture comes first, and once.
    parts = [error.hint.rpartition(ELSE) for error in errors if error.hint]
    hints = dict.fromkeys(
        [*(asked for asked, _, _ in parts if asked), *(rest[:1].upper() + rest[1:] for *_, rest in parts)]
    )
    task_id = next((error.task_id for error in errors if error.task_id), None)
    message = f"{len(errors)} source pictures were refused: {listed} Nothing was sent."
    return SourceRefusedError(message, hint=" ".join(hints), task_id=task_id)


def _file_of_data(source: str, where: str, places: SourcePlaces) -> BinaryIO:
    try:
        data = data_of(source, max_bytes=MAX_SOURCE_BYTES)
    except DataUrlError as exc:
        raise SourceRefusedError(
            f"{where} was refused: its data: URL {exc}. Nothing was sent.",
            hint=ask_for_it(
                places, "write it again, or use a file of the workspace: a long text is easily cut on its way."
            ),
        ) from exc
    if len(data) > MAX_SOURCE_BYTES:
        raise too_large(where, len(data))
    try:
        file = nameless_file()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.close()
            raise
    except OSError as exc:
        raise SourceRefusedError(
            f"{where} was refused: it could not be copied to be checked: {exc.strerror}. Nothing was sent.",
            hint="Make room for temporary files, then call again.",
        ) from exc
    return file


def _warnings_of(picture: PictureCopy, where: str) -> tuple[str, ...]:
    """Return what was changed of a picture, and what the service may make of it that its sender does not expect."""
    facts, found = picture.facts, list[str]()
    if facts.came_as:
        found.append(f"converted: {where} is {facts.came_as}; it was sent as a {facts.kind} of high quality")
    elif facts.kind == "GIF":
        found.append(f"undocumented_format: {where} is a GIF, which RunAPI does not promise to take; a PNG is safer")
    if facts.moves:
        found.append(f"first_frame: {where} has several frames or pages; an edit is made of the first")
    if facts.size_bytes > DOCUMENTED_BYTES:
        size = f"{facts.size_bytes / 1_000_000:.1f} MB"
        found.append(f"large_source: {where} has {size}; RunAPI does not promise to take more than 10 MB")
    return tuple(found)
