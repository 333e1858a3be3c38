"""How a host starts the MCP server, before it is written in that host's own format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# Longer than our own wait, so that a host never times out a call that is about to respond.
HOST_TIMEOUT_S: Final = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a host starts the server.

    Attributes:
        command: The program, by its absolute path where it has one that lasts.
        key: The name of the key's variable.
        variables: Other variables to pass.
        timeout_s: How long the host should wait for a call.
    """

    name: str
    command: str
    arguments: list[str]
    key: str
    variables: Mapping[str, str]
    timeout_s: int = HOST_TIMEOUT_S

    def entry(self, reference: str) -> dict[str, Any]:
        """Return the JSON entry that most hosts share; `reference` is the host's syntax for a variable."""
        key = reference.format(self.key)
        return {"command": self.command, "args": self.arguments, "env": {self.key: key, **self.variables}}
