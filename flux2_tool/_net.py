"""Classify URLs and hosts by their text alone, and normalize the base URLs that an operator sets.

No name is looked up: a look-up would leak the name by DNS, and its result may change before the connection. For our
own connections `images/download.py` checks the connected address as well.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import unicodedata
from functools import lru_cache
from typing import Any, Final, TypeGuard
from urllib.parse import SplitResult, unquote, urlsplit

MAX_URL_CHARS: Final = 8192

# Splitting a URL normalizes its host, which takes time by the square of its length where it is not ASCII.
MAX_UNICODE_AUTHORITY_CHARS: Final = 2048
_AFTER_AUTHORITY: Final = re.compile("[/?#]")

# A proxy and a server may each decode a host once.
_MAX_DECODINGS: Final = 3
# Names of this machine, of cloud metadata services, and of private networks; a name without a dot is one, too.
# Sources: RFC 6761, RFC 6762, RFC 8375, the hosts files of Debian and Fedora, ICANN's reserved "internal".
_PRIVATE_DOMAINS: Final = (
    *("localhost", "localdomain", "localdomain4", "localdomain6", "local", "internal", "home.arpa"),
    *("intranet", "private", "corp", "home", "lan"),
    # Public names that answer with the address they contain, or with that of this machine.
    *("nip.io", "sslip.io", "xip.io", "localtest.me", "lvh.me"),
)
# What the IANA registries do not call private in every version of Python, and no picture is served from.
_NEVER_PUBLIC: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments; a cloud's metadata service is in it
        "192.88.99.0/24",  # relays of 6to4
        "168.63.129.16/32",  # a cloud's metadata service
        "2001::/23",  # Teredo and other protocols
        "2002::/16",  # 6to4: contains an IPv4 address
        "3fff::/20",  # documentation
    )
)
# All addresses routed on the public internet; any other one is of a local network or embeds an IPv4 address.
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# The middle of an ISATAP interface identifier, without its two flag bits. Source: RFC 5214 section 6.1.
_ISATAP: Final = 0x00005EFE
_ISATAP_FLAGS: Final = 0x03000000
# Source: the URL standard, "forbidden domain code point".
_FORBIDDEN_IN_HOST: Final = frozenset(map(chr, range(0x21))) | frozenset('"#%/:<>?@[\\]^`{|}\x7f')
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


def is_private_address(text: str) -> bool:
    """Return whether an IP address is not a public one: loopback, private, link-local, multicast, reserved and so on.

    An IPv6 address that contains an IPv4 address is public if it is mapped or translated (NAT64) and that one is;
    every other such form, 6to4, Teredo and ISATAP, leads through a tunnel and is not.

    Source: the IANA registries of special-purpose addresses, as the standard library has them; RFC 4291, RFC 6052.
    """
    try:
        address = ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None:
            is_isatap = (int(address) >> 32) & 0xFFFFFFFF & ~_ISATAP_FLAGS == _ISATAP
            return address not in _GLOBAL_UNICAST or is_isatap or _is_special(address)
        address = inner
    return _is_special(address)


def _is_special(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return not address.is_global or address.is_multicast or any(address in network for network in _NEVER_PUBLIC)


def is_private_host(host: str) -> bool:
    """Return whether a URL's host is, as written, this machine or an address of a private network.

    Also in the spellings that a resolver or a browser accepts for it: percent-encoded, in other digits or with other
    dots (UTS #46). Of an IPv4 address only the usual spelling is public: another one (127.1, 0x7f000001, 0177.0.0.1,
    2130706433) is read differently by different programs. Source: the URL standard, "ends in a number".
    """
    name = _plain(host).strip("[]").rstrip(".")
    if ":" in name:
        return is_private_address(name) or not _is_ipv6(name)
    if not _FORBIDDEN_IN_HOST.isdisjoint(name):  # one program's host may end there for another
        return True
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return is_private_address(str(ipaddress.IPv4Address(name)))
        except ValueError:
            return True
    return len(labels) == 1 or any(name == domain or name.endswith(f".{domain}") for domain in _PRIVATE_DOMAINS)


def split_url(text: str) -> SplitResult:
    """Return a URL's parts, in time that is linear in its length.

    Raises:
        ValueError: It is no URL, or longer than any that is used.
    """
    if len(text) > MAX_URL_CHARS:
        raise ValueError("the URL is too long")
    authority = _AFTER_AUTHORITY.split(text.partition("//")[2], maxsplit=1)[0]
    if len(authority) > MAX_UNICODE_AUTHORITY_CHARS and not authority.isascii():
        raise ValueError("the URL's host is too long")
    return urlsplit(text)


def is_private_url(url: str, *, loopback_allowed: bool) -> bool:
    """Return whether a URL's host is private, see `is_private_host`, or cannot be read.

    Args:
        url: Any text.
        loopback_allowed: Whether this machine, by its literal name or address, counts as public, as for a sandbox.
    """
    try:
        host = split_url(url).hostname or ""
    except ValueError:
        return True
    return is_private_host(host) and not (loopback_allowed and is_loopback(host))


def _plain(host: str) -> str:
    """Return a host in plain letters, digits and dots, as a resolver normalizes it."""
    for _ in range(_MAX_DECODINGS):
        host, before = unquote(host), host
        if host == before:
            break
    text = unicodedata.normalize("NFKC", host).replace("\u3002", ".")
    return "".join(character for character in text if unicodedata.category(character) not in ("Cf", "Mn")).lower()


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text.split("%", 1)[0])
    except ValueError:
        return False
    return True


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Return whether a URL's host name or literal address is this machine; no name is looked up."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Not every version of Python looks into a mapped address.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


@lru_cache(maxsize=256)
def is_loopback_url(url: str) -> bool:
    """Return whether a URL's host is this machine, by its literal name or address."""
    return is_loopback(urlsplit(url).hostname or "")


def is_web_url(value: Any) -> TypeGuard[str]:
    """Return whether this is a bounded http(s) URL with a host and without blanks, controls or credentials."""
    # Of all white space only the plain blank is printable.
    if not isinstance(value, str) or " " in value or not value.isprintable():
        return False
    try:
        parts = split_url(value)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and port != 0  # no port, for which clients take the usual one
        and parts.username is None
        and parts.password is None
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
        parts = split_url(text)
        host = None if parts.port == 0 else parts.hostname  # clients take the usual port for it
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
