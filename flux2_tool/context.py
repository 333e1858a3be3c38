"""The caller of a call: the facts that a host gives beside the arguments."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flux2_tool._folders import home_folder

# Over MCP the connection is the session, named by the process that serves it: a host that reconnects continues the
# same conversation.
CONNECTION: Final = "connection:"

# PostgreSQL has no index entry above 2.7 kB, and some have two names.
_LONGEST_NAME_BYTES: Final = 1000
_KEPT_CHARACTERS: Final = 200


def kept_name(text: str) -> str:
    """Return the name of a conversation or person as every journal can keep it: the same again for what it returns.

    A host may give a lone surrogate, which UTF-8 cannot encode, a NUL, which PostgreSQL cannot keep, or a whole text,
    of which the beginning and a digest are kept.
    """
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")
    data = text.encode()
    if len(data) <= _LONGEST_NAME_BYTES:
        return text
    return f"{text[:_KEPT_CHARACTERS]}… {hashlib.sha256(data).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A person's consent to one call: to these arguments, up to this price, for new images once.

    Attributes:
        approval_id: Its own id, so that it counts once.
        request_key: The same for the same arguments of the same conversation and account.
        usd: What the call's images may cost together.
    """

    approval_id: str
    request_key: str
    usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """The caller of one call.

    Attributes:
        session: The conversation; None for a call without one.
        sender: The person who asked, as the host names them.
        shared_session: Another session whose tasks this one may use, too: that of its agent's unattributed calls.
        ancestors: The sessions that spawned this one, as a subagent's is, by the host's own records.
        descendants: The sessions that this one has spawned, which hand their images over to it.
        is_handed_over: Whether another conversation shows its images: the one that spawned it.
        unattended: What kind of run it is, in words, where nobody is known for whom it works: a scheduled one, say.
        spends_as_owner: Whether it works for the owner, as a subagent of the owner's turn does, and is not the owner.
        is_unattributed: Whether the host names neither the conversation nor the sender; `session` is then the agent's.
        is_unnamed: Whether the host does not name the conversation, so that `session` may stand for several.
        is_private: Whether nobody but the owner reads what is said in this conversation.
        is_owner: Whether that person owns this installation, as a user of its command line does.
        workspace_dir: The base of relative source paths, and the default folder of source files.
        state_dir: OpenClaw's state folder, which holds the pictures received by chat.
        sandboxed: Whether the session runs in a sandbox; then only those pictures may be used.
        by_model: Whether a model chose the arguments; in an agent's host it always did.
        any_folder: Whether source files may lie anywhere, because a person typed their paths.
        source_dirs: Folders of the host's own, in which it put this call's source files.
        is_watching: Whether the host itself waits for the image, and shows nobody what this call returns.
        must_ask: Whether a person has to agree to what costs more than the setting `ask_above_usd`.
        approval: That person's consent to this call.
    """

    session: str | None = None
    sender: str | None = None
    shared_session: str | None = None
    ancestors: tuple[str, ...] = ()
    descendants: frozenset[str] = frozenset()
    is_handed_over: bool = False
    unattended: str | None = None
    spends_as_owner: bool = False
    is_unattributed: bool = False
    is_unnamed: bool = False
    is_private: bool = False
    is_owner: bool = False
    workspace_dir: Path | None = None
    state_dir: Path | None = None
    sandboxed: bool = False
    by_model: bool = False
    any_folder: bool = False
    source_dirs: tuple[Path, ...] = ()
    is_watching: bool = False
    must_ask: bool = False
    approval: Approval | None = None

    def __post_init__(self) -> None:
        for name in ("session", "sender", "shared_session"):
            text = getattr(self, name)
            if text is not None:
                object.__setattr__(self, name, kept_name(text))
        object.__setattr__(self, "ancestors", tuple(map(kept_name, self.ancestors)))
        object.__setattr__(self, "descendants", frozenset(map(kept_name, self.descendants)))

    def may_use(self, session: str | None) -> bool:
        """Return whether this caller may view and edit a task that was begun in a session."""
        if self.is_owner or session == self.session:
            return True
        return session is not None and (session == self.shared_session or session in self.descendants)


def working_folder() -> Path | None:
    """Return the folder this process runs in, or None when it has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def workspace_of(folder: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the folder whose pictures a model may use as sources, or None when the process's folder is too broad.

    A host started from a desktop runs its servers in the home folder or in the root, which are no project folders.
    """
    if folder is None:
        return None
    folder, home = folder.resolve(), home_folder(environ)
    is_too_broad = folder == folder.parent or (home is not None and home.resolve().is_relative_to(folder))
    return None if is_too_broad else folder
