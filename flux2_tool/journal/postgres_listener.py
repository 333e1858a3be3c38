"""Hear what other processes say through PostgreSQL: one connection and one thread, and no query to ask for it.

Source: https://www.postgresql.org/docs/current/sql-listen.html and sql-notify.html. Through a pooler that gives each
transaction another connection nothing is heard; then what is read with heartbeats and before POSTs is all there is.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import selectors
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger(__name__)

_AGAIN_AFTER_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
# A connection that broke without a word is noticed within a minute.
_ALIVE: Final = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


def channel_of(schema: str) -> str:
    """Return the name of the channel of the journal in a schema."""
    return f"flux2_tool_{hashlib.sha256(schema.encode()).hexdigest()[:16]}"


class PostgresListener:
    """Listens in a thread of its own, and connects again when the connection is lost.

    Args:
        url: As PostgreSQL's own programs take it.
        schema: The journal's schema.
        options: Of the connection.
    """

    def __init__(self, url: str, *, schema: str, options: dict[str, Any]) -> None:
        self._url = url
        self._channel = channel_of(schema)
        self._options = {**options, **_ALIVE}
        self._stopped = threading.Event()
        self._waker: tuple[socket.socket, socket.socket] | None = None

    def start(self, hear: Callable[[list[str]], None]) -> None:
        """Begin to listen.

        Args:
            hear: Called in the thread with the messages that came, and with none after each connecting: something may
                have been missed before.
        """
        self._waker = (_, woken) = socket.socketpair()
        thread = threading.Thread(target=self._run, args=(hear, woken), name="flux2-tool-journal-listener", daemon=True)
        thread.start()

    def stop(self) -> None:
        """End the thread soon, from any thread."""
        self._stopped.set()
        if self._waker is not None:
            with contextlib.suppress(OSError):  # the thread has ended
                self._waker[0].send(b"\0")

    # ---- private, in the thread --------------------------------------------------------------------------------------

    def _run(self, hear: Callable[[list[str]], None], woken: socket.socket) -> None:
        try:
            self._listen_again_and_again(hear, woken)
        finally:
            for end in self._waker or ():
                end.close()

    def _listen_again_and_again(self, hear: Callable[[list[str]], None], woken: socket.socket) -> None:
        import psycopg

        failures = 0
        while not self._stopped.is_set():
            try:
                with psycopg.connect(self._url, **self._options) as connection:
                    connection.execute(f'LISTEN "{self._channel}"')
                    failures = 0
                    hear([])
                    self._listen(connection, hear, woken)
            except (psycopg.Error, OSError) as exc:
                logger.info("listening to the journal's database: %s", type(exc).__name__)
            if not self._stopped.is_set():
                self._stopped.wait(_AGAIN_AFTER_S[min(failures, len(_AGAIN_AFTER_S) - 1)])
                failures += 1

    def _listen(
        self, connection: psycopg.Connection[Any], hear: Callable[[list[str]], None], woken: socket.socket
    ) -> None:
        """Hand on what comes, until this is stopped or, with an error, the connection is lost."""
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while not self._stopped.is_set():
                messages = []
                connection.pgconn.consume_input()
                while (notice := connection.pgconn.notifies()) is not None:
                    messages.append(notice.extra.decode(errors="replace"))
                if messages:
                    hear(messages)
                selector.select()
