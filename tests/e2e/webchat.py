"""OpenClaw's own web chat in headless Chromium, as a person sees it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.openclaw_host import TOKEN, OpenClaw
from tests.support import page_driver

INSTALL = 'install it with: eval "$(.ci/install-browser)"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the page shows: the words that are not folded away, and its pictures by their alternative texts."""

    text: str
    pictures: Sequence[dict[str, Any]]

    @property
    def alts(self) -> list[str]:
        """The alternative texts of the pictures that have arrived."""
        return [picture["alt"] for picture in self.pictures if picture["loaded"]]


class WebChat:
    """Drives `webchat.mjs`.

    Args:
        process: It.
        shots: A folder for screenshots; None takes none.
    """

    def __init__(self, process: subprocess.Popen[str], shots: Path | None) -> None:
        self._process = process
        self._shots = shots

    def say(self, text: str) -> None:
        """Send a message."""
        self._ask("say", text=text)

    def until(self, text: str, *, pictures: int = 0) -> Seen:
        """Return what is shown once these words and so many pictures are, or after two minutes."""
        return Seen(**self._ask("until", text=text, pictures=pictures))

    def go(self, path: str) -> None:
        """Open another page of the Control UI."""
        self._ask("go", path=path)

    def tab(self, plugin: str, name: str, path: str, *, pictures: int) -> dict[str, Any]:
        """Open a plugin's tab, and return what its frame shows and what its first picture leads to."""
        self.go(f"/plugin?plugin={plugin}&id={name}")
        return dict(self._ask("tab", path=path, pictures=pictures))

    def choices(self, label: str) -> list[str]:
        """Return the choices of a select."""
        return [str(choice).strip() for choice in self._ask("choices", label=label)]

    def reload(self) -> None:
        """Load the page again."""
        self._ask("reload")

    def click(self, text: str) -> None:
        """Click on a text."""
        self._ask("click", text=text)

    def open(self, url: str) -> None:
        """Load the page and wait until it takes messages."""
        self._ask("open", url=url)

    def shot(self, name: str) -> None:
        """Take a screenshot, where somebody wants to look at it."""
        if self._shots is not None:
            self._ask("shot", path=str(self._shots / f"webchat-{name}.png"))

    def _ask(self, op: str, **options: Any) -> Any:
        return page_driver.ask(self._process, op, **options)


def as_told(words: str) -> Callable[[Sequence[str]], str]:
    """Return an answer with these words and, under them, the lines that the newest result asks for."""

    def answer(results: Sequence[str]) -> str:
        lines = re.findall(r"^MEDIA:.*$", results[-1], re.MULTILINE)
        assert lines, results[-1]
        return "\n\n".join([words, *lines])

    return answer


@contextmanager
def running_webchat(openclaw: OpenClaw) -> Iterator[WebChat]:
    """Open the web chat of a running gateway; skips where there is no browser. FLUX2_TEST_SHOTS keeps screenshots."""
    missing = [name for name in ("FLUX2_TEST_CHROMIUM", "FLUX2_TEST_PLAYWRIGHT") if not os.environ.get(name)]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not set; {INSTALL}")
    command = [str(openclaw.node), str(Path(__file__).with_name("webchat.mjs"))]
    shots = os.environ.get("FLUX2_TEST_SHOTS")
    process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        chat = WebChat(process, None if shots is None else Path(shots))
        chat.open(f"http://127.0.0.1:{openclaw.port}/#token={TOKEN}")
        yield chat
    finally:
        process.kill()
        with process:
            process.wait()
