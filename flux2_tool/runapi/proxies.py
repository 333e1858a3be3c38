"""Which proxy leads to a URL, by the environment's proxy variables.

Only the variable that counts for a URL is read: a broken one that nothing uses does no harm. Sources: curl's manual and
Go's `httpproxy` for the names and for NO_PROXY with addresses and networks; the standard library for macOS's settings.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from flux2_tool.exceptions import ConfigurationError

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
# "socks" is what desktops write; httpcore lets the proxy look names up in any case.
_SPELLINGS: Final = {"socks": "socks5h"}
_BETWEEN_ENTRIES: Final = re.compile(r"[,\s]+")
_SYSTEM: Final = "the system's proxy setting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One proxy.

    Attributes:
        url: Scheme, host and port, without user name and password.
        user: The user name and password, decoded; None without.
        variable: The environment variable that names it.
    """

    url: str
    user: tuple[bytes, bytes] | None = field(default=None, repr=False)
    variable: str

    @property
    def is_socks(self) -> bool:
        return self.url.startswith("socks")

    def __str__(self) -> str:
        return f"{self.url} of {self.variable}"


class Proxies:
    """The proxies of one environment.

    Args:
        environ: The environment variables.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._system = {} if any(name.lower().endswith("_proxy") for name in environ) else urllib.request.getproxies()
        self._known: dict[str, Proxy] = {}

    def proxy_for(self, url: str) -> Proxy | None:
        """Return the proxy that leads to an http(s) URL, None where a direct connection does.

        Raises:
            ConfigurationError: The variable that counts for it names no proxy that can be used.
        """
        parts = urlsplit(url)
        variable, text = self._setting_of(parts.scheme)
        if not text or self._is_excepted(parts):
            return None
        if variable not in self._known:
            self._known[variable] = _parse(text, variable)
        return self._known[variable]

    def _setting_of(self, scheme: str) -> tuple[str, str]:
        if self._system:
            return _SYSTEM, self._system.get(scheme, "")
        for kind in (scheme, "all"):
            lower = f"{kind}_proxy"
            names = [lower, lower.upper()]
            if kind == "http" and "REQUEST_METHOD" in self._environ:
                del names[1]  # within a CGI script whoever sends the request sets it: CVE-2016-5385
            for name in names:
                if name in self._environ:
                    text = self._environ[name].strip()
                    if text:
                        return name, text
                    break  # empty: no proxy for this scheme
        return "", ""

    def _is_excepted(self, parts: SplitResult) -> bool:
        """Whether NO_PROXY, or the system's list, names the host."""
        host = (parts.hostname or "").rstrip(".")
        if self._system:
            return bool(urllib.request.proxy_bypass(host))
        text = self._environ.get("no_proxy") or self._environ.get("NO_PROXY") or ""
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
        return any(_names(entry, parts.scheme, host, port) for entry in _BETWEEN_ENTRIES.split(text.lower()) if entry)


def _names(entry: str, scheme: str, host: str, port: int | None) -> bool:
    """Return whether one entry of NO_PROXY names a host; an entry that nobody can read names none."""
    if entry == "*":
        return True
    prefix, separator, rest = entry.partition("://")
    if separator:
        if prefix not in (scheme, "all"):
            return False
        entry = rest
    name, entry_port = _without_port(entry)
    if entry_port is not None and entry_port != str(port):
        return False
    try:
        network = ipaddress.ip_network(name, strict=False)
    except ValueError:
        return _is_within(name, host)
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address in network or (mapped is not None and mapped in network)


def _without_port(entry: str) -> tuple[str, str | None]:
    """Split an entry: `host`, `host:port`, `::1`, `[::1]`, `[::1]:port`, `fd00::/8`, `[fd00::]/8` or `[fd00::/8]`."""
    if entry.startswith("["):
        inside, _, behind = entry[1:].partition("]")
        if behind.startswith("/"):
            return inside + behind, None
        return inside, behind[1:] if behind.startswith(":") else None
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, None


def _is_within(name: str, host: str) -> bool:
    """Return whether a host is a name of NO_PROXY or within it; a leading dot or `*.` changes nothing."""
    name = name.removeprefix("*").strip(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            return False
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _parse(text: str, variable: str) -> Proxy:
    """Return the proxy that a variable names; the error quotes none of it, since it may contain a password."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _unusable(variable, "is not a URL") from None
    scheme = _SPELLINGS.get(parts.scheme, parts.scheme)
    if scheme not in _DEFAULT_PORTS:
        raise _unusable(variable, f'has the scheme "{parts.scheme[:20]}"')
    if not host or not host.isascii() or not host.isprintable() or " " in host:
        raise _unusable(variable, "names no host")
    user = None
    if parts.username is not None:
        user = (unquote(parts.username).encode(), unquote(parts.password or "").encode())
    netloc = f"[{host}]" if ":" in host else host
    return Proxy(url=f"{scheme}://{netloc}:{port or _DEFAULT_PORTS[scheme]}", user=user, variable=variable)


def _unusable(variable: str, fault: str) -> ConfigurationError:
    return ConfigurationError(
        f"{variable} {fault}, so the proxy it names cannot be used",
        hint=f"set {variable} to a URL such as http://proxy.example:3128 or, with the extra socks, "
        "socks5h://proxy.example:1080; or unset it, or name the host in NO_PROXY",
    )
