"""Keep a folder of pictures within its bounds, without looking at all of it after each picture.

What is added is counted. The folder is looked at when a bound is reached, and now and then, because other processes add
pictures and people remove some. Everything here blocks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from flux2_tool.images.kept_files import Pruned, pruned

LOOK_EVERY_S: Final = 600.0
# Where there is too much, so much more is removed: the next look comes when that is full again.
ROOM_SHARE: Final = 0.02


class KeptBounds:
    """The bounds of one folder, for one process.

    Args:
        folder: The folder of kept pictures.
        older_than_s: How old a picture may become, in seconds.
        most_bytes: How much they may take together.
    """

    def __init__(self, folder: Path, *, older_than_s: float, most_bytes: float) -> None:
        self._folder = folder
        self._older_than_s = older_than_s
        self._most_bytes = most_bytes
        self._left: Pruned | None = None
        self._looked_at = 0.0

    def after(self, added: Sequence[Path], *, now: float) -> list[Path]:
        """Count what was added, and remove what is over the bounds then, but nothing of it; return what was removed.

        Args:
            added: Files that were just written.
            now: The wall clock, in seconds since 1970.
        """
        left = self._left
        if left is not None:
            left = left._replace(size_bytes=left.size_bytes + sum(map(_size_of, added)))
            # A date in the future means that the clock was set back.
            is_recent = 0.0 <= now - self._looked_at < LOOK_EVERY_S
            if is_recent and left.size_bytes <= self._most_bytes and now - left.oldest_at <= self._older_than_s:
                self._left = left
                return []
        self._looked_at = now
        self._left = pruned(
            self._folder,
            now=now,
            older_than_s=self._older_than_s,
            most_bytes=self._most_bytes,
            spared=frozenset(added),
            room_bytes=ROOM_SHARE * self._most_bytes,
        )
        return self._left.removed


def _size_of(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0
