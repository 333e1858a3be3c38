"""The SDK's own client in either of its major versions, with the names of version 2."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from typing import Any, Final

import pytest

pytest.importorskip("mcp", reason="the MCP server needs the extra mcp")

import mcp
from mcp import StdioServerParameters, stdio_client

MAJOR: Final = int(metadata.version("mcp").split(".")[0])
PROTOCOL_ERROR: Final[type[Exception]] = getattr(mcp, "MCPError" if MAJOR == 2 else "McpError")


class _Named:
    """A model of version 1, whose attributes are also found under version 2's names."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        first, *rest = name.split("_")
        found = getattr(self.model, name, None)
        return getattr(self.model, first + "".join(map(str.title, rest))) if found is None else found


class Client1:
    """Version 1's session with version 2's methods."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def list_tools(self) -> Any:
        """Ask for the tools."""
        found = _Named(await self._session.list_tools())
        found.tools = [_Named(tool) for tool in found.model.tools]
        return found

    async def call_tool(self, name: str, arguments: Any = None, **options: Any) -> Any:
        """Call a tool."""
        return _Named(await self._session.call_tool(name, arguments, **options))


@asynccontextmanager
async def opened(parameters: StdioServerParameters, **options: Any) -> AsyncIterator[Any]:
    """Start the server and connect to it; `mode` means something to version 2 alone."""
    if MAJOR == 2:
        async with importlib.import_module("mcp").Client(stdio_client(parameters), **options) as client:
            yield client
        return
    options.pop("mode", None)
    async with (
        stdio_client(parameters) as (read, write),
        importlib.import_module("mcp").ClientSession(read, write, **options) as session,
    ):
        await session.initialize()
        yield Client1(session)


def named(name: str) -> Any:
    """Return what a client says of itself when it connects, as the option `client_info`."""
    types = importlib.import_module("mcp_types" if MAJOR == 2 else "mcp.types")
    return types.Implementation(name=name, version="1")


def is_progress(message: Any) -> bool:
    """Whether what a message handler got is a report of progress."""
    return type(getattr(message, "root", message)).__name__ == "ProgressNotification"


def user(action: str, asked: list[str] | None = None) -> Any:
    """Return what answers the server's questions for the user; "error" stands for a host that cannot ask.

    Args:
        action: accept, decline or cancel.
        asked: Takes the questions.
    """
    types = importlib.import_module("mcp.types" if MAJOR == 1 else "mcp_types")

    async def answer(_context: Any, params: Any) -> Any:
        if asked is not None:
            asked.append(params.message)
        if action == "error":
            return types.ErrorData(code=-32603, message="no form can be shown")
        return types.ElicitResult(action=action, content={} if action == "accept" else None)

    return answer
