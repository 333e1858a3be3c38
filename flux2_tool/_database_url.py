"""The address of a PostgreSQL database: what is wrong with it, and how it is shown, never with its password. Pure.

Source: https://www.postgresql.org/docs/current/libpq-connect.html, Connection URIs. libpq takes an address that is
written wrongly apart in surprising ways and quotes it in its messages; so an address is checked before it sees it.
"""

from __future__ import annotations

import re
from typing import Final

_SCHEMES: Final = ("postgresql", "postgres")
# Several hosts may be named, which is more than a URL has.
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?")
_HOSTS: Final = re.compile(r"[A-Za-z0-9._\-:,%\[\]]*")
_HOST: Final = re.compile(r"(?:\[[^\[\]]+\]|[^\[\]:]*)(?::.*)?")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_PARAMETERS: Final = frozenset(
    (
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation", "gssencmode"),
        *("host", "hostaddr", "port", "user", "password", "passfile", "dbname", "channel_binding", "require_auth"),
        *("connect_timeout", "target_session_attrs", "load_balance_hosts", "options", "keepalives", "service"),
        *("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "krbsrvname"),
    )
)


def shown_url(url: str) -> str:
    """Return the scheme, hosts and database of an address, without user, password and parameters.

    Raises:
        ValueError: It is not an address of PostgreSQL; the text follows a name in a message and quotes nothing of it.
    """
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("has a space or a line break in it")
    parts = _URL.match(url)
    if parts is None or parts[1].lower() not in _SCHEMES:
        raise ValueError("must begin with postgresql://")
    path, query = parts[3], parts[4] or ""
    user, _, hosts = parts[2].rpartition("@")
    if "@" in user or not _HOSTS.fullmatch(hosts) or re.search(r"%(?![0-9A-Fa-f]{2})", url):
        raise ValueError('has a character that must be written as "%" and two hexadecimal digits, such as %40 for "@"')
    for host in filter(None, hosts.split(",")):
        if not _HOST.fullmatch(host):
            raise ValueError("is not a URL")
        _, colon, port = host.rpartition(":")
        if colon and not host.endswith("]") and not _PORT.fullmatch(port):
            raise ValueError("has a port that is not a number")
    for name in (item.partition("=")[0] for item in query.split("&") if item):
        if name not in _PARAMETERS:
            raise ValueError("has a parameter that PostgreSQL does not know")
    if path in ("", "/") and "dbname=" not in query:
        raise ValueError("names no database")
    return f"postgresql://{hosts}{path}"


def has_password(url: str) -> bool:
    """Return whether an address has a password in it, before its hosts or among its parameters."""
    parts = _URL.match(url)
    if parts is None:
        return False
    user, _, _ = parts[2].rpartition("@")
    names = {item.partition("=")[0] for item in (parts[4] or "").split("&")}
    return ":" in user or not names.isdisjoint(("password", "sslpassword"))
