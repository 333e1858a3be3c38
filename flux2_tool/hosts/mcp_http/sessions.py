"""The sessions of the HTTP server, and the conversations that they belong to.

Sessions that are open at once are conversations of their own. A client that opens a new one after its last has ended,
or has been cut off, goes on with that one's conversation: so does a framework that opens one for each call, and a host
that was restarted, which must not pay again for what it never got. That holds across restarts of the server, because
conversations have the names of the client program and its address, and are numbered where there are several at once.
Pure: no I/O, and the time is passed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from flux2_tool.hosts.mcp_http.running import RunningIds

MAX_SESSIONS: Final = 1000
# A client that comes back later is told that its session is over, and opens another.
IDLE_S: Final = 30 * 60.0
# Where there are too many, the longest idle one makes room, if it has been so for this long.
YIELDS_AFTER_S: Final = 60.0
_PREFIX: Final = "mcp-http:"
_NAME_CHARS: Final = 64
_UNUSUAL: Final = re.compile(r"[^\w.+-]+")


@dataclass(slots=True, kw_only=True)
class Session:
    """One session of a client.

    Attributes:
        session_id: As the SDK gave it.
        client: The client's program and address.
        number: Which of that client's conversations it is.
        used_s: When it was last used, on a monotonic clock.
        open: How many of its requests are being answered.
        left: How many of these its client has left.
        is_away: Whether its client has closed a connection that was not yet answered, and has not come back.
        running: The ids of its running requests.
    """

    session_id: str
    client: str
    number: int
    used_s: float
    open: int = 0
    left: int = 0
    is_away: bool = False
    running: RunningIds = field(default_factory=RunningIds)

    @property
    def conversation(self) -> str:
        """The name of its conversation."""
        return f"{self.client}/{self.number}"


class Sessions:
    """The open sessions of one server.

    Args:
        monotonic: Returns the time on a clock that never runs backwards, in seconds.
        most: How many may be open.
    """

    def __init__(self, monotonic: Callable[[], float], *, most: int = MAX_SESSIONS) -> None:
        self._monotonic = monotonic
        self._most = most
        self._open: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def find(self, session_id: str) -> Session | None:
        """Return an open session."""
        return self._open.get(session_id)

    def opened(self, session_id: str, *, client: str, address: str) -> Session:
        """Note a new session.

        Args:
            session_id: As the SDK gave it.
            client: The name that the client gives itself.
            address: Its IP address.
        """
        name = stateless_conversation(client, address)
        taken = {one.number for one in self._open.values() if one.client == name and not one.is_away}
        number = next(number for number in range(1, len(taken) + 2) if number not in taken)
        session = Session(session_id=session_id, client=name, number=number, used_s=self._monotonic())
        self._open[session_id] = session
        return session

    def ended(self, session_id: str) -> None:
        """Note that a session is over."""
        self._open.pop(session_id, None)

    def begin(self, session: Session) -> None:
        """Note that a request of a session is being answered."""
        session.open += 1
        session.is_away = False

    def leave(self, session: Session) -> None:
        """Note that the client has closed the connection of a request that is being answered."""
        session.left += 1
        session.is_away = session.left == session.open

    def finish(self, session: Session, *, is_left: bool) -> None:
        """Note that a request is not being answered any more.

        Args:
            session: Its session.
            is_left: Whether the client has left it, see `leave`.
        """
        session.open -= 1
        session.left -= is_left
        session.used_s = self._monotonic()
        if not is_left:
            session.is_away = False

    def idle(self) -> list[str]:
        """Return the ids of sessions that nobody has used for IDLE_S."""
        return self._unused_for(IDLE_S)

    def yielding(self) -> str | None:
        """Return the id of the session that makes room for another, if there is no room and one can."""
        return next(iter(self._unused_for(YIELDS_AFTER_S)), None) if self.is_full else None

    @property
    def is_full(self) -> bool:
        """Whether no other session may be opened."""
        return len(self._open) >= self._most

    def _unused_for(self, idle_s: float) -> list[str]:
        """Return the ids of sessions that were not used for some time, the longest unused first."""
        until_s = self._monotonic() - idle_s
        found = [one for one in self._open.values() if one.open == 0 and one.used_s <= until_s]
        return [one.session_id for one in sorted(found, key=lambda one: one.used_s)]


def stateless_conversation(client: str, address: str) -> str:
    """Return the conversation of requests without a session: that of the client program at its address."""
    name = _UNUSUAL.sub("_", client)[:_NAME_CHARS].strip("_") or "client"
    return f"{_PREFIX}{name}@{address}"
