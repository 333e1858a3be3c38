"""The differences between hosts, as data: the engine and the commands read a host's profile, never its name.

A new host defines its profile beside its code in `hosts/`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from flux2_tool.context import CONNECTION, CallContext

if TYPE_CHECKING:
    from flux2_tool.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class HostProfile:
    """How one kind of host calls.

    Attributes:
        wait_s: Default wait of a call, in seconds, when neither the call nor the settings set one.
        is_agent: Whether a model chooses the arguments and the process is long-lived: then the operator's rules for
            agents apply, every call has a session, and each call also resumes orphaned tasks.
        callers_are_owners: Whether the caller is the owner of this installation unless the host says otherwise.
        unnamed_session: The session of an agent's calls for which the host names none; "{process}" is replaced with
            this process's name.
        receives_webhooks: Whether RunAPI's webhooks can reach this process through the host.
        attaches_images: Whether the host itself puts the picture into the chat; else the model has to show it.
    """

    wait_s: float
    is_agent: bool
    callers_are_owners: bool
    unnamed_session: str = "default"
    receives_webhooks: bool = False
    attaches_images: bool = False

    def longest_wait_s(self, settings: Settings) -> float:
        """Return the default wait of a call, in seconds: the setting, else the host's."""
        return self.wait_s if settings.wait_s is None else settings.wait_s

    def in_session(self, caller: CallContext, *, process: str) -> CallContext:
        """Return the caller, in an agent's host always with a session: the named one, else `unnamed_session`."""
        if not self.is_agent:
            return caller
        session = caller.session or self.unnamed_session.format(process=process)
        return replace(caller, session=session, by_model=True)


OPENCLAW: Final = HostProfile(
    wait_s=80.0, is_agent=True, callers_are_owners=False, receives_webhooks=True, attaches_images=True
)
# Over MCP the connection is the session; a client that reconnects continues the same conversation.
MCP: Final = HostProfile(
    wait_s=50.0, is_agent=True, callers_are_owners=True, unnamed_session=f"{CONNECTION}{{process}}"
)
# The command line, and code that people wrote.
LOCAL: Final = HostProfile(wait_s=900.0, is_agent=False, callers_are_owners=True)
