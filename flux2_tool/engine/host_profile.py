"""The differences between hosts as data: the engine and the commands ask a host's profile and never its name.

The profiles of the existing hosts are below. A new host may define a `HostProfile` of its own in its file in `hosts/`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from flux2_tool.context import CONNECTION, CallContext

if TYPE_CHECKING:
    from flux2_tool.settings import Settings
    from flux2_tool.tasks.delivery import Receipt

Delivery = Literal["host", "parent", "model", "program"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostProfile:
    """How one kind of host calls.

    Attributes:
        wait_s: How long a call waits, in seconds, when neither it nor the settings say.
        is_agent: Whether a model chooses the arguments and the process lives on: then the operator's rules for
            agents hold, every call has a session, and each call also resumes what dead processes have left behind.
        callers_are_owners: Whether whoever calls owns this installation unless the host says otherwise.
        unnamed_session: The session of an agent's calls for which the host names none; "{process}" stands for this
            process.
        is_gateway: Whether the process is one of OpenClaw's gateway, whose data is in OpenClaw's state folder.
        receives_webhooks: Whether RunAPI's webhooks can reach this process through the host.
        delivery: Who brings a finished picture to the user, as `next` words it: "host", which attaches it and says so
            itself beside `next`; "parent", the conversation that spawned the call's; "model", which has to send path or
            link; "program", which shows it as it likes.
        adds_arguments: Whether hosts of this kind add arguments of their own to those of the model.
        asks_before_paying: Whether a person has to agree to what costs more than the setting `ask_above_usd`.
        receipt: What shows that the caller has a result; where it is not assumed the host calls `received` and `lost`.
        shares_files: Whether the caller reads this machine's files, so that a path is of use to it.
    """

    wait_s: float
    is_agent: bool
    callers_are_owners: bool
    unnamed_session: str = "default"
    is_gateway: bool = False
    receives_webhooks: bool = False
    delivery: Delivery = "program"
    adds_arguments: bool = False
    asks_before_paying: bool = False
    receipt: Receipt = "assumed"
    shares_files: bool = True

    def longest_wait_s(self, settings: Settings) -> float:
        """Return how long a call waits that says nothing itself, in seconds."""
        return self.wait_s if settings.wait_s is None else settings.wait_s

    def in_session(self, caller: CallContext | None, *, process: str) -> CallContext:
        """Return a caller in the session that the host names, else in an agent's own; a person may have none."""
        caller = caller or CallContext(is_owner=self.callers_are_owners)
        if not self.is_agent:
            return caller
        own = self.unnamed_session.format(process=process)
        # A process's own session is one conversation; any other name stands for all that the host does not name.
        is_unnamed = caller.is_unnamed or (caller.session is None and own == self.unnamed_session)
        return replace(
            caller,
            session=caller.session or own,
            is_unnamed=is_unnamed,
            by_model=True,
            must_ask=self.asks_before_paying,
        )


OPENCLAW: Final = HostProfile(
    wait_s=80.0,
    is_agent=True,
    callers_are_owners=False,
    is_gateway=True,
    receives_webhooks=True,
    delivery="host",
    asks_before_paying=True,
)
# Over MCP the connection is the session; a client that connects again goes on with the same conversation.
MCP: Final = HostProfile(
    wait_s=50.0,
    is_agent=True,
    callers_are_owners=True,
    unnamed_session=f"{CONNECTION}{{process}}",
    delivery="model",
    adds_arguments=True,
    asks_before_paying=True,
)
# Over HTTP each session has a name of its own; whoever calls may be on another machine.
MCP_HTTP: Final = replace(MCP, receipt="told", shares_files=False)
# Over stdio the pipe tells what was read.
MCP_STDIO: Final = replace(MCP, receipt="read")
# A model's calls in code that people wrote: that code asks, where it wants to.
PYTHON_AGENT: Final = replace(MCP, asks_before_paying=False)
# The command line, and code that people wrote.
LOCAL: Final = HostProfile(wait_s=900.0, is_agent=False, callers_are_owners=True)
