"""Makes hostile lines for the worker: right JSON-RPC messages bent at random places, and anything else."""

from __future__ import annotations

import json
import random as random_module
from typing import Any, Final

from flux2_tool.schema.manifest import Manifest
from tests.fuzz.arguments import HostileArguments

_METHODS: Final = ("initialize", "call", "cancel", "progress", "", "shutdown\x00", "__init__", "call" * 100, None, 7)
_MEMBERS: Final = ("api_key", "base_url", "workspace_dir", "state_dir", "session", "wait_s", "sandboxed", "sender",
                   "is_owner", "config", "host", "id", "tool", "arguments", "plugin_version")  # fmt: skip


class HostileLines:
    """Makes lines as they come from a peer that is broken or means harm; none of them asks for an image."""

    def __init__(self, random: random_module.Random, manifest: Manifest) -> None:
        self._random = random
        self._arguments = HostileArguments(random, manifest)

    def line(self) -> bytes:
        """Return one line."""
        chance = self._random.random()
        if chance < 0.1:
            return self._random.randbytes(self._random.randrange(500)).replace(b"\n", b" ")
        if chance < 0.13:
            return self._random.choice([b"[" * 50_000, b'{"a":' * 20_000, b'"' + b"x" * 2_000_000 + b'"', b"", b"NaN"])
        _, params = self._arguments.call()
        message: dict[str, Any] = {
            "jsonrpc": "2.0",
            "id": self._random.choice([1, 2, "a", None, 1.5, True, [], {}, -1, 10**40, "x" * 5000]),
            "method": self._random.choice(_METHODS),
            "params": self._params(params),
        }
        for name in list(message):
            if self._random.random() < 0.1:
                del message[name]
        line = json.dumps(message).encode()
        return line[: self._random.randrange(len(line))] if self._random.random() < 0.1 else line

    def _params(self, anything: Any) -> Any:
        if self._random.random() < 0.3:
            return anything
        # An unknown tool, or arguments that are refused: a call that is right would go out to the network.
        params: dict[str, Any] = {
            "tool": self._random.choice(["paint", "text_to_image"]),
            "arguments": {"seed": anything},
        }
        for name in self._random.sample(_MEMBERS, self._random.randrange(4)):
            if name not in ("tool", "arguments"):
                params[name] = anything
        return params
