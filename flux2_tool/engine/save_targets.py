"""Where a picture is saved: a folder, or a file of a given name, as a person writes it; checked before it is paid.

What decides between the two, in this order: a folder that exists, a slash at the end, the suffix of a picture.
"""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flux2_tool._folders import expanded
from flux2_tool.exceptions import InvalidArgumentsError
from flux2_tool.images.part_file import check_writable, fitting_stem

_SUFFIXES: Final = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".avif", ".heic", ".heif", ".tif", ".tiff"),
        *(".bmp", ".jxl", ".jp2", ".j2k", ".ico"),
    )
)
_SAME: Final = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif", ".heif": ".heic", ".j2k": ".jp2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveTarget:
    """One place where each picture of a call is saved.

    Attributes:
        folder: An absolute path; made if it is missing.
        name: The file's name, with its suffix; None for a name of time, prompt and task id.
    """

    folder: Path
    name: str | None = None

    @classmethod
    def of(cls, text: str) -> SaveTarget:
        """Return the place that a person's text means; "~" is their home folder.

        Raises:
            InvalidArgumentsError: It is empty, names no possible file, or there is no such home folder.
        """
        if text == "-":
            raise _refused(text, "pictures are not written to the standard output")
        path, mode = _meant(text)
        is_folder = text.endswith(("/", "/.", "/..")) or stat.S_ISDIR(mode)
        is_file = stat.S_ISREG(mode)
        if is_folder or (path.suffix.lower() not in _SUFFIXES and not is_file):
            return cls(folder=path)
        return cls(folder=path.parent, name=path.name)

    @classmethod
    def of_folder(cls, text: str) -> SaveTarget:
        """Return the folder that a person's text means, whatever its suffix; "~" is their home folder.

        Raises:
            InvalidArgumentsError: As `of`.
        """
        return cls(folder=_meant(text)[0])

    @classmethod
    def in_folder(cls, folder: Path | None) -> SaveTarget | None:
        """Return a folder as a place, None without one."""
        return None if folder is None else cls(folder=folder)

    def names_of(self, usual_stem: str, *numbers: int) -> tuple[str, str | None]:
        """Return the stem and suffix of one picture's file; None for the suffix of its format.

        Args:
            usual_stem: Used without a name.
            numbers: What tells the pictures of one name apart, from 1: which of the call it is, and which of its task;
                none for a picture that is the only one.
        """
        if self.name is None:
            return usual_stem, None
        path, tail = Path(self.name), "".join(f"-{number}" for number in numbers)
        return f"{fitting_stem(path.stem, tail + path.suffix)}{tail}", path.suffix


def _meant(text: str) -> tuple[Path, int]:
    """Return the absolute path that a person's text means, and the mode of what is there, 0 if nothing is."""
    if not text.strip() or "\0" in text:
        raise _refused(text, "it names no folder and no file")
    try:
        path = expanded(text, os.environ).absolute()
        return path, _mode_of(path)
    except ValueError as exc:
        raise _refused(text, f"it {exc}") from exc
    except FileNotFoundError as exc:
        raise _refused(text, "it is relative to the working folder, which has been deleted") from exc
    except OSError as exc:
        raise _refused(text, exc.strerror or type(exc).__name__) from exc


def _mode_of(path: Path) -> int:
    """Return the mode of what is at a path, 0 if nothing is; raises OSError for a name that no file can have."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


async def checked_targets(asked: SaveTarget | None, save_dir: Path | None) -> tuple[SaveTarget, ...]:
    """Return where a call's pictures are saved: its caller's own place, which is checked, and the setting's folder.

    Raises:
        InvalidArgumentsError: Files cannot be written to the caller's place.
    """
    if asked is not None:
        try:
            await asyncio.to_thread(check_writable, asked.folder, asked.name)
        except (OSError, ValueError) as exc:
            path = asked.folder if asked.name is None else asked.folder / asked.name
            why = "no file can have such a name" if isinstance(exc, ValueError) else exc.strerror
            raise _refused(str(path), why or type(exc).__name__) from exc
    kept = None if save_dir is None else SaveTarget(folder=save_dir)
    return tuple(dict.fromkeys(target for target in (asked, kept) if target is not None))


def is_of_format(suffix: str, own_suffix: str) -> bool:
    """Return whether a file's suffix says which format it has."""
    return _SAME.get(suffix.lower(), suffix.lower()) == own_suffix


def _refused(text: str, why: str) -> InvalidArgumentsError:
    message = f'the picture could not be saved to "{text}": {why}. Nothing was sent.'
    return InvalidArgumentsError(message, hint="Name a folder, or a file, that can be written.")
