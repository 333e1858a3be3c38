"""The gallery's page in headless Chromium, without a network, as a person sees it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import page_driver

INSTALL = 'install them with: eval "$(.ci/install-openclaw)"; eval "$(.ci/install-browser)"'


class Browser:
    """Drives `page.mjs`.

    Args:
        process: It.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def seen(self, page: Path, *, search: str | None = None, choose: dict[str, str] | None = None, **view: Any) -> Any:
        """Open a page and return what it shows, after a search and choices."""
        self.ask("open", url=page.as_uri(), **view)
        if search is not None:
            self.ask("search", words=search)
        for name, value in (choose or {}).items():
            self.ask("choose", name=name, value=value)
        return self.ask("seen")

    def ask(self, op: str, **options: Any) -> Any:
        """Send one command and return its answer."""
        return page_driver.ask(self._process, op, **options)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start the browser; skips where there is none, and says how to install it."""
    names = ("FLUX2_TEST_NODE", "FLUX2_TEST_CHROMIUM", "FLUX2_TEST_PLAYWRIGHT")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not set; {INSTALL}")
    command = [os.environ["FLUX2_TEST_NODE"], str(Path(__file__).with_name("page.mjs"))]
    process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Browser(process)
    finally:
        assert process.stdin
        process.stdin.close()  # the browser ends with it
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
        with process:
            process.wait()
