"""The SDK's own client in either of its major versions, with the names of version 2."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
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
async def opened(
    target: StdioServerParameters | str, *, headers: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[Any]:
    """Start the server, or find that of a URL, and connect to it; `mode` means something to version 2 alone."""
    async with AsyncExitStack() as stack:
        if isinstance(target, str):
            make = importlib.import_module("mcp.shared._httpx_utils").create_mcp_http_client
            http = await stack.enter_async_context(make(headers=headers))
            over = importlib.import_module("mcp.client.streamable_http").streamable_http_client
            streams = over(target, http_client=http)
        else:
            streams = stdio_client(target)
        if MAJOR == 2:
            yield await stack.enter_async_context(importlib.import_module("mcp").Client(streams, **options))
            return
        options.pop("mode", None)
        read, write, *_session_id = await stack.enter_async_context(streams)
        session = importlib.import_module("mcp").ClientSession(read, write, **options)
        await (await stack.enter_async_context(session)).initialize()
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
