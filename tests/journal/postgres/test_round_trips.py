"""How often an operation waits for the database's server.

Across a network each wait costs a round trip, and while a claim waits no other claim is made, in any process.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from flux2_tool.journal import Cap, ClaimRules, Conversation, CreateLimit, Outcome, open_journal
from flux2_tool.journal.place import DatabaseUrl
from tests.support.journal import NOON, Machine, Named

CAPS = (
    Cap(kind="session", limit_usd=1.0, session="a session"),
    Cap(kind="day", limit_usd=1.0, since=NOON - 3600.0, until=NOON + 3600.0),
)
RULES = ClaimRules(
    join="session", inherited_session_prefix="connection:", repeat_max=3, repeat_window_s=600.0, caps=CAPS
)
ACCOUNT = {"fingerprint": "0123456789abcdef", "base_url": "https://runapi.test"}


class Counter:
    """A way to a server that counts how often its user has to wait: requests that follow an answer."""

    def __init__(self, place: DatabaseUrl) -> None:
        self.trips = 0
        self._port = urlsplit(place.url).port
        self._listener = socket.create_server(("127.0.0.1", 0))
        url = place.url.replace(f":{self._port}/", f":{self._listener.getsockname()[1]}/")
        self.place = DatabaseUrl(url, schema=place.schema)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                threading.Thread(target=self._lead, args=(client, server), daemon=True).start()

    def _lead(self, client: socket.socket, server: socket.socket) -> None:
        is_answered = True
        with client, server, contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([server, client], [], [])
                come, go = (server, client) if ready[0] is server else (client, server)
                if not (data := come.recv(65536)):
                    return
                self.trips += come is client and is_answered
                is_answered = come is server
                go.sendall(data)


@pytest.fixture
def counter(place: DatabaseUrl) -> Iterator[Counter]:
    """A way to the tests' server."""
    counter = Counter(place)
    yield counter
    counter.close()


def waits_of_operations(counter: Counter, machine: Machine) -> dict[str, int]:
    """Have a record live, and return how often each operation on it waited for the server."""
    journal = open_journal(counter.place, owner=Named("me"), now=NOON)
    intent = machine.intent()
    record_id, waits = intent.record_id, dict[str, int]()

    def count(name: str, operation: Callable[[], object]) -> None:
        before = counter.trips
        operation()
        waits[name] = counter.trips - before

    journal.get("nothing")  # waits for the first connection too
    count("claim", lambda: journal.claim([intent], RULES, now=NOON))
    limit = CreateLimit(8, 0, intent.base_url, intent.fingerprint)
    count("note_route", lambda: journal.note_route(record_id, "guide", now=NOON, creates=limit))
    count(
        "note_accepted",
        lambda: journal.note_accepted(record_id, now=NOON, task_id="t", status_url=None, request_id=None),
    )
    count("heartbeat", lambda: journal.heartbeat(now=NOON))
    count("mark_unconfirmed", lambda: journal.mark_unconfirmed(sent_before=NOON, now=NOON))
    count("note_end", lambda: journal.note_end(record_id, Outcome(state="completed", cost_usd=0.05), now=NOON))
    count("note_delivered", lambda: journal.note_delivered(record_id, now=NOON))
    count("newest", lambda: journal.newest(**ACCOUNT, session="a session"))
    count("recent", lambda: journal.recent(Conversation(**ACCOUNT, session="a session"), limit=5))
    count("unowned", lambda: journal.unowned(**ACCOUNT, now=NOON, resend_since=NOON))
    count("get", lambda: journal.get(record_id))
    journal.close()
    return waits


def test_operations_wait_for_the_server_once_or_twice(counter: Counter, machine: Machine) -> None:
    """Once to read, or to write what needs no look; twice where it writes by what it has read."""
    # Seen from the network, what is sent while an answer is on its way may pass for one more wait, or for one less.
    rounds = [waits_of_operations(counter, machine) for _ in range(3)]

    least = {name: min(one[name] for one in rounds) for name in rounds[0]}
    twice = ("claim", "note_route", "note_accepted", "heartbeat", "mark_unconfirmed", "note_end")
    assert {name: waits for name, waits in least.items() if waits > (2 if name in twice else 1)} == {}
