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
_is_expected = True


def choose(way: str) -> None:
    """Set the way for this process."""
    global _chosen
    _chosen = way
    if way == "sockets":
        # Its trace quotes whatever a service echoes; nobody turns it on, and what the tests search is our own log.
        logging.getLogger("httpcore").setLevel(logging.INFO)


def chosen() -> str:
    """Return the way."""
    return _chosen


def expect(is_expected: bool) -> None:
    """Say whether the test that comes next may use the network; see `reaching.py`."""
    global _is_expected
    _is_expected = is_expected


def network_of(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
    """Return the network whose other end is this transport."""
    assert _is_expected, "reaching.py does not see that this test sends requests; it would not run over sockets"
    if _chosen == "transport":
        return transport
    from tests.support.sockets import SocketTransport

    return SocketTransport(transport)
