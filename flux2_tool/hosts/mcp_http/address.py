"""Where the HTTP server listens, as `--http` names it. Without a host that is this machine alone."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from typing import Final

from flux2_tool.exceptions import ConfigurationError

PATH: Final = "/mcp"
_LOOPBACK: Final = "127.0.0.1"
_FORMS: Final = "write HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080; PORT alone means 127.0.0.1, port 0 a free one"
_WHY: Final = {
    errno.EADDRINUSE: ("is in use", "choose another port, or 0 for a free one"),
    errno.EADDRNOTAVAIL: ("is no address of this machine", "name one of its addresses, or 0.0.0.0 for all of them"),
    errno.EACCES: ("may not be opened by this user", "choose a port from 1024 on"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A socket that listens.

    Attributes:
        url: What clients are given.
        is_loopback: Whether only this machine reaches it.
    """

    listener: socket.socket
    url: str
    is_loopback: bool


def parsed(text: str) -> tuple[str, int]:
    """Return the host and the port of `HOST:PORT`.

    Raises:
        ConfigurationError: It has another form.
    """
    host, colon, port = text.strip().rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if host.count(":") and not is_bracketed:
        raise ConfigurationError(f"--http {text}: an IPv6 address stands in brackets", hint=_FORMS)
    if not port.isascii() or not port.isdigit() or not int(port) <= 65535:
        raise ConfigurationError(f'--http {text}: "{port}" is no port, 0 to 65535', hint=_FORMS)
    host = host[1:-1] if is_bracketed else host
    if "/" in host or (colon and is_bracketed and not host):
        raise ConfigurationError(f"--http {text}: this is no host", hint=_FORMS)
    return host or _LOOPBACK, int(port)


def listen(text: str) -> Listening:
    """Open what `--http` names; nothing is accepted yet.

    Raises:
        ConfigurationError: It has no such form, or cannot be opened.
    """
    host, port = parsed(text)
    shown = f"{_in_url(host)}:{port}"
    try:
        # Of a name's addresses the first, as "localhost" may have one of each family.
        found = socket.getaddrinfo(_LOOPBACK if host == "localhost" else host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise ConfigurationError(f"--http {text}: no address of {host} is known", hint=_FORMS) from exc
    family, _kind, _protocol, _name, address = found[0]
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it every answer is 40 ms late.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as exc:
        listener.close()
        what, hint = _WHY.get(exc.errno or 0, (f"cannot be opened: {exc.strerror}", _FORMS))
        raise ConfigurationError(f"{shown} {what}", hint=hint) from exc
    bound = ipaddress.ip_address(str(listener.getsockname()[0]).partition("%")[0])
    named = "localhost" if host == "localhost" else _in_url(host)
    return Listening(
        listener=listener, url=f"http://{named}:{listener.getsockname()[1]}{PATH}", is_loopback=bound.is_loopback
    )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
