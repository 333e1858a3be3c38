"""A line to a PostgreSQL server that a test cuts, holds up or rewrites: what networks and failovers do."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

# before   the server never gets the message in which the text is
# after    the server has done what the message says, and its answer is lost
CutAt = Literal["before", "after"]


class PostgresProxy:
    """Listens on loopback, and carries each connection to a server.

    Args:
        port: The server's, on loopback.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._cut: tuple[re.Pattern[bytes], CutAt] | None = None
        self._rewritten: tuple[bytes, bytes] | None = None
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._sockets: set[socket.socket] = set()
        self.held = threading.Event()
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database behind this."""
        return f"postgresql://flux2@127.0.0.1:{self._listener.getsockname()[1]}/{database}?sslmode=disable"

    def cut_at(self, text: str, where: CutAt) -> None:
        """Break the connection on which a message with these whole words is sent next, once."""
        with self._lock:
            self._cut = (re.compile(re.escape(text.encode()) + rb"\b"), where)

    def rewrite(self, text: str, other: str) -> None:
        """Replace a text in what the server says by one of the same length."""
        assert len(text) == len(other)
        self._rewritten = (text.encode(), other.encode())

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Carry nothing while the block runs; `held` is set as soon as somebody waits."""
        self.held.clear()
        self._goes_on.clear()
        try:
            yield
        finally:
            self._goes_on.set()

    def close(self) -> None:
        """End it, with every connection."""
        self._listener.close()
        self._goes_on.set()
        for one in list(self._sockets):
            self._end(one)

    # ---- private -----------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                client.close()
                continue
            self._sockets |= {client, server}
            loses = threading.Event()
            for pump in (self._to_server, self._to_client):
                threading.Thread(target=pump, args=(client, server, loses), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, loses: threading.Event) -> None:
        for data in self._received(client):
            with self._lock:
                cut = self._cut if self._cut is not None and self._cut[0].search(data) else None
                if cut is not None:
                    self._cut = None
                    self.cuts += 1
            if cut is not None and cut[1] == "before":
                break
            if cut is not None:
                loses.set()
            self._send(server, data)
        self._end(client, server)

    def _to_client(self, client: socket.socket, server: socket.socket, loses: threading.Event) -> None:
        for data in self._received(server):
            if loses.is_set():
                break
            self._send(client, data.replace(*self._rewritten) if self._rewritten else data)
        self._end(client, server)

    def _received(self, source: socket.socket) -> Iterator[bytes]:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self._goes_on.is_set():
                    self.held.set()
                    self._goes_on.wait()
                yield data

    def _send(self, target: socket.socket, data: bytes) -> None:
        with contextlib.suppress(OSError):
            target.sendall(data)

    def _end(self, *sockets: socket.socket) -> None:
        for one in sockets:
            self._sockets.discard(one)
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def running_proxy(port: int) -> Iterator[PostgresProxy]:
    """Run one while the block runs."""
    proxy = PostgresProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
