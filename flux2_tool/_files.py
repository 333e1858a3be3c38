"""Whether a file or folder is there, and what else is in a file's place; never an error, unlike pathlib where a folder
on the way may not be entered.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


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
