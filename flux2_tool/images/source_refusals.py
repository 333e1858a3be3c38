"""What a source picture that may not or cannot be read is refused with: the rule, and how the picture can be brought.

A refusal tells nothing of files outside the allowed folders, and in a sandboxed session nothing of any file.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from flux2_tool._files import kind_of
from flux2_tool.exceptions import SourceRefusedError
from flux2_tool.images.decode_limits import MAX_SOURCE_BYTES

if TYPE_CHECKING:
    from flux2_tool.images.source_places import SourcePlaces

# In a refusal's hint, between how the user can bring the picture and what else works.
ELSE: Final = " Else "

_TO_A_FILE: Final = "Save the picture to a file, and give that file's path."
_MAY_NOT: Final = (
    "cannot be read by this user: permission denied, for it or for a folder on the way to it",
    "Give this user the right to read it, or copy it to a folder that this user may read.",
)
_CAUSES: Final = {
    errno.EACCES: _MAY_NOT,
    errno.EPERM: _MAY_NOT,
    errno.ELOOP: ("cannot be followed: its symbolic links go in a circle", "Give the path of the file itself."),
    errno.ENXIO: ("is a socket, or a device that is not there", _TO_A_FILE),
}


class NotPlainError(Exception):
    """There is something else than a file in a file's place.

    Attributes:
        what: Completes the sentence "it …".
    """

    def __init__(self, mode: int) -> None:
        self.is_folder = stat.S_ISDIR(mode)
        self.what = f"is {kind_of(mode)}"
        super().__init__(self.what)


class MissingSourceError(SourceRefusedError):
    """There is no such file in a folder that may be read."""


class UnreadableSourceError(SourceRefusedError):
    """There is something in a folder that may be read, and it cannot be opened as a file."""


def unreadable(where: str, named: str, exc: OSError | NotPlainError) -> UnreadableSourceError:
    """Return the error for what cannot be opened as a file.

    Args:
        where: The argument's name.
        named: What was looked for, in quotes.
        exc: Why.
    """
    if isinstance(exc, NotPlainError):
        cause = f"{exc.what}, not a picture file"
        hint = "Name a picture file in it." if exc.is_folder else _TO_A_FILE
    else:
        code = exc.errno or 0
        cause, hint = _CAUSES.get(code, (f"cannot be opened: {os.strerror(code)}", "Check the path, then call again."))
    return UnreadableSourceError(f"{where} was refused: {named} {cause}. Nothing was sent.", hint=hint)


def too_large(where: str, size_bytes: int) -> SourceRefusedError:
    """Return the error for a source with too many bytes."""
    return refused(
        where,
        f"it has {size_bytes / 1024 / 1024:.0f} MiB and at most {MAX_SOURCE_BYTES // 1024 // 1024} MiB are allowed",
        "Use a smaller picture.",
    )


def outside(where: str, places: SourcePlaces) -> SourceRefusedError:
    if places.inbound_only:
        return refused(
            where,
            "in a sandboxed session only pictures from the chat may be used, and it names none that can be read",
            ask_for_it(places, "use the media://inbound reference of an attached picture, a link, or task:ID."),
        )
    return refused(
        where,
        "it lies outside the folders that source pictures may come from",
        ask_for_it(
            places,
            "use a picture from the workspace or the chat, a link, or task:ID; the operator can allow more folders "
            "with the setting source_roots.",
        ),
    )


def ask_for_it(places: SourcePlaces, otherwise: str) -> str:
    """Return the hint for a picture that cannot be reached: first how the user can bring it, then what else works.

    Args:
        places: Where the chat has a folder for pictures, one that is sent there can be used. Without any limit a
            person typed the source, who needs nobody to be asked.
        otherwise: The rest, as it follows "Else".
    """
    if places.roots is None:
        return otherwise[:1].upper() + otherwise[1:]
    if places.inbound is not None:
        return f"Ask the user to send the picture in this chat.{ELSE}{otherwise}"
    return f"Ask the user for a public link to the picture{_or_a_file(places)}.{ELSE}{otherwise}"


def _or_a_file(places: SourcePlaces) -> str:
    """Return where else the user may put the picture, as it follows the advice to give a link."""
    if places.inbound_only or not places.roots:
        return ""
    workspace = places.workspace
    if workspace is not None and any(workspace.is_relative_to(root) for root in places.roots):
        return ", or to put it into the workspace"
    return ", or to put it into a folder of the setting source_roots"


def not_readable(where: str, places: SourcePlaces, rule: str, hint: str) -> SourceRefusedError:
    """Return the error for a path in an allowed place that is not read."""
    # A sandboxed session may have put a link there: it must not be told what became of it.
    return outside(where, places) if places.inbound_only else refused(where, rule, hint)


def refused(where: str, rule: str, hint: str) -> SourceRefusedError:
    return SourceRefusedError(f"{where} was refused: {rule}. Nothing was sent.", hint=hint)
