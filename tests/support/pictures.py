"""Small pictures for tests that need real bytes."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image


def picture(kind: str = "PNG", size: tuple[int, int] = (32, 16), **options: Any) -> bytes:
    """Return a small picture's bytes."""
    output = io.BytesIO()
    Image.new("RGB", size, "teal").save(output, kind, **options)
    return output.getvalue()
