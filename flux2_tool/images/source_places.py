"""Where the source files of one call may be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_INBOUND: Final = Path("media") / "inbound"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePlaces:
    """The places of one call's source files.

    Attributes:
        roots: The allowed folders; None allows all, also hidden ones, for a person who types a path.
        workspace: The base of relative paths; None when there is none.
        inbound: OpenClaw's folder for pictures from the chat; None outside OpenClaw.
        staged: OpenClaw's folder for copies of them for this session's agent; None outside OpenClaw.
        inbound_only: Whether only these two folders are allowed, as in a sandboxed session.
    """

    roots: tuple[Path, ...] | None
    workspace: Path | None
    inbound: Path | None = None
    staged: Path | None = None
    inbound_only: bool = False


def inbound_folder(parent: Path) -> Path:
    """Return the folder for pictures from the chat, under OpenClaw's state folder or under a workspace.

    Measured with OpenClaw 2026.9.6: a picture is saved under the state folder, and a copy in the session's workspace;
    the model reads the copy's path, relative to the workspace in a sandboxed session.
    """
    return parent / _INBOUND
