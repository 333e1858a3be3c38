"""Read source pictures from the disk, and no other files.

A prompt-injected agent may try to "remix" a private file, so a file is read only if it is inside an allowed folder
after resolving every link, is a regular file without a hidden part in its path below that folder, and is a picture by
its content. Paths are resolved here and not by the system: ".." and links are applied to the text of the path, each
component is opened below the last one without following links, and a path that leaves the allowed folders anywhere is
refused before anything outside is touched. So no component can be replaced after the check, and no refusal depends on
whether something outside exists. The error names the rule and never quotes the file's content. Source: openat(2).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from flux2_tool._folders import system_path
from flux2_tool._platform import OPEN_FOLDER
from flux2_tool.images.decode_limits import MAX_SOURCE_BYTES
from flux2_tool.images.look_alikes import AmbiguousNameError, look, twin_of
from flux2_tool.images.source_names import shown
from flux2_tool.images.source_places import SourcePlaces, inbound_folder
from flux2_tool.images.source_refusals import (
    MissingSourceError,
    NotPlainError,
    not_readable,
    outside,
    refused,
    too_large,
    unreadable,
)

MAX_LINKS: Final = 40

# Non-blocking, so that a pipe cannot block the call.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})


def open_source(path: Path, places: SourcePlaces, *, where: str, named: str = "") -> BinaryIO:
    """Open a source file for reading; the caller closes it.

    A name that is missing stands for the one beside it that looks the same, see `look`.

    Args:
        path: From `source_paths.py`.
        places: The allowed places.
        where: The argument's name, for errors, such as `source_image_urls[0]`.
        named: What the caller wrote for it, in quotes; by default the path.

    Raises:
        SourceRefusedError: It is outside the allowed folders, hidden, missing, not a regular file, too large, or
            several names look like it. In a sandboxed session all but too large are one and the same refusal.
    """
    try:
        return _bounded_file(_opened(system_path(str(path)), places), where)
    except _OutsideError:
        raise outside(where, places) from None
    except _HiddenError:
        hint = "Copy the picture to a plain folder."
        raise not_readable(where, places, "hidden files and folders are never read", hint) from None
    except AmbiguousNameError as exc:
        rule = f"several files look like it: {exc}"
        raise not_readable(where, places, rule, "Rename one of them.") from None
    except (OSError, ValueError, NotPlainError) as exc:
        # A sandboxed session must not be told what became of a link that it may have put there.
        if places.inbound_only:
            raise outside(where, places) from None
        if isinstance(exc, ValueError) or (isinstance(exc, OSError) and exc.errno in _MISSING):
            raise MissingSourceError(f"{where} was refused: there is no such file. Nothing was sent.") from None
        raise unreadable(where, named or shown(str(path)), exc) from None


def open_saved_copy(path: Path, *, where: str) -> BinaryIO:
    """Open a picture that this tool has saved, as `open_source`; a link in its place is not followed.

    Raises:
        SourceRefusedError: It is missing, not a regular file, or too large.
    """
    try:
        opened = _descend(path.parent, (path.name,))
        if isinstance(opened, Path):
            raise NotPlainError(stat.S_IFLNK)
        return _bounded_file(opened, where)
    except (OSError, NotPlainError) as exc:
        raise unreadable(where, "the saved copy of its picture", exc) from None
    except ValueError:
        raise refused(where, "no file can have the name of its saved copy", "Use another picture.") from None


# ---- allowed folders -------------------------------------------------------------------------------------------------


class _OutsideError(Exception):
    """The path leaves the allowed folders."""


class _HiddenError(Exception):
    """The path has a hidden part below its allowed folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Root:
    """An allowed folder: files must be in `inside`, which is `opened` or a folder below it.

    Attributes:
        opened: The folder to open, links resolved.
        named: `inside` as the configuration spells it, which paths may begin with as well.
    """

    opened: Path
    inside: Path
    named: Path


def _placed(target: Path, places: SourcePlaces) -> tuple[_Root, tuple[str, ...]]:
    """Return the innermost allowed folder around a path, and the path below what is opened; see `_Root`.

    The folder may itself be in a hidden one, such as OpenClaw's.
    """
    found = _innermost(target, places)
    if found is None and not places.inbound_only and "\0" not in str(target):
        # The same folder may have another name, as /tmp is /private/tmp on macOS.
        found = _innermost(Path(os.path.realpath(target)), places)
    if found is None:
        raise _OutsideError
    root, below = found
    if any(part.startswith(".") for part in below.parts):
        raise _HiddenError
    return root, (root.inside / below).relative_to(root.opened).parts


