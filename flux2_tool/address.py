"""Tell a public address from one that leads into this machine or its network, by its literal text alone.

No name is looked up: a look-up would itself tell somebody, and its answer may change before the connection. Where a
connection is ours, `download.py` checks the connected address as well.
"""

from __future__ import annotations

import ipaddress
import socket

_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")


def is_private_address(text: str) -> bool:
    """Return whether an IP address is not a public one: loopback, private, link-local, reserved and the like."""
    try:
        address = ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return not (mapped or address).is_global or address.is_multicast


def is_private_host(host: str) -> bool:
    """Return whether a URL's host is, as written, this machine or an address of a private network.

    Also the spellings of an IPv4 address that inet_aton(3) takes, such as 127.1, 0x7f000001 and 2130706433.
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(_PRIVATE_SUFFIXES):
        return True
    if is_private_address(name):
        return True
    try:
        return is_private_address(socket.inet_ntoa(socket.inet_aton(name)))
    except (OSError, UnicodeError):
        return False
