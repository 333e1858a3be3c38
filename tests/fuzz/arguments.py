"""Makes arguments that an agent might give: right ones bent at random places, and anything else."""

from __future__ import annotations

import math
import random as random_module
from typing import Any, Final

from flux2_tool.schema.manifest import Manifest

_TEXTS: Final = (
    "", " ", "\x00", "\x1b[2J", "\ud800", "a" * 6_000, "狐" * 5_000, "-1", "2K", "1:1 ", "16：9", "NaN", "null",
    "task:tsk_abc123", "task:last", "task:..", "task:" + "a" * 300, "record:12345678", "media://inbound/../../x",
    "media://inbound/a.png", "media/inbound/a.png", "../../../etc/passwd", "/etc/passwd", "file:///etc/passwd",
    "file://elsewhere/etc/passwd", "~/.ssh/id_rsa", ".env", "a\nb.png", "data:image/png;base64,AAAA",
    "data:image/svg+xml;base64,PHN2Zz4=", "data:text/html,<b>", "https://cdn.example/a.png", "http://127.0.0.1:1/a.png",
    "http://2130706433/", "http://[::ffff:10.0.0.1]/", "https://user:pass@cdn.example/a.png", "https://a b/",
    "https://" + "a" * 9_000, "ftp://x/y", "HTTPS://CDN.EXAMPLE/A.PNG", "https://xn--/", "https://\u202ecdn.example/",
    "flux-2-pro-text-to-image", "flux-2-max-remix-image", "__proto__", "constructor", "prompt\u200b",
)  # fmt: skip
_ODD: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    0.5,
    1e308,
    math.inf,
    math.nan,
    10**400,
    -(10**400),
    [],
    {},
    [None],
    [[]],
)
RIGHT: Final[dict[str, dict[str, Any]]] = {
    "text_to_image": {"prompt": "a red fox", "aspect_ratio": "16:9", "output_resolution": "2k"},
    "remix_image": {"prompt": "make it blue", "source_image_urls": ["https://cdn.example/fox.png"]},
    "get_image_task": {"task_id": "tsk_abc123", "timeoutSeconds": 1},
}


class HostileArguments:
    """Makes a tool's name and arguments."""

    def __init__(self, random: random_module.Random, manifest: Manifest) -> None:
        self._random = random
        self._manifest = manifest

    def call(self) -> tuple[str, Any]:
        """Return a tool, nearly always one that exists, and what it is given."""
        tool = self._random.choice([*RIGHT, *RIGHT, *RIGHT, "paint", "", "text_to_image\x00"])
        chance = self._random.random()
        if chance < 0.1 or tool not in RIGHT:
            return tool, self._anything(0)
        properties = self._manifest.tools[tool].input_schema["properties"]
        given = dict(RIGHT[tool])
        for _ in range(self._random.choice([1, 1, 2, 3, 8])):
            name = self._random.choice([*properties, *properties, self._text()[:80], "seed", "Prompt"])
            given[name] = self._random.choice([self._near(properties.get(name, {})), self._anything(1)])
        if self._random.random() < 0.15:
            given.pop(self._random.choice(list(given)))
        return tool, given

    def _near(self, schema: dict[str, Any]) -> Any:
        """Return something that nearly fits a schema."""
        if "enum" in schema:
            word = str(self._random.choice(schema["enum"]))
            return self._random.choice([word, word.upper(), word + " ", word[:-1], [word]])
        if schema.get("type") == "array":
            return [self._text() for _ in range(self._random.choice([0, 1, 1, 2, 8, 9, 200]))]
        return self._text()

    def _anything(self, depth: int) -> Any:
        chance = self._random.random()
        if chance < 0.4:
            return self._text()
        if chance < 0.7 or depth > 4:
            return self._random.choice(_ODD)
        if chance < 0.72:
            deep: Any = []
            for _ in range(self._random.choice([10, 900])):
                deep = [deep]
            return deep
        if chance < 0.85:
            return [self._anything(depth + 1) for _ in range(self._random.randrange(5))]
        return {self._text()[:80]: self._anything(depth + 1) for _ in range(self._random.randrange(5))}

    def _text(self) -> str:
        if self._random.random() < 0.85:
            return self._random.choice(_TEXTS)
        return "".join(chr(self._random.randrange(0x11000)) for _ in range(self._random.randrange(40)))
