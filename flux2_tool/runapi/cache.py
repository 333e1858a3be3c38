"""Cached responses of RunAPI: existing routes and prices, in memory and in small JSON files of the data folder.

A file is replaced atomically and validated when read: a missing or invalid entry is treated as absent. It only saves
time and requests, and contains no secret.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeVar, get_args

from flux2_tool._files import read_file
from flux2_tool.runapi import contract
from flux2_tool.runapi.image_links import read_instant
from flux2_tool.runapi.price_responses import usd_of_cents

logger = logging.getLogger(__name__)

ROUTES_FILE: Final = "routes.json"
PRICES_FILE: Final = "prices.json"
MAX_FILE_BYTES: Final = 256 * 1024
MAX_PRICES: Final = 400
MAX_ETAG_CHARS: Final = 300

RouteKind = Literal["create", "poll"]
_ROUTE_KINDS: Final[tuple[RouteKind, ...]] = ("create", "poll")
_PRICED_NAMES: Final = get_args(contract.PricedName)
_MAX_TIME: Final = 1e11
_FIRST: Final = contract.SERVICES[0].name


def is_etag(value: Any) -> bool:
    """Return whether a value may be sent in `If-None-Match`: bounded, printable ASCII."""
    return isinstance(value, str) and 0 < len(value) <= MAX_ETAG_CHARS and value.isascii() and value.isprintable()


def _price(value: Any) -> float | None:
    """Return a price in USD as it was stored, None when it is none."""
    return usd_of_cents(value * 100) if type(value) is float else None


class _Entry(Protocol):
    """What can be stored."""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self | None:
        """Return the entry that was stored; None when it is invalid."""

    def as_object(self) -> dict[str, Any]:
        """Return it for the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedRoutes:
    """The create route and poll path that exist at one base URL for one service; None where unknown."""

    create: str | None = None
    poll: str | None = None

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self | None:
        found = {kind: stored.get(kind) for kind in _ROUTE_KINDS}
        return cls(**found) if all(isinstance(value, str | None) for value in found.values()) else None

    def as_object(self) -> dict[str, Any]:
        return {kind: value for kind, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedPrices:
    """Prices in USD by resolution, from one response.

    Attributes:
        asked_at: When they were last requested or confirmed, in seconds since 1970.
        as_of: The service's date, else the response's; RFC 3339 in UTC.
        service: The spelling of the service's name in the request that succeeded.
        etag: For a conditional request; None for a quote.
    """

    usd: Mapping[str, float]
    asked_at: float
    as_of: str
    service: contract.PricedName
    etag: str | None

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self | None:
        if stored.keys() != _PRICE_MEMBERS or not isinstance(stored["usd"], dict):
            return None
        usd = {resolution: price for resolution, value in stored["usd"].items() if (price := _price(value)) is not None}
        asked_at, as_of, etag = stored["asked_at"], read_instant(stored["as_of"]), stored["etag"]
        if not usd or len(usd) < len(stored["usd"]) or as_of is None or stored["service"] not in _PRICED_NAMES:
            return None
        if type(asked_at) not in (int, float) or not 0 < asked_at < _MAX_TIME or not (etag is None or is_etag(etag)):
            return None
        return cls(usd=usd, asked_at=float(asked_at), as_of=as_of, service=stored["service"], etag=etag)

    def as_object(self) -> dict[str, Any]:
        return asdict(self)


_PRICE_MEMBERS: Final = frozenset(CachedPrices.__dataclass_fields__)

Entry = TypeVar("Entry", bound=_Entry)


class JsonCache(Generic[Entry]):
    """Entries of one type by key, in memory and in a JSON file shared with other processes.

    Args:
        path: The file; None keeps them in memory only.
        model: The type of an entry; an invalid entry is treated as absent.
        newest: Chooses the entries to write when there may be too many.
    """

    def __init__(
        self,
        path: Path | None,
        model: type[Entry],
        newest: Callable[[dict[str, Entry]], dict[str, Entry]] = lambda entries: entries,
    ) -> None:
        self._path = path
        self._model = model
        self._newest = newest
        self._known: dict[str, Entry] = {}
        # What the file had when it was last read, and which file that was: it is replaced, never changed.
        self._stored: dict[str, Entry] = {}
        self._stored_as: tuple[int, ...] | None = None

    def get(self, key: str) -> Entry | None:
        """Return the entry, from memory or else from the file; None when there is none."""
        return self._known.get(key) or self.get_stored(key)

    def get_stored(self, key: str) -> Entry | None:
        """Return the entry in the file, which another process may have written since."""
        return self._read().get(key)

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry; a file that cannot be written is logged, not raised."""
        self._known[key] = entry
        if self._path is None:
            return
        entries = self._newest(self._read() | {key: entry})
        content = {name: one.as_object() for name, one in entries.items()}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.stem}-")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump(content, file, indent=1, sort_keys=True)
                Path(temporary).replace(self._path)
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as exc:
            logger.warning("could not write %s: %s", self._path.name, exc)

    def _read(self) -> dict[str, Entry]:
        if self._path is None:
            return {}
        try:
            status = os.stat(self._path)  # noqa: PTH116 - several times in every call
            # Before it is read, so that one that is replaced meanwhile is read once more.
            seen_as = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if seen_as != self._stored_as:
                self._stored, self._stored_as = self._parsed(self._path), seen_as
        except OSError:
            return {}
        return self._stored

    def _parsed(self, path: Path) -> dict[str, Entry]:
        """Return the valid entries of the file; raises OSError."""
        try:
            stored = json.loads(read_file(path, most_bytes=MAX_FILE_BYTES))
        except (ValueError, RecursionError):
            return {}
        found: dict[str, Entry] = {}
        for key, entry in stored.items() if isinstance(stored, dict) else ():
            known = self._model.read(entry) if isinstance(entry, dict) else None
            if known is not None:
                found[key] = known
        return found


class RouteCache:
    """The create route and poll path that worked, per base URL and service. `path` None keeps them in memory only."""

    def __init__(self, path: Path | None) -> None:
        self._entries = JsonCache(path, CachedRoutes)

    def get(self, base_url: str, kind: RouteKind, *, service: contract.ServiceName = _FIRST) -> str | None:
        """Return the route name ("create") or the path template ("poll") that worked last, or None."""
        key = _key_of(base_url, service)
        found: str | None = getattr(self._entries.get(key), kind, None)
        if found is None:
            # Another process may have stored it since this one stored the other kind.
            found = getattr(self._entries.get_stored(key), kind, None)
        return found

    def put(self, base_url: str, kind: RouteKind, value: str, *, service: contract.ServiceName = _FIRST) -> None:
        """Store the route or path that worked."""
        if self.get(base_url, kind, service=service) == value:
            return
        known = {one: self.get(base_url, one, service=service) for one in _ROUTE_KINDS} | {kind: value}
        entry = CachedRoutes(**{one: found for one, found in known.items() if found})
        self._entries.put(_key_of(base_url, service), entry)


def _key_of(base_url: str, service: contract.ServiceName) -> str:
    # The first service's entry is that of earlier versions, which knew no other.
    return base_url if service == _FIRST else f"{base_url} {service}"


class PriceCache(JsonCache[CachedPrices]):
    """Prices by base URL, type of response and model. `path` None keeps them in memory only."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, CachedPrices, _newest_prices)


def _newest_prices(entries: dict[str, CachedPrices]) -> dict[str, CachedPrices]:
    return dict(sorted(entries.items(), key=lambda item: item[1].asked_at)[-MAX_PRICES:])
