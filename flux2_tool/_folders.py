"""This user's folders: the one place that interprets HOME, XDG_DATA_HOME and "~".

A user may have none: a container's `-u 12345`, a service with DynamicUser, a host that clears HOME. What needs no
folder works all the same, and what needs one says which setting names it. No folder ever depends on the working
directory: a relative variable is ignored, as the XDG Base Directory Specification demands, an empty one is not set.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

APP_NAME: Final = "flux2-tool"
DATA_FOLDER_VARIABLE: Final = "FLUX2_TOOL_HOME"
DATA_HOME_VARIABLE: Final = "XDG_DATA_HOME"
NO_DATA_FOLDER: Final = f"this user has no home folder and {DATA_FOLDER_VARIABLE} is not set"
NO_DATA_FOLDER_HINT: Final = (
    f"set {DATA_FOLDER_VARIABLE} to the absolute path of a folder that is kept and that is yours"
)


def home_folder(environ: Mapping[str, str]) -> Path | None:
    """Return this user's home folder: HOME, else that of the system's list of users; None when there is none."""
    named = _absolute(environ.get("HOME"))
    if named is not None:
        return named
    import pwd  # not on Windows

    try:
        return _absolute(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None


def expanded(text: str, environ: Mapping[str, str]) -> Path:
    """Return a path with a leading "~" or "~user" replaced by that home folder.

    Raises:
        ValueError: There is no such home folder; the text completes "it …".
    """
    name, _, rest = text.partition("/")
    if not name.startswith("~"):
        return system_path(text)
    if name == "~":
        home = home_folder(environ)
        if home is None:
            raise ValueError("begins with ~, and this user has no home folder")
        return home / system_path(rest.lstrip("/"))
    try:
        return Path(text).expanduser()
    except RuntimeError as exc:
        raise ValueError("names the home folder of an unknown user") from exc


def system_path(text: str) -> Path:
    """Return a path that may be given in characters which the file names of this locale do not have, as UTF-8 then."""
    if not is_system_name(text):
        with contextlib.suppress(UnicodeEncodeError):
            return Path(os.fsdecode(text.encode("utf-8", "surrogateescape")))
    return Path(text)


def is_system_name(text: str) -> bool:
    """Return whether a file can have this name in this process's locale."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def data_folder(environ: Mapping[str, str], *, platform: str = sys.platform) -> Path | None:
    """Return the folder for this tool's own data where no setting names one; None when this user has no home folder.

    On macOS that of applications, unless the one that other systems use is there and it is not.
    """
    home = home_folder(environ)
    chosen = _absolute(environ.get(DATA_HOME_VARIABLE))
    if chosen is not None:
        return chosen / APP_NAME
    if home is None:
        return None
    usual = home / ".local" / "share" / APP_NAME
    if platform != "darwin":
        return usual
    of_applications = home / "Library" / "Application Support" / APP_NAME
    return usual if usual.is_dir() and not of_applications.is_dir() else of_applications


def ignored_data_home(environ: Mapping[str, str]) -> str | None:
    """Return XDG_DATA_HOME if it is set and ignored, because it is relative."""
    text = environ.get(DATA_HOME_VARIABLE, "")
    return text if text and _absolute(text) is None else None


def _absolute(text: str | None) -> Path | None:
    path = None if not text else Path(text)
    return path if path is not None and path.is_absolute() else None
