"""Check source pictures: links that RunAPI may fetch, files in allowed folders, bytes that are a picture.

No network and no tasks; `source_resolver.py` handles those.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from flux2_tool._net import is_private_url, split_url
from flux2_tool.context import CallContext
from flux2_tool.exceptions import SourceRefusedError
from flux2_tool.images.decode_limits import MAX_SOURCE_BYTES
from flux2_tool.images.decoder import Decoder, PictureCopy
from flux2_tool.images.inspect import PictureError
from flux2_tool.images.open_files import nameless_file, opened
from flux2_tool.images.safe_open import SourcePlaces, inbound_folder, open_source, path_of, too_large

_LIMITS_HINT: Final = "Use a PNG, JPEG, WebP or GIF picture within the limits."


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSource:
    """A source that may be used: its URL, or the picture that has to be uploaded first.

    Attributes:
        identity: What deduplication compares: a hash of the file, a task reference or a public link.
    """

    identity: str
    url: str | None = None
    picture: PictureCopy | None = None


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


def checked_link(source: str, where: str) -> CheckedSource:
    """Return a public link as it is.

    Raises:
        SourceRefusedError: It carries a password, or leads to a private address.
    """
    parts = split_url(source)
    if parts.username is not None or parts.password is not None:
        raise SourceRefusedError(
            f"{where} was refused: a link must not carry a user name or password. Nothing was sent.",
            hint="Use a public link.",
        )
    if is_private_url(source, loopback_allowed=False):
        raise SourceRefusedError(
            f"{where} was refused: its link leads to a private address, which RunAPI cannot and must not fetch. "
            "Nothing was sent.",
            hint="Use a public link, a file of the workspace, or task:ID.",
        )
    return CheckedSource(identity=source, url=source)


async def checked_file(
    source: str, where: str, *, places: SourcePlaces, decoder: Decoder, keep_metadata: bool
) -> CheckedSource:
    """Return the picture of a path, an inbound reference or a data: URL.

    Raises:
        SourceRefusedError: It lies elsewhere, cannot be read, or is no picture within the limits.
    """
    if source.split(":", 1)[0].lower() == "data":
        file = await opened(partial(_file_of_data, source, where))
    else:
        path = path_of(source, places, where=where)
        file = await opened(partial(open_source, path, places, where=where))
    with file:
        picture = await checked_picture(file, where, decoder=decoder, keep_metadata=keep_metadata)
    return CheckedSource(identity=f"sha256:{picture.facts.source_sha256}", picture=picture)


async def checked_picture(file: BinaryIO, where: str, *, decoder: Decoder, keep_metadata: bool) -> PictureCopy:
    """Return a copy of a file's picture, stripped of metadata unless `keep_metadata`.

    Raises:
        SourceRefusedError: It is no picture within the limits.
    """
    try:
        return await decoder.copy(file, keep_metadata=keep_metadata)
    except PictureError as exc:
        raise SourceRefusedError(f"{where} was refused: it {exc}. Nothing was sent.", hint=_LIMITS_HINT) from exc


def _file_of_data(source: str, where: str) -> BinaryIO:
    data = _data_of(source, where)
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
