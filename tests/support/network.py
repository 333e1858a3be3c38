"""Which way the tests' requests take to the service: through a transport in process, or over real sockets.

`pytest --network=sockets` chooses the second. A test that cannot mean the same there is marked `transport_only` with
the reason.
"""

from __future__ import annotations

import logging
from typing import Final

import httpx

WAYS: Final = ("transport", "sockets")
_chosen = "transport"


def choose(way: str) -> None:
    """Set the way for this process."""
    global _chosen
    _chosen = way
    if way == "sockets":
        # Its trace quotes whatever a service echoes; nobody turns it on, and what the tests search is our own log.
        logging.getLogger("httpcore").setLevel(logging.INFO)


def network_of(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
    """Return the network whose other end is this transport."""
    if _chosen == "transport":
        return transport
    from tests.support.sockets import SocketTransport

    return SocketTransport(transport)
