"""Classify URLs and hosts by their text alone, and normalize the base URLs that an operator sets.

No name is looked up: a look-up would leak the name by DNS, and its result may change before the connection. For our
own connections `images/download.py` checks the connected address as well.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
import unicodedata
from functools import lru_cache
from typing import Any, Final, TypeGuard
from urllib.parse import SplitResult, unquote, urlsplit

MAX_URL_CHARS: Final = 8192

_PRIVATE_SUFFIXES: Final = (".localhost", ".local", ".internal", ".home.arpa")
# All addresses routed on the public internet; any other one is of a local network or embeds an IPv4 address.
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

    Also in the spellings that a resolver or a browser accepts for it: percent-encoded, in other digits or with other
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
    """Return a host in plain letters, digits and dots, as a resolver normalizes it."""
    text = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".")
    return "".join(character for character in text if unicodedata.category(character) not in ("Cc", "Cf", "Mn")).lower()


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Return whether a URL's host name or literal address is this machine; no name is looked up."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_loopback_url(url: str) -> bool:
    """Return whether a URL's host is this machine, by its literal name or address."""
    return is_loopback(urlsplit(url).hostname or "")


def is_web_url(value: Any) -> TypeGuard[str]:
    """Return whether this is a bounded http(s) URL with a host and without blanks, controls or credentials."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_URL_CHARS:
        return False
    if " " in value or not value.isprintable():  # of all white space only the plain blank is printable
        return False
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None and parts.password is None
    )


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and effective port; the key is sent only where all three are equal."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port


def normalized_base_url(text: str) -> str:
    """Return RunAPI's address without a trailing `/v1` or slash.

    Raises:
        ValueError: It is no http(s) URL, carries credentials, a query or a fragment, or is plain http to
            another machine. The text follows the shown value in a message.
    """
    parts = _plain_url(text, example="https://runapi.ai")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("would send the key unencrypted: use https (http is for loopback only)")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1').rstrip('/')}"


def normalized_public_url(text: str) -> str:
    """Return the gateway's public address without a trailing slash.

    Raises:
        ValueError: As `normalized_base_url`.
    """
    parts = _plain_url(text, example="https://agent.example.com")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("must be https (http is for loopback only)")
    return text.strip().rstrip("/")


def _plain_url(text: str, *, example: str) -> SplitResult:
    """Return an http(s) URL of scheme, host, port and path alone, split."""
    text = text.strip()
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or any(c.isspace() or not c.isprintable() for c in text):
        raise ValueError(f"is not a URL such as {example}")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("must not carry a user name, password, query or fragment")
    return parts


def webhook_key(secret: str) -> bytes:
    """Return the bytes of an account's webhook secret.

    Raises:
        ValueError: It is empty or not base64; the message does not quote it.
    """
    try:
        key = base64.b64decode(secret.strip(), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError("is not a webhook secret: base64 text, as RunAPI shows it")
    return key
