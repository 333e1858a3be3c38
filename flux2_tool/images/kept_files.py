"""The folder of kept pictures: which of its files are ours, and which are removed when there are too many.

A kept picture's name ends with the beginning of its own SHA-256, so that any process, also without the journal, can
tell a file that we wrote from whatever a person put there or changed: only a plain file whose content still fits its
name is ever removed. Links are neither followed nor removed. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from flux2_tool._files import open_file
from flux2_tool.images.part_file import PartFile

FOLDER: Final = "pictures"
"""In the data folder."""
DAY_S: Final = 86400.0
_SEAL_DIGITS: Final = 16
_OURS: Final = re.compile(
    rf"(?P<stamp>\d{{8}}-\d{{6}})-.*-(?P<seal>[0-9a-f]{{{_SEAL_DIGITS}}})\.[a-z0-9]{{2,8}}", re.DOTALL
)
# What a process that was killed while it wrote has left behind; see `part_file.py`.
_PART: Final = re.compile(r"\.flux2-[0-9a-f]{16}\.part")
_PART_LIFE_S: Final = DAY_S
_BLOCK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file whose name is a kept picture's.

    Attributes:
        folder: Where it is.
        made_at: When its picture was finished, in seconds since 1970.
        is_as_written: Whether its date is the one that we gave it, so that its content is certainly ours.
    """

    folder: Path
    name: str
    seal: str
    made_at: float
    size_bytes: int
    is_as_written: bool

    @property
    def path(self) -> Path:
        """Where it is; a folder has many thousands, whose paths nobody wants at once."""
        return self.folder / self.name


class Pruned(NamedTuple):
    """What was removed from a folder, how many bytes of kept pictures are left, and when the oldest was finished."""

    removed: list[Path]
    size_bytes: int
    oldest_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptUsage:
    """How much is kept: the number of pictures, and the bytes of their files."""

    count: int
    size_bytes: int


def seal_of(file: BinaryIO) -> str:
    """Return the part of a kept file's name that its content decides."""
    digest, at = hashlib.sha256(), 0
    while block := os.pread(file.fileno(), _BLOCK_BYTES, at):
        digest.update(block)
        at += len(block)
    return digest.hexdigest()[:_SEAL_DIGITS]


def kept_copy(path: Path, folder: Path, stem: str) -> Path:
    """Copy a picture into the folder and return the copy's path.

    Raises:
        OSError: It cannot be read or written.
    """
    part = PartFile(folder, stem)
    try:
        with open_file(path) as file:
            shutil.copyfileobj(file, part.file)
        copy = part.publish(f"-{seal_of(part.file)}{path.suffix.lower() or '.bin'}")
    finally:
        part.discard()
    mark_as_written(copy)
    return copy


def mark_as_written(path: Path) -> None:
    """Give a kept picture the date in its name, so that a look at the folder need not read it."""
    with contextlib.suppress(OSError, ValueError):  # then it is read
        if (match := _OURS.fullmatch(path.name)) is not None:
            os.utime(path, (time.time(), _made_at(match)))


def kept_files(folder: Path) -> list[KeptFile]:
    """Return the files with a kept picture's name, oldest first; none where the folder cannot be read."""
    return sorted(_named(folder), key=lambda file: (file.made_at, file.name))


def usage_of(folder: Path) -> KeptUsage:
    """Return how much is kept in a folder."""
    count = size_bytes = 0
    for file in _named(folder):
        count += 1
        size_bytes += file.size_bytes
    return KeptUsage(count=count, size_bytes=size_bytes)


def prune_kept(
    folder: Path, *, now: float, older_than_s: float, most_bytes: float, spared: Collection[Path] = ()
) -> list[Path]:
    """Remove kept pictures that are too old, then the oldest ones until the rest fits; return what was removed.

    Args:
        folder: The folder of kept pictures.
        now: The wall clock, in seconds since 1970.
        older_than_s: How old a picture may become, in seconds.
        most_bytes: How much they may take together.
        spared: Files that stay whatever the bounds say.
    """
    return pruned(folder, now=now, older_than_s=older_than_s, most_bytes=most_bytes, spared=spared).removed


