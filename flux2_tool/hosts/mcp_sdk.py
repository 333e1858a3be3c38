"""The MCP SDK behind one interface, whichever of its two major versions is installed.

Version 2 is the current one; agent frameworks that share an environment with this package may need version 1. What
differs is how handlers are registered and how messages are wrapped. Nothing here imports the SDK before it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Final

from flux2_tool.exceptions import ConfigurationError
from flux2_tool.hosts.mcp_requests import AnySdk

# The lowest of each major version that the tests ran with; pyproject.toml says the same.
LOWEST: Final[Mapping[int, tuple[int, int]]] = {1: (1, 24), 2: (2, 0)}
VERSIONS_TEXT: Final = "version 1.24 or newer, or 2, of the package mcp"


def sdk(version: str | None = None) -> AnySdk:
    """Return the SDK of a version, by default the installed one's.

    Raises:
        ConfigurationError: Its version is none that this package works with.
    """
    version = version or metadata.version("mcp")
    found = re.match(r"(\d+)\.(\d+)", version)
    major, minor = (0, 0) if found is None else map(int, found.groups())
    if (major, minor) < LOWEST.get(major, (major + 1, 0)):
        raise ConfigurationError(f"the MCP server needs {VERSIONS_TEXT}; {version} is installed")
    return _opened(major)


@cache
def _opened(major: int) -> AnySdk:
    if major == 2:
        from flux2_tool.hosts.mcp_sdk_2 import Sdk2

        return Sdk2()
    from flux2_tool.hosts.mcp_sdk_1 import Sdk1

    return Sdk1()
