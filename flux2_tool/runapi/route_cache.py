"""Remember, per base URL and across processes, which create route and which poll path answered.

A small JSON file in the data folder, written whole (a temporary file renamed over it). It only saves time: when it is
missing, broken or read-only, both routes are simply tried in order again.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

logger = logging.getLogger(__name__)

FILE_NAME: Final = "routes.json"
Kind = Literal["create", "poll"]


class RouteCache:
    """What answered, per base URL. `path` None keeps it in memory only."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, dict[str, str]] = {}

    def recall(self, base_url: str, kind: Kind) -> str | None:
        """Return the route name ("create") or the path template ("poll") that answered last, or None."""
        mine = self._known.get(base_url, {})
        return mine.get(kind) or self._read().get(base_url, {}).get(kind)

    def remember(self, base_url: str, kind: Kind, value: str) -> None:
        """Keep what answered; a file that cannot be written is a log line, not an error."""
        if self.recall(base_url, kind) == value:
            return
        self._known.setdefault(base_url, {})[kind] = value
        if self._path is None:
            return
        stored = self._read()
        stored.setdefault(base_url, {})[kind] = value
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".routes-")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(stored, file, indent=1, sort_keys=True)
            Path(temporary).replace(self._path)
        except OSError as exc:
            logger.warning("could not remember the route that answered: %s", exc)

    def _read(self) -> dict[str, dict[str, str]]:
        if self._path is None:
            return {}
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(stored, Mapping):
            return {}
        return {
            str(base_url): {str(kind): value for kind, value in entry.items() if isinstance(value, str)}
            for base_url, entry in stored.items()
            if isinstance(entry, Mapping)
        }
