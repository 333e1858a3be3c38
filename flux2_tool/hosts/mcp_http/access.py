"""Who may speak to the HTTP server: whoever has the token, and where there is none, programs of this machine.

A web page that a person looks at must not reach it through their browser: not from another origin, and not under a name
that its owner lets point to this machine ("DNS rebinding"). Sources: the MCP specification, 2025-11-25,
basic/transports, security warning; RFC 6750.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from flux2_tool._net import is_loopback, origin_of
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.variables import TOKEN_VARIABLE

SHORTEST_TOKEN: Final = 32
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_MAKE_ONE: Final = (
    f"set {TOKEN_VARIABLE} to a secret of at least {SHORTEST_TOKEN} characters, for instance that of: "
    'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is not served."""

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


def token_of(environ: Mapping[str, str], *, is_loopback_only: bool, address: str) -> str | None:
    """Return the token that clients must send; None where none is needed.

    Args:
        environ: The environment.
        is_loopback_only: Whether only this machine reaches the server.
        address: Where it listens, for the message.

    Raises:
        ConfigurationError: It is missing, or could be guessed or not be sent. It is never shown.
    """
    token = environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        if is_loopback_only:
            return None
        raise ConfigurationError(
            f"other machines reach {address}, and {TOKEN_VARIABLE} is not set: everybody there could spend this "
            "account's money",
            hint=f"{_MAKE_ONE}; or listen at 127.0.0.1",
        )
    if len(token) < SHORTEST_TOKEN:
        raise ConfigurationError(f"{TOKEN_VARIABLE} has {len(token)} characters and could be guessed", hint=_MAKE_ONE)
    if not _TOKEN.fullmatch(token):
        raise ConfigurationError(
            f"{TOKEN_VARIABLE} has characters that no Authorization header carries; allowed: A-Z a-z 0-9 . _ ~ + / -",
            hint=_MAKE_ONE,
        )
    return token


class Access:
    """Decides about requests by their headers.

    Args:
        token: What clients must send; None for whoever reaches a server of this machine alone.
    """

    def __init__(self, token: str | None) -> None:
        self._digest = None if token is None else _digest(token)

    def refusal(self, headers: Mapping[str, Sequence[str]]) -> Refusal | None:
        """Return why a request is refused, None if it is not.

        Args:
            headers: All values by the header's name in lower case.
        """
        netloc = (*headers.get("host", ()), "")[0]
        if len(headers.get("host", ())) > 1:
            return Refusal(status=400, message="the header host was sent more than once")
        host = _host_name(netloc)
        # A name may be anybody's; whoever knows the token is no web page.
        if self._digest is None and not _is_here(host):
            return Refusal(status=421, message="without a token this server answers only to localhost and addresses")
        # With a token a proxy may end TLS; without one this server is reached by itself, and has none.
        schemes = ("http",) if self._digest is None else ("http", "https")
        if not all(_is_own(origin, netloc, schemes) for origin in headers.get("origin", ())):
            return Refusal(status=403, message="web pages of another origin may not use this server")
        if self._digest is None:
            return None
        given = headers.get("authorization", ())
        scheme, _, token = (given[0] if len(given) == 1 else "").strip().partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(_digest(token.strip()), self._digest):
            return None
        challenge = 'Bearer realm="flux2-tool"' + (', error="invalid_token"' if given else "")
        message = f"send the server's token ({TOKEN_VARIABLE}) as: Authorization: Bearer TOKEN"
        return Refusal(status=401, message=message, headers={"www-authenticate": challenge})


def _digest(token: str) -> bytes:
    # Of equal length, so that comparing takes equally long.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _host_name(netloc: str) -> str:
    """Return the host of `host:port` in lower case, without the brackets of IPv6; "" for nonsense."""
    try:
        return (urlsplit(f"//{netloc}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_own(origin: str, netloc: str, schemes: Sequence[str]) -> bool:
    """Return whether a page's origin is the one that its request is for; this machine's names are one host."""
    try:
        scheme, page, port = origin_of(origin)
        _, host, own_port = origin_of(f"{scheme}://{netloc}")
    except ValueError:
        return False
    page, host = page.rstrip("."), host.rstrip(".")
    is_same_host = page == host or (is_loopback(page) and is_loopback(host))
    return scheme in schemes and bool(page) and is_same_host and port == own_port


def _is_here(host: str) -> bool:
    if is_loopback(host):
        return True
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
