"""A port that leads to a server as if it were further away: each request waits as long as a round trip takes longer.

A process of its own, so that it takes nothing from those that are measured but CPU time, which they share.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

_FORK = multiprocessing.get_context("fork")
_MOST_BYTES = 1 << 20


@contextlib.contextmanager
def distant(port: int, *, round_trip_s: float) -> Iterator[int]:
    """Yield a port on loopback that leads to another one."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    process = _FORK.Process(target=_accept, args=(listener, port, round_trip_s), daemon=True)
    process.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        process.terminate()
        process.join()
        listener.close()


def _accept(listener: socket.socket, port: int, round_trip_s: float) -> None:
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", port))
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_lead, args=(client, server, round_trip_s), daemon=True).start()


def _lead(client: socket.socket, server: socket.socket, round_trip_s: float) -> None:
    is_answered = True
    with client, server, contextlib.suppress(OSError):
        while True:
            ready: Any = select.poll()
            for end in (client, server):
                ready.register(end, select.POLLIN)
            for number, _ in ready.poll():
                come, go = (client, server) if number == client.fileno() else (server, client)
                data = come.recv(_MOST_BYTES)
                if not data:
                    return
                if come is client and is_answered:
                    time.sleep(round_trip_s)
                is_answered = come is server
                go.sendall(data)
