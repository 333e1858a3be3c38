"""Whether a file or folder is there, what else is in a file's place, and reading a file and nothing else.

The questions are never an error, unlike pathlib's where a folder on the way may not be entered. Whatever a person or
the environment names is opened by `open_file`: opening a pipe waits until somebody writes to it, a device may never
end, and to open one may already do something.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final, cast

MOST_BYTES: Final = 16 * 1024 * 1024
"""More than any settings, of this tool or of a host, have."""


def is_file(path: Path) -> bool:
    """Whether there is a file that this user may look at."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether there is a folder that this user may look at."""
    return os.path.isdir(path)  # noqa: PTH112


def is_there(path: Path) -> bool:
    """Whether there is anything that this user may look at."""
    return os.path.exists(path)  # noqa: PTH110


def kind_of(mode: int) -> str:
    """Return what a mode of something else than a file is called, with its article."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a link"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def open_file(path: Path, *, follows_links: bool = True) -> BinaryIO:
    """Open a file for reading, unbuffered; the caller closes it.

    Args:
        path: Where it is.
        follows_links: Whether it may be a link to a file.

    Raises:
        OSError: It cannot be opened, or is something else than a file; `strerror` says which.
    """
    _check_is_file(path.stat(follow_symlinks=follows_links).st_mode)
    # Non-blocking, for what somebody puts there at this moment.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follows_links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        _check_is_file(os.fstat(descriptor).st_mode)
        return cast("BinaryIO", os.fdopen(descriptor, "rb", buffering=0))
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: Path, *, most_bytes: int = MOST_BYTES) -> bytes:
    """Return what is in a file.

    Raises:
        OSError: As `open_file`, or it has more than `most_bytes`.
    """
    with io.BufferedReader(cast("io.FileIO", open_file(path))) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it has more than {most_bytes} bytes")
    return data


def _check_is_file(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {kind_of(mode)}, not a file")
