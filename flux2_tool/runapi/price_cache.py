"""Keep what RunAPI said of prices, with its date: in memory, and in a small JSON file of the data folder.

Written whole (a temporary file renamed over it) and read with distrust: what is missing, broken or odd is as if it had
never been said. Nothing in it is secret.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from flux2_tool.runapi import contract
from flux2_tool.runapi.price_responses import usd_of_cents
from flux2_tool.runapi.responses import read_instant

logger = logging.getLogger(__name__)

FILE_NAME: Final = "prices.json"
MAX_FILE_BYTES: Final = 256 * 1024
MAX_ENTRIES: Final = 400
_MAX_TEXT_CHARS: Final = 300
_LATEST_S: Final = 1e11


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedPrices:
    """Prices in USD by resolution, as one answer said them.

    Attributes:
        asked_at: When it was last known to hold, in seconds since 1970.
        as_of: The service's own date, else that of the answer; RFC 3339 in UTC.
        service: How the service's name was spelt in the question that was answered.
        etag: For asking whether it has changed; None for a quote.
    """

    usd: Mapping[str, float]
    asked_at: float
    as_of: str
    service: str
    etag: str | None = None


class PriceCache:
    """What was said, by a key that names base URL, kind of answer and model. `path` None keeps it in memory only."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, CachedPrices] = {}

    def recall(self, key: str) -> CachedPrices | None:
        """Return what was said last, here or by another process."""
        return self._known.get(key) or self._read().get(key)

    def remember(self, key: str, kept: CachedPrices) -> None:
        """Keep it; a file that cannot be written is a log line, not an error."""
        self._known[key] = kept
        if self._path is None:
            return
        stored = self._read() | {key: kept}
        newest = sorted(stored.items(), key=lambda item: item[1].asked_at)[-MAX_ENTRIES:]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".prices-")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump({name: asdict(item) for name, item in sorted(newest)}, file, indent=1)
                Path(temporary).replace(self._path)
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as exc:
            logger.warning("could not keep the price: %s", exc)

    def _read(self) -> dict[str, CachedPrices]:
        if self._path is None:
            return {}
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
            stored = json.loads(data) if len(data) <= MAX_FILE_BYTES else None
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(stored, Mapping):
            return {}
        found = {str(key): _kept(entry) for key, entry in stored.items()}
        return {key: kept for key, kept in found.items() if kept is not None}


def _kept(entry: Any) -> CachedPrices | None:
    if not isinstance(entry, Mapping) or set(entry) != {item.name for item in fields(CachedPrices)}:
        return None
    usd, asked_at, etag = entry["usd"], entry["asked_at"], entry["etag"]
    if not isinstance(usd, Mapping) or not isinstance(asked_at, int | float) or not 0 < asked_at < _LATEST_S:
        return None
    # Through cents, so that the one rule of what can be a price also holds here.
    prices = {str(name): usd_of_cents(value * 100) if type(value) is float else None for name, value in usd.items()}
    as_of = read_instant(entry["as_of"])
    texts_fit = entry["service"] in contract.SERVICE_NAMES and (etag is None or is_etag(etag))
    if as_of is None or not texts_fit or not prices or None in prices.values():
        return None
    return CachedPrices(
        usd={name: value for name, value in prices.items() if value is not None},
        asked_at=float(asked_at),
        as_of=as_of,
        service=entry["service"],
        etag=etag,
    )


def is_etag(value: Any) -> bool:
    """Return whether a text may go back to the service in `If-None-Match`: bounded, printable ASCII."""
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT_CHARS and value.isascii() and value.isprintable()
