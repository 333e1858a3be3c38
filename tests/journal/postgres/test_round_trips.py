"""How often an operation waits for the database's server.

Across a network each wait costs a round trip, and while a claim waits no other claim is made, in any process.
"""

from __future__ import annotations

import contextlib
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
    """A way to a server that counts, for each connection, how often its user asks for answers, and so has to wait.

    The Sync and the Flush at a pipeline's end are one.

    Source: https://www.postgresql.org/docs/current/protocol-message-formats.html (Flush, Query, Sync).
    """

    def __init__(self, place: DatabaseUrl) -> None:
        self._trips: list[int] = []
        self._port = urlsplit(place.url).port
        self._listener = socket.create_server(("127.0.0.1", 0))
        url = place.url.replace(f":{self._port}/", f":{self._listener.getsockname()[1]}/")
        self.place = DatabaseUrl(f"{url}{'&' if '?' in url else '?'}sslmode=disable", schema=place.schema)
        threading.Thread(target=self._accept, daemon=True).start()

    def waits_in(self, operation: Callable[[], object]) -> int:
        """Return how often an operation waits; others may connect or listen meanwhile."""
        before = list(self._trips)
        operation()
        return max(now - then for now, then in zip(self._trips, before, strict=False))

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._trips.append(0)
                for lead, *way in ((self._ask, client, server, len(self._trips) - 1), (_pass_on, server, client)):
                    threading.Thread(target=lead, args=way, daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, number: int) -> None:
        left, last = b"", b""
        with client, contextlib.suppress(OSError):
            while data := client.recv(65536):
                left += data
                while len(left) > 4:
                    start = len(last)  # the first message has no letter; a length counts itself and what follows
                    if len(left) < (whole := start + int.from_bytes(left[start : start + 4])):
                        break
                    letter = left[:start] or b"-"
                    self._trips[number] += letter in b"HQS" and last + letter != b"SH"  # before the server can answer
                    left, last = left[whole:], letter
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)


def _pass_on(server: socket.socket, client: socket.socket) -> None:
    with server, contextlib.suppress(OSError):
        while data := server.recv(65536):
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)


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
        waits[name] = counter.waits_in(operation)

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
    waited = waits_of_operations(counter, machine)

    twice = ("claim", "note_route", "note_accepted", "heartbeat", "mark_unconfirmed", "note_end")
    assert {name: waits for name, waits in waited.items() if waits > (2 if name in twice else 1)} == {}
