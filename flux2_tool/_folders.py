"""This user's folders: the one place that interprets HOME, XDG_DATA_HOME, OPENCLAW_STATE_DIR and "~".

A user may have none: a container's `-u 12345`, a service with DynamicUser, a host that clears HOME. What needs no
folder works all the same, and what needs one says which setting names it. No folder of ours ever depends on the working
directory: a relative variable is ignored, as the XDG Base Directory Specification demands, an empty one is not set.
OpenClaw's own variables are read as OpenClaw reads them.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

APP_NAME: Final = "flux2-tool"
DATA_FOLDER_VARIABLE: Final = "FLUX2_TOOL_HOME"
DATA_HOME_VARIABLE: Final = "XDG_DATA_HOME"
STATE_VARIABLE: Final = "OPENCLAW_STATE_DIR"
_OPENCLAW_HOME_VARIABLE: Final = "OPENCLAW_HOME"
_PLUGIN: Final = "flux2"
JOURNAL_NAME: Final = "journal.db"
"""The journal's file in a data folder."""
_PROFILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
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

    Once OpenClaw has the plugin it is the gateway's, in OpenClaw's state folder, so that all count against one cap.
    """
    state = state_folder(environ)
    if state is not None and _has_plugin(state):
        return state_data_folder(state)
    return user_data_folder(environ, platform=platform)


def is_state_data_folder(folder: Path, environ: Mapping[str, str]) -> bool:
    """Return whether a data folder is the one in OpenClaw's state folder."""
    state = state_folder(environ)
    return state is not None and folder == state_data_folder(state)


def earlier_data_folder(folder: Path, environ: Mapping[str, str]) -> Path | None:
    """Return the user's own data folder, if `folder` is the one in OpenClaw's state folder, which took its place."""
    if not is_state_data_folder(folder, environ):
        return None
    earlier = user_data_folder(environ)
    return None if earlier == folder else earlier


def user_data_folder(environ: Mapping[str, str], *, platform: str = sys.platform) -> Path | None:
    """Return the user's folder for this tool's data outside OpenClaw; None when there is no home folder.

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


def state_folder(environ: Mapping[str, str], *, profile: str | None = None) -> Path | None:
    """Return the state folder that an `openclaw` command with these variables uses, whether or not it exists.

    Measured with OpenClaw 2026.9.6: OPENCLAW_STATE_DIR wins over a profile, and OPENCLAW_PROFILE without the option
    --profile moves nothing.

    Args:
        environ: The environment, passed in.
        profile: The value of OpenClaw's option --profile; "default" is none.

    Returns:
        None when no variable names it and this user has no home folder.

    Raises:
        ValueError: OpenClaw takes no profile of this name; the text completes "it …".
    """
    chosen = _openclaw_value(environ, STATE_VARIABLE)
    home = _openclaw_home(environ)
    if chosen is not None:
        return _openclaw_path(chosen, home)
    if profile is not None and not _PROFILE.fullmatch(profile.strip()):
        raise ValueError('is no profile of OpenClaw: letters, digits, "_" and "-" only')
    if home is None:
        return None
    if profile is not None and profile.strip().casefold() != "default":
        return home / f".openclaw-{profile.strip()}"
    usual, of_old = home / ".openclaw", home / ".clawdbot"
    return of_old if not os.path.exists(usual) and os.path.exists(of_old) else usual  # noqa: PTH110 - no exception


def state_data_folder(state: Path) -> Path:
    """Return the folder of this tool's own data in a state folder of OpenClaw's."""
    return state / APP_NAME


def ignored_data_home(environ: Mapping[str, str]) -> str | None:
    """Return XDG_DATA_HOME if it is set and ignored, because it is relative."""
    text = environ.get(DATA_HOME_VARIABLE, "")
    return text if text and _absolute(text) is None else None


def _absolute(text: str | None) -> Path | None:
    path = None if not text else Path(text)
    return path if path is not None and path.is_absolute() else None


def _has_plugin(state: Path) -> bool:
    """Whether the plugin keeps a journal in a state folder, or OpenClaw has installed it there."""
    places = (state_data_folder(state) / JOURNAL_NAME, state / "extensions" / _PLUGIN)
    return any(os.path.lexists(place) for place in places)


def _openclaw_value(environ: Mapping[str, str], name: str) -> str | None:
    text = environ.get(name, "").strip()
    return text or None


def _openclaw_home(environ: Mapping[str, str]) -> Path | None:
    """Return the home folder that OpenClaw uses: OPENCLAW_HOME, else the user's."""
    home, text = home_folder(environ), _openclaw_value(environ, _OPENCLAW_HOME_VARIABLE)
    return home if text is None or text in ("undefined", "null") else _openclaw_path(text, home)


def _openclaw_path(text: str, home: Path | None) -> Path:
    """Return a path as OpenClaw resolves it: "~" stands for the home folder, a relative one begins where it runs."""
    path = system_path(text)
    if home is not None and (text == "~" or text.startswith("~/")):
        path = home / system_path(text[2:])
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolves "..", follows no link
