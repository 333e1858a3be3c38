"""Tell a public address from one that leads into this machine or its network, by its literal text alone.

No name is looked up: a look-up would itself tell somebody, and its answer may change before the connection. Where a
connection is ours, `download.py` checks the connected address as well.
"""

from __future__ import annotations

import ipaddress
import socket
import unicodedata
from typing import Final
from urllib.parse import unquote

_PRIVATE_SUFFIXES: Final = (".localhost", ".local", ".internal", ".home.arpa")
# All that is routed on the public internet; what stands outside leads into some network, or embeds an IPv4 address.
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def is_private_address(text: str) -> bool:
    """Return whether an IP address is not a public one: loopback, private, link-local, reserved and the like.

    Source: the IANA registries of special-purpose addresses, as the standard library has them; RFC 4291, RFC 6052.
    """
    try:
        address = ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None:
            return address not in _GLOBAL_UNICAST or not address.is_global
        address = inner
    return not address.is_global or address.is_multicast


def is_private_host(host: str) -> bool:
    """Return whether a URL's host is, as written, this machine or an address of a private network.

    Also in the spellings that a resolver or a browser takes for it: percent-encoded, in other digits or with other
    dots (UTS #46), and as inet_aton(3) reads an IPv4 address, such as 127.1, 0x7f000001 and 2130706433.
    """
    name = _plain(host).strip("[]").rstrip(".")
    if name == "localhost" or name.endswith(_PRIVATE_SUFFIXES):
        return True
    if is_private_address(name):
        return True
    try:
        return is_private_address(socket.inet_ntoa(socket.inet_aton(name)))
    except (OSError, ValueError):
        return False


def _plain(host: str) -> str:
    """Return a host in plain letters, digits and dots, as whoever looks it up will see it."""
    text = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".")
    return "".join(character for character in text if unicodedata.category(character) not in ("Cc", "Cf", "Mn")).lower()
