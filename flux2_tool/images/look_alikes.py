"""Names that look the same to a person and differ to a disk: letters in one character or two, spaces of several widths.

Sources: Unicode Standard Annex 15 (normalization), openat(2).
"""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Final

from flux2_tool.images.source_names import shown

_INVISIBLE: Final = "\u200b\u200e\u200f\ufeff"
_SPACES: Final = re.compile(" {2,}")


class AmbiguousNameError(Exception):
    """Several names look like a missing one; the message lists them."""


def look(name: str) -> str:
    """Return what a name looks like: equal for two names that differ in how Unicode writes the same letters or spaces.

    So are the two of an "ü" in one character and in two, as macOS writes it, of a space and the narrow one before
    "PM" in the names of its screenshots, and of one space and several, of which a chat or a page shows one.
    """
    composed = unicodedata.normalize("NFC", name)
    kept = (" " if unicodedata.category(one) == "Zs" else one for one in composed if one not in _INVISIBLE)
    return _SPACES.sub(" ", "".join(kept))


def twin_of(name: str, folder: int) -> str | None:
    """Return the one name in a folder that looks like a missing one; None if there is none. Hidden names never do.

    Args:
        name: One component of a path.
        folder: The descriptor of an opened folder.

    Raises:
        AmbiguousNameError: There are several.
    """
    wanted = look(name)
    try:
        listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    try:
        names = os.listdir(listed)  # noqa: PTH208 - of a descriptor
    except OSError:
        return None
    finally:
        os.close(listed)
    if name in names:
        return None
    found = sorted(one for one in names if look(one) == wanted and not one.startswith("."))
    if len(found) > 1:
        raise AmbiguousNameError(", ".join(shown(one, every=True) for one in found))
    return found[0] if found else None
