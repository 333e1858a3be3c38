"""Write a file under a temporary name, so that nobody sees an incomplete picture, and never over another file."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast

from flux2_tool._files import open_file

# Enough to notice a full disk, and nothing beside a picture.
_TRIAL_BYTES: Final = 64 * 1024
# Of what every usual file system takes.
_MOST_NAME_BYTES: Final = 255
_MOST_MISSING: Final = 100


def check_writable(folder: Path, name: str | None = None) -> None:
    """Write a trial file into a folder, or into the nearest one that exists, and remove it. Blocks.

    Args:
        folder: Where files will be written; it is made then, and not here.
        name: The name that one of them will have.

    Raises:
        OSError: No file can be written there, or none of this name.
    """
    place, missing = folder, list[str]()
    while not os.path.lexists(place) and place != place.parent:
        missing.append(place.name)
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it is not a folder", str(place))
    if len(missing) > _MOST_MISSING:
        raise OSError(errno.ENAMETOOLONG, f"more than {_MOST_MISSING} folders would have to be made")
    with tempfile.TemporaryFile(dir=place) as trial:
        trial.write(bytes(_TRIAL_BYTES))
        trial.flush()
    # Looking for a name shows whether it is too long, of a folder to be made, too, and of the whole path.
    for made in (*missing, str(folder / (name or ""))):
        with contextlib.suppress(FileNotFoundError):
            (place / made).lstat()
    with contextlib.suppress(FileNotFoundError):
        if name is not None and stat.S_ISDIR((place / name).stat().st_mode) and place == folder:
            raise IsADirectoryError(errno.EISDIR, "it is a folder", name)


class PartFile:
    """A file that is being written under a temporary name, so that no incomplete picture is visible.

    Its methods block, except `discard`; each raises OSError.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._stem = stem
        # Without the stem, which may be as long as a name may be.
        self._temporary = folder / f".flux2-{secrets.token_hex(8)}.part"
        self._is_discarded = False
        descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self.file = cast("BinaryIO", os.fdopen(descriptor, "r+b", buffering=0))

    def write(self, data: bytes) -> None:
        """Write some more bytes."""
        while data:
            data = data[self.file.write(data) :]

    def flush(self) -> None:
        """Have all that was written on the disk."""
        os.fsync(self.file.fileno())

    def publish(self, suffix: str) -> Path:
        """Give the file its name and return it; a number is added if another picture has it."""
        self.flush()
        for number in range(1, 1000):
            if self._is_discarded:
                raise OSError(None, "it took too long")
            tail = suffix if number == 1 else f"-{number}{suffix}"
            target = self._folder / f"{fitting_stem(self._stem, tail)}{tail}"
            try:
                _rename_new(self._temporary, target)
            except FileExistsError:
                if _is_same(self._temporary, target):
                    return target
                continue
            return target
        raise OSError(None, "too many files of this name")

    def discard(self) -> None:
        """Close the file and remove its temporary name; what was published stays."""
        self._is_discarded = True
        self._temporary.unlink(missing_ok=True)
        self.file.close()


def copied(path: Path, folder: Path, stem: str, suffix: str) -> Path:
    """Copy a file to `folder/stem.suffix`, or with a number if that is another file, and return its path. Blocks.

    Raises:
        OSError: It cannot be read or written.
    """
    part = PartFile(folder, stem)
    try:
        with open_file(path) as file:
            shutil.copyfileobj(file, part.file)
        return part.publish(suffix)
    finally:
        part.discard()


@asynccontextmanager
async def new_part(folder: Path, stem: str) -> AsyncIterator[PartFile]:
    making = asyncio.get_running_loop().run_in_executor(None, PartFile, folder, stem)
    try:
        part = await asyncio.shield(making)
    except asyncio.CancelledError:
        making.add_done_callback(_discard)
        raise
    try:
        yield part
    finally:
        part.discard()


def _discard(making: asyncio.Future[PartFile]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().discard()


def fitting_stem(stem: str, tail: str) -> str:
    """Return as much of a file name's beginning as leaves room for its end: a number makes a long name too long."""
    while stem and len(os.fsencode(f"{stem}{tail}")) > _MOST_NAME_BYTES:
        stem = stem[:-1]
    return stem


def _is_same(one: Path, other: Path) -> bool:
    """Return whether two files have the same contents; what cannot be read, or leads nowhere, has not."""
    import filecmp  # names rarely meet

    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _rename_new(temporary: Path, target: Path) -> None:
    """Rename a file to an unused name, atomically where the file system can.

    Raises:
        FileExistsError: The name is in use.
    """
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        # FAT and many network shares have no hard links: reserve the name, then replace the file.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            temporary.replace(target)
        except OSError:
            target.unlink()
            raise