def _innermost(target: Path, places: SourcePlaces) -> tuple[_Root, Path] | None:
    if places.roots is None and not places.inbound_only:
        anchor, folder = Path(target.anchor), target.parent
        return _Root(opened=anchor, inside=folder, named=folder), target.relative_to(folder)
    containing = [
        (root, Path(*target.parts[len(base.parts) :]))
        for root in _roots(places)
        for base in (root.inside, root.named)
        if target.is_relative_to(base) or look(str(target)).startswith(look(f"{base}/"))
    ]
    return max(containing, key=lambda found: len(found[0].inside.parts), default=None)


def _roots(places: SourcePlaces) -> Iterator[_Root]:
    for folder in (*(() if places.inbound_only else places.roots or ()), places.inbound):
        resolved = None if folder is None else _resolved(folder)
        # A link to "/" would allow every file, so only "/" itself may do so.
        if folder is not None and resolved is not None and (resolved != Path(resolved.anchor) or resolved == folder):
            yield _Root(opened=resolved, inside=resolved, named=_lexical(folder))
    workspace = None if places.workspace is None else _resolved(places.workspace)
    if places.staged is not None and workspace is not None:
        # A process that can write to the workspace could replace this folder by a link: open it component by component.
        yield _Root(opened=workspace, inside=inbound_folder(workspace), named=_lexical(places.staged))


def _resolved(folder: Path) -> Path | None:
    try:
        return folder.resolve(strict=True)
    except (OSError, RuntimeError):
        return None


def _lexical(path: Path) -> Path:
    """Return an absolute path without "." and "..", by its text alone."""
    return Path(os.path.normpath(path))


# ---- opening ---------------------------------------------------------------------------------------------------------


def is_missing(path: Path, places: SourcePlaces) -> bool:
    """Return whether an allowed place certainly has no such file; False for a path that leaves the allowed places."""
    try:
        os.close(_opened(path, places))
    except (_OutsideError, _HiddenError, AmbiguousNameError, NotPlainError):
        return False
    except (OSError, ValueError) as exc:
        return not isinstance(exc, OSError) or exc.errno in (*_MISSING, errno.ELOOP)
    return False


def _opened(path: Path, places: SourcePlaces) -> int:
    """Open a file in an allowed place and return its descriptor; links are followed while they stay in such places.

    Raises:
        _OutsideError, _HiddenError: By its text, or that of a link on its way, the path is not allowed.
        OSError: It cannot be opened.
        ValueError: No file can have this name.
    """
    target = _lexical(path)
    for _ in range(MAX_LINKS):
        root, parts = _placed(target, places)
        # Below the folder of the rule only, and never a hidden name, which only its own spelling may reach.
        fixed = 0 if places.roots is None else len(root.inside.parts) - len(root.opened.parts)
        found = _descend(root.opened, parts, fixed=fixed)
        if isinstance(found, int):
            return found
        target = found
    raise OSError(errno.ELOOP, "too many links")


def _descend(root: Path, parts: Sequence[str], *, fixed: int | None = None) -> int | Path:
    """Open a file component by component; at a link, return the path that it leads to instead.

    Args:
        root: The folder to begin in.
        parts: The components below it.
        fixed: After how many of them a missing name may stand for another one, whose path is then returned.

    Raises:
        AmbiguousNameError: It may stand for several.
        NotPlainError: It is the folder itself.
        OSError: It cannot be opened.
    """
    if not parts:
        raise NotPlainError(stat.S_IFDIR)
    folder = os.open(root, OPEN_FOLDER)
    try:
        for index, part in enumerate(parts):
            is_last = index == len(parts) - 1
            try:
                inner = os.open(part, _FILE if is_last else OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            except OSError:
                link = _link_at(part, folder)
                if link is None and fixed is not None and index >= fixed:
                    link = twin_of(part, folder)
                if link is None:
                    raise
                return _lexical(root.joinpath(*parts[:index], link, *parts[index + 1 :]))
            if is_last:
                return inner
            os.close(folder)
            folder = inner
    finally:
        os.close(folder)
    raise AssertionError  # the last part is opened, or raises


def _link_at(name: str, folder: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None


def _bounded_file(descriptor: int, where: str) -> BinaryIO:
    """Return an opened file, which the caller closes; close it if it is not a regular file within the size limit."""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotPlainError(status.st_mode)
        if status.st_size > MAX_SOURCE_BYTES:
            raise too_large(where, status.st_size)
        return cast("BinaryIO", os.fdopen(descriptor, "rb", buffering=0))
    except BaseException:
        os.close(descriptor)
        raise
