"""The journal in PostgreSQL: one schema that the processes of many machines share.

Leases are measured on the server's clock, which is the same for all. A lease alone decides who owns a record, but for a
process of this very machine that has certainly ended. Whoever has lost a lease finds it out in the transaction in which
it would send or write.
"""

from __future__ import annotations

from collections.abc import Callable

from flux2_tool.journal.postgres_database import PostgresDatabase, ServerFacts
from flux2_tool.journal.process_id import Liveness, Moment, Owner
from flux2_tool.journal.store import SqlJournal

SERVER_CLOCK = "server"


class PostgresJournal(SqlJournal):
    """The `Journal` of one process over a schema in PostgreSQL.

    Args:
        database: Open.
        owner: This process.
        time_s: Returns the seconds since 1970 that leases are measured by; by default the server's.
    """

    has_server = True
    # To ask for a create slot in a claim would hold up the claims of all machines for one more round trip.
    claims_note_posts = False

    def __init__(self, database: PostgresDatabase, owner: Owner, *, time_s: Callable[[], float] | None = None) -> None:
        super().__init__(database, ServerTimed(owner, database, time_s=time_s))
        self._server = database

    def server_facts(self, *, clock: Callable[[], float], timer: Callable[[], float]) -> ServerFacts:
        """Ask the server about itself; see `PostgresDatabase.facts`."""
        return self._server.facts(clock=clock, timer=timer)


class ServerTimed:
    """A process whose leases are measured on the server's clock.

    Args:
        owner: The process.
        database: Its connection to the server.
        time_s: See `PostgresJournal`.
    """

    def __init__(self, owner: Owner, database: PostgresDatabase, *, time_s: Callable[[], float] | None = None) -> None:
        self._owner = owner
        self._database = database
        self._time_s = time_s

    @property
    def name(self) -> str:
        return self._owner.name

    def liveness(self, name: str) -> Liveness:
        """Return "dead" for a process of this machine that has ended; of any other the lease tells."""
        return "dead" if self._owner.liveness(name) == "dead" else "unknown"

    def moment(self) -> Moment:
        if self._time_s is not None:
            return Moment(SERVER_CLOCK, self._time_s())
        with self._database.reading():
            return Moment(SERVER_CLOCK, self._database.time_s())

    def close(self) -> None:
        self._owner.close()
