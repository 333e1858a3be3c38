"""Read source pictures from the disk, and no other files.

A prompt-injected agent may try to "remix" a private file, so a file is read only if it is inside an allowed folder
after resolving every link, is a regular file without a hidden part in its path below that folder, and is a picture by
its content. Each path component is opened without following links, so that none can be replaced after the check. The
error names the rule and never quotes the file's content. Source of the flags: openat(2).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast
from urllib.parse import unquote, urlsplit

from flux2_tool.exceptions import SourceRefusedError

MAX_SOURCE_BYTES: Final = 30 * 1024 * 1024
INBOUND: Final = Path("media") / "inbound"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePlaces:
    """The places of one call's source files.

    Attributes:
        roots: The allowed folders; None allows all, also hidden ones, for a person who types a path.
        workspace: The base of relative paths; None when there is none.
        inbound: OpenClaw's folder for pictures from the chat; None outside OpenClaw.
        staged: OpenClaw's folder for copies of them for this session's agent; None outside OpenClaw.
        inbound_only: Whether only these two folders are allowed, as in a sandboxed session.
    """

    roots: tuple[Path, ...] | None
    workspace: Path | None
    inbound: Path | None = None
    staged: Path | None = None
    inbound_only: bool = False


def inbound_folder(parent: Path) -> Path:
    """Return the folder for pictures from the chat, under OpenClaw's state folder or under a workspace.

    Measured with OpenClaw 2026.9.6: a picture is saved under the state folder, and a copy in the session's workspace;
    the model reads the copy's path, relative to the workspace in a sandboxed session.
    """
    return parent / INBOUND


def path_of(source: str, places: SourcePlaces, *, where: str) -> Path:
    """Return the path of a source: a plain path, a `file:` URL, or an inbound reference as OpenClaw writes it.

    Raises:
        SourceRefusedError: It is an inbound reference and there is no inbound folder, a `file:` URL of another
            machine, or a relative path without a workspace.
    """
    for prefix, is_url in (("media://inbound/", True), ("media/inbound/", False)):
        if source.startswith(prefix):
            if places.inbound is None:
                raise _refused(
                    where, "pictures from the chat exist only in OpenClaw", "Use a link, a path, or task:ID."
                )
            name = unquote(source.removeprefix(prefix))
            copy = None if is_url or places.staged is None else places.staged / name
            return copy if copy is not None and _exists(copy) else places.inbound / name
    if source.lower().startswith("file:"):
        try:
            parts = urlsplit(source)
        except ValueError:
            raise _refused(where, "its file: URL cannot be read", "Use file:///path.") from None
        if parts.netloc not in ("", "localhost"):
            raise _refused(where, "a file: URL may not name another machine", "Use file:///path.")
        source = unquote(parts.path)
    if source.startswith("~/"):
        return Path(source).expanduser()
    path = Path(source)
    if path.is_absolute():
        return path
    if places.workspace is None:
        raise _refused(where, "a relative path needs a workspace and this call has none", "Use an absolute path.")
    return places.workspace / path


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True


def open_source(path: Path, places: SourcePlaces, *, where: str) -> BinaryIO:
    """Open a source file for reading; the caller closes it.

    Args:
        path: From `path_of`.
        places: The allowed places.
        where: The argument's name, for errors, such as `source_image_urls[0]`.

    Raises:
        SourceRefusedError: It is outside the allowed folders, hidden, missing, not a regular file, or too large.
    """
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        # Outside the roots, do not reveal whether the file exists.
        lexical = Path(os.path.normpath(path)) if "\0" not in str(path) else Path("/")
        if _root_of(lexical, places) is None:
            raise _outside(where, places) from None
        raise _refused(where, "there is no such file", "Check the path.") from None
    root = _root_of(real, places)
    if root is None:
        raise _outside(where, places)
    if any(part.startswith(".") for part in real.relative_to(root.inside).parts):
        raise _refused(where, "hidden files and folders are never read", "Copy the picture to a plain folder.")
    return _opened_without_links(root.opened, real.relative_to(root.opened).parts, where)


def open_saved_copy(path: Path, *, where: str) -> BinaryIO:
    """Open a picture that this tool has saved, as `open_source`; a link in its place is not followed.

    Raises:
        SourceRefusedError: It is missing, not a regular file, or too large.
    """
    return _opened_without_links(path.parent, (path.name,), where)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Root:
    """An allowed folder, links resolved: files must be in `inside`, which is `opened` or a folder below it."""

    opened: Path
    inside: Path


def _root_of(path: Path, places: SourcePlaces) -> _Root | None:
    """Return the innermost allowed folder around a path; it may be in a hidden folder, such as OpenClaw's."""
    if places.roots is None and not places.inbound_only:
        return _Root(opened=Path(path.anchor), inside=path.parent)
    containing = [root for root in _roots(places) if path.is_relative_to(root.inside)]
    return max(containing, key=lambda root: len(root.inside.parts), default=None)


def _roots(places: SourcePlaces) -> Iterator[_Root]:
    for folder in (*(() if places.inbound_only else places.roots or ()), places.inbound):
        resolved = None if folder is None else _resolved(folder)
        # A link to "/" would allow every file, so only "/" itself may do so.
        if resolved is not None and (resolved != Path(resolved.anchor) or resolved == folder):
            yield _Root(opened=resolved, inside=resolved)
    workspace = None if places.workspace is None else _resolved(places.workspace)
    if places.staged is not None and workspace is not None:
        # A process that can write to the workspace could replace this folder by a link: open it component by component.
        yield _Root(opened=workspace, inside=inbound_folder(workspace))


def _resolved(folder: Path) -> Path | None:
    try:
        return folder.resolve(strict=True)
    except (OSError, RuntimeError):
        return None


def _opened_without_links(root: Path, parts: Sequence[str], where: str) -> BinaryIO:
    missing = _refused(where, "it cannot be opened as a plain file", "Check the path and its permissions.")
    folder = descriptor = -1
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Non-blocking, so that a pipe cannot block the call.
        descriptor = os.open(
            parts[-1] if parts else ".", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
        )
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise missing
        if status.st_size > MAX_SOURCE_BYTES:
            raise too_large(where, status.st_size)
        file = cast("BinaryIO", os.fdopen(descriptor, "rb", buffering=0))
        descriptor = -1
    except OSError:
        raise missing from None
    finally:
        for one in (folder, descriptor):
            if one >= 0:
                os.close(one)
    return file


def too_large(where: str, size_bytes: int) -> SourceRefusedError:
    """Return the error for a source with too many bytes."""
    return _refused(
        where,
        f"it has {size_bytes / 1024 / 1024:.0f} MiB and at most {MAX_SOURCE_BYTES // 1024 // 1024} MiB are allowed",
        "Use a smaller picture.",
    )


def _outside(where: str, places: SourcePlaces) -> SourceRefusedError:
    if places.inbound_only:
        return _refused(
            where,
            "in a sandboxed session only pictures from the chat may be used",
            "Use the media://inbound reference of an attached picture, a link, or task:ID.",
        )
    return _refused(
        where,
        "it lies outside the folders that source pictures may come from",
        "Use a picture from the workspace or the chat, a link, or task:ID; the operator can allow more folders with "
        "the setting source_roots.",
    )


def _refused(where: str, rule: str, hint: str) -> SourceRefusedError:
    return SourceRefusedError(f"{where} was refused: {rule}. Nothing was sent.", hint=hint)
