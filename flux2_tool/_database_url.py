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
# All of libpq 18 but what a journal does not work with (replication, client_encoding), what needs somebody at a browser
# (oauth_*), and what writes the keys of the connection to a file (sslkeylogfile).
_PARAMETERS: Final = frozenset(
    (
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslcrldir", "sslnegotiation"),
        *("sslcertmode", "sslcompression", "sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version"),
        *("host", "hostaddr", "port", "user", "password", "passfile", "dbname", "service", "requirepeer"),
        *("channel_binding", "require_auth", "scram_client_key", "scram_server_key"),
        *("min_protocol_version", "max_protocol_version", "application_name", "fallback_application_name"),
        *("connect_timeout", "target_session_attrs", "load_balance_hosts", "options", "keepalives"),
        *("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
        *("gssencmode", "gsslib", "gssdelegation", "krbsrvname"),
    )
)
_SECRET: Final = ("password", "sslpassword", "scram_client_key", "scram_server_key")


def shown_url(url: str) -> str:
    """Return the scheme, hosts and database of an address, without user, password and parameters.

    Raises:
        ValueError: It is not an address of PostgreSQL; the text follows a name in a message and quotes nothing of it.
    """
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("has a space or a line break in it")
    if not url.isprintable():  # such as a byte of a variable that is no text, which nobody could pass on to libpq
        raise ValueError('has a byte or a character that cannot be seen; write it as "%" and two hexadecimal digits')
    parts = _URL.match(url)
    if parts is None or parts[1].lower() not in _SCHEMES:
        raise ValueError("must begin with postgresql://")
    path, query = parts[3], parts[4] or ""
    user, _, hosts = parts[2].rpartition("@")
    is_misread = "@" in user or "#" in url or _is_split_early(parts) or not _HOSTS.fullmatch(hosts)
    if is_misread or re.search(r"%(?![0-9A-Fa-f]{2})", url):
        raise ValueError(
            'has a character that must be written as "%" and two hexadecimal digits, such as %40 for "@", %2F for "/"'
        )
    for host in filter(None, hosts.split(",")):
        if not _HOST.fullmatch(host):
            raise ValueError("is not a URL")
        _, colon, port = host.rpartition(":")
        if colon and not host.endswith("]") and not _PORT.fullmatch(port):
            raise ValueError("has a port that is not a number")
    for name in (item.partition("=")[0] for item in query.split("&") if item):
        if name not in _PARAMETERS:
            raise ValueError("has a parameter that flux2-tool does not take")
    if path in ("", "/") and "dbname=" not in query:
        raise ValueError("names no database")
    return f"postgresql://{hosts}{path}"


def has_password(url: str) -> bool:
    """Return whether an address has a password in it, or may have one because it is written wrongly."""
    parts = _URL.match(url)
    if parts is None:
        return False
    user, _, _ = parts[2].rpartition("@")
    names = {item.partition("=")[0] for item in (parts[4] or "").split("&")}
    return ":" in user or _is_split_early(parts) or not names.isdisjoint(_SECRET)


def _is_split_early(parts: re.Match[str]) -> bool:
    """Whether a "/", "?" or "#" in the user or the password, which has to be written otherwise, ends the hosts."""
    return "@" in parts.string[parts.end(2) :]
