"""Whether a key stands somewhere: as it is, URL-encoded, in base64 or in hexadecimal digits."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

# With characters that every encoding changes.
KEY = "sk-fuzz+0a1B/2c3D=4e5F~6g7H"


@lru_cache(maxsize=8)
def forms_of(key: str) -> dict[str, bytes]:
    """Return how a key may look, by the form's name; in base64 it may begin at any of three places."""
    data = key.encode()
    found = {"plain": data, "URL-encoded": quote(key, safe="").encode().lower(), "hex": data.hex().encode()}
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + data)
        # Only the characters that the key alone decides.
        found[f"base64 at {shift}"] = whole[(shift * 8 + 5) // 6 : (shift + len(data)) * 8 // 6]
    return found


def leaks_in(data: bytes, *, key: str = KEY) -> list[str]:
    """Return the names of the forms in which the key stands in some bytes."""
    lowered = data.lower()
    return [
        name
        for name, form in forms_of(key).items()
        if form in (lowered if name in ("hex", "URL-encoded") else data)
        or (name.startswith("base64") and form.replace(b"+", b"-").replace(b"/", b"_") in data)
    ]


def leaks_below(folder: Path, *, key: str = KEY) -> Iterator[str]:
    """Yield where the key stands in the files below a folder, and in their names."""
    for path in folder.rglob("*"):
        for form in leaks_in(str(path.relative_to(folder)).encode(errors="surrogateescape"), key=key):
            yield f"the name of a file: {form}"
        if path.is_file():
            for form in leaks_in(path.read_bytes(), key=key):
                yield f"{path.name}: {form}"
