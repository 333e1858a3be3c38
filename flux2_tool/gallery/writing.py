"""Write a page for its owner alone, whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def written(path: Path, html: bytes) -> Path:
    """Write a page, in the place of an earlier one, and return its path. Blocks; raises OSError or ValueError."""
    part = path.with_name(f".flux2-{secrets.token_hex(8)}.part")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(html)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