def pruned(
    folder: Path,
    *,
    now: float,
    older_than_s: float,
    most_bytes: float,
    spared: Collection[Path] = (),
    room_bytes: float = 0.0,
) -> Pruned:
    """Do as `prune_kept`, and return what is left, too.

    Only where something is over the bounds are all files held in memory, to find the oldest.

    Args:
        room_bytes: Where there is too much, how much less than `most_bytes` is left.
    """
    _remove_parts(folder, now=now)
    left = _ours_in(folder)
    if left.size_bytes <= most_bytes and now - left.oldest_at <= older_than_s:
        return left
    found = [file for file in kept_files(folder) if _is_ours(file)]
    size_bytes = sum(file.size_bytes for file in found)
    fitting_bytes = most_bytes - room_bytes if size_bytes > most_bytes else most_bytes
    removed, oldest_at = list[Path](), math.inf
    for file in found:
        is_over = now - file.made_at > older_than_s or size_bytes > fitting_bytes
        if not is_over or file.path in spared or not _is_unchanged(file):
            oldest_at = min(oldest_at, file.made_at)
            continue
        with contextlib.suppress(OSError):  # another process may have been first
            file.path.unlink()
            removed.append(file.path)
        size_bytes -= file.size_bytes
    return Pruned(removed, size_bytes, oldest_at)


def _ours_in(folder: Path) -> Pruned:
    """Return what there is, with nothing removed."""
    size_bytes, oldest_at = 0, math.inf
    for file in _named(folder):
        if _is_ours(file):
            size_bytes += file.size_bytes
            oldest_at = min(oldest_at, file.made_at)
    return Pruned([], size_bytes, oldest_at)


def _is_ours(file: KeptFile) -> bool:
    """Whether nobody has changed a file; of one that had to be read, the next look sees it by its date.

    What a person has changed is neither removed nor in the way of what is ours.
    """
    if not file.is_as_written:
        if not _is_unchanged(file):
            return False
        mark_as_written(file.path)
    return True


def free_bytes(folder: Path) -> int:
    """Return how much room the disk of a folder, which need not be there yet, has for this user."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _named(folder: Path) -> Iterator[KeptFile]:
    """Yield the files with a kept picture's name one by one, in no order; none where the folder cannot be read."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            file = _named_like_ours(entry, folder)
            if file is not None:
                yield file


def _named_like_ours(entry: os.DirEntry[str], folder: Path) -> KeptFile | None:
    match = _OURS.fullmatch(entry.name)
    with contextlib.suppress(OSError, ValueError):
        if match is not None and entry.is_file(follow_symlinks=False):
            made_at, found = _made_at(match), entry.stat(follow_symlinks=False)
            return KeptFile(
                folder=folder,
                name=entry.name,
                seal=match["seal"],
                made_at=made_at,
                size_bytes=found.st_size,
                is_as_written=found.st_mtime == made_at,
            )
    return None


def _made_at(name: re.Match[str]) -> float:
    # Much faster than strptime, once for each file of the folder.
    digits = name["stamp"].replace("-", "")
    month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(4, 14, 2))
    return datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=UTC).timestamp()


def _is_unchanged(file: KeptFile) -> bool:
    """Whether the content is still what we wrote."""
    try:
        with open_file(file.path, follows_links=False) as opened:
            return seal_of(opened) == file.seal
    except OSError:
        return False


def _remove_parts(folder: Path, *, now: float) -> None:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another call may have finished or removed it
                is_part = _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
                if is_part and now - entry.stat(follow_symlinks=False).st_mtime > _PART_LIFE_S:
                    Path(entry.path).unlink(missing_ok=True)
