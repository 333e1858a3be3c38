"""Open a file or an address in the person's own viewer or browser."""

from __future__ import annotations

import os
import sys

import click

from flux2_tool.credentials import KEY_VARIABLE


def launched(target: str) -> bool:
    """Open a path or a link, and return whether there is a viewer for it."""
    # The viewer inherits the environment, outlives this process, and needs no key.
    key = os.environ.pop(KEY_VARIABLE, None)
    try:
        return click.launch(target) == 0
    finally:
        if key is not None:
            os.environ[KEY_VARIABLE] = key


def has_display() -> bool:
    """Return whether something can be shown: a desktop, or a browser that the person has named."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return sys.platform == "darwin" or any(os.environ.get(name) for name in names)
