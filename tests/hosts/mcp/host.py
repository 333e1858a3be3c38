"""An MCP host as small as it can be: the SDK's own client, which starts the server and speaks to it over its pipes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import jsonschema

from flux2_tool.hosts.mcp_result import as_tool_result
from flux2_tool.schema.manifest import load_manifest
from tests.hosts.mcp.sdk_client import opened
from tests.support.forked_commands import relayed

from mcp import StdioServerParameters  # isort: skip - after sdk_client.py, which skips these tests where it is missing

ARGUMENTS = ("-P", "-m", "flux2_tool", "mcp")
FOX = {"prompt": "a red fox in the snow"}

TALK_S = 90
"""No conversation here takes this long, on any machine; one that hangs must not hold up all others."""

T = TypeVar("T")


@asynccontextmanager
async def connected(
    environ: Mapping[str, str],
    *,
    command: str = "",
    arguments: Sequence[str] = (),
    folder: Path | None = None,
    **options: Any,
) -> AsyncIterator[Any]:
    """Start the server with this environment, by default in a fork of a warm process, and connect to it."""
    if not command:
        command, *arguments = relayed("mcp", *arguments, environ=environ)
    parameters = StdioServerParameters(command=command, args=list(arguments), env=dict(environ), cwd=folder)
    async with opened(parameters, **options) as client:
        yield client


def talk(environ: Mapping[str, str], talking: Callable[[Any], Awaitable[T]], **options: Any) -> T:
    """Run one conversation with a server of its own and return what came of it."""

    async def main() -> T:
        async with asyncio.timeout(TALK_S), connected(environ, **options) as client:
            return await talking(client)

    return asyncio.run(main())


def result_of(answer: Any) -> dict[str, Any]:
    """Return the result object of an answer, after checking what every answer must hold."""
    found = answer.structured_content
    assert isinstance(found, dict)
    [content] = answer.content
    assert content.type == "text"
    assert content.text == as_tool_result(found)["content"][0]["text"]
    jsonschema.validate(found, load_manifest().tools["text_to_image"].output_schema)
    assert answer.is_error == ("error" in found)
    return found
