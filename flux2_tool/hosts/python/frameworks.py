"""The tools for agent frameworks: LangChain, the OpenAI Agents SDK, pydantic-ai.

None of them is a dependency: each is imported when its tools are asked for. Whatever goes wrong with a call is
returned for the model to read, as `Flux2Tool.call` does; a cancelled run stops the wait and not the image, which an
equal call of the session joins. The arguments are judged by this package, and not by the framework, so that a model
reads our words.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

from flux2_tool.hosts.python.options import WaitOptions
from flux2_tool.schema.export import Format

SessionOf = str | Callable[[Any], str | None] | None
"""A conversation's name, or what returns it from the framework's context of the call."""


class FrameworkTools(ABC):
    """What `Flux2Tool` has for frameworks."""

    @abstractmethod
    async def call(self, tool: str, arguments: Any, **options: Unpack[WaitOptions]) -> dict[str, Any]:
        """Run a model's tool call."""

    @abstractmethod
    def definitions(self, shape: Format, *, strict: bool = False) -> list[dict[str, Any]]:
        """Return the tool definitions for a model."""

    def langchain_tools(self, *, session: SessionOf = None, wait_s: float | None = None) -> list[Any]:
        """Return the tools as LangChain's, for agents that run with `ainvoke` or `astream`.

        The model reads the result as JSON text, and a failure as a tool message of status "error". The whole result is
        the message's artifact.

        Args:
            session: The conversation, or what returns it from the `RunnableConfig`; by default the `thread_id` of that,
                where there is one.
            wait_s: The longest wait of a call, in seconds; by default 50.

        Raises:
            ImportError: The package langchain-core is not installed.
        """

        def runner(name: str) -> Any:
            async def run(**arguments: Any) -> tuple[str, dict[str, Any]]:
                named = _langchain_session(session)
                return _langchain_answer(await self.call(name, arguments, session=named, wait_s=wait_s))

            return {"coroutine": run}

        return _langchain_tools(self.definitions("anthropic"), runner)

    def openai_agents_tools(
        self, *, session: SessionOf = None, wait_s: float | None = None, strict: bool = True
    ) -> list[Any]:
        """Return the tools as those of the OpenAI Agents SDK; the model reads the result as JSON text.

        Args:
            session: The conversation, or what returns it from the SDK's `ToolContext`.
            wait_s: The longest wait of a call, in seconds; by default 50.
            strict: Whether the model is held to the schema; False for a model that has no such mode.

        Raises:
            ImportError: The package openai-agents is not installed.
        """
        tool_type = _module("agents", package="openai-agents").FunctionTool

        def runner(name: str) -> Callable[[Any, str], Any]:
            async def run(context: Any, arguments: str) -> str:
                named = _named(session, context)
                # An empty text stands for no arguments.
                result = await self.call(name, arguments or "{}", session=named, wait_s=wait_s)
                return json.dumps(result, ensure_ascii=False)

            return run

        return [
            tool_type(
                name=one["name"],
                description=one["description"],
                params_json_schema=one["parameters"],
                on_invoke_tool=runner(one["name"]),
                strict_json_schema=strict,
            )
            for one in self.definitions("openai-responses", strict=strict)
        ]

    def pydantic_ai_tools(self, *, session: SessionOf = None, wait_s: float | None = None) -> list[Any]:
        """Return the tools as those of pydantic-ai; the model reads the result object.

        Args:
            session: The conversation, or what returns it from pydantic-ai's `RunContext`.
            wait_s: The longest wait of a call, in seconds; by default 50.

        Raises:
            ImportError: The package pydantic-ai is not installed.
        """
        tool_type = _module("pydantic_ai", package="pydantic-ai").Tool

        def runner(name: str) -> Callable[..., Any]:
            async def run(context: Any, /, **arguments: Any) -> dict[str, Any]:
                return await self.call(name, arguments, session=_named(session, context), wait_s=wait_s)

            return run

        return [
            tool_type.from_schema(
                runner(one["name"]),
                name=one["name"],
                description=one["description"],
                json_schema=one["input_schema"],
                takes_ctx=True,
            )
            for one in self.definitions("anthropic")
        ]


def sync_langchain_tools(
    call: Callable[..., dict[str, Any]],
    definitions: Sequence[Mapping[str, Any]],
    *,
    session: SessionOf,
    wait_s: float | None,
) -> list[Any]:
    """Return the tools as LangChain's, for agents that run without an event loop.

    Args:
        call: Runs a model's tool call and waits for it.
        definitions: Name, description and input_schema of each.
        session: See `FrameworkTools.langchain_tools`.
        wait_s: The longest wait of a call, in seconds.
    """

    def runner(name: str) -> Any:
        def run(**arguments: Any) -> tuple[str, dict[str, Any]]:
            return _langchain_answer(call(name, arguments, session=_langchain_session(session), wait_s=wait_s))

        return {"func": run}

    return _langchain_tools(definitions, runner)


def _langchain_tools(definitions: Sequence[Mapping[str, Any]], runner: Callable[[str], Any]) -> list[Any]:
    tool_type = _module("langchain_core.tools", package="langchain-core").StructuredTool
    return [
        tool_type(
            name=one["name"],
            description=one["description"],
            args_schema=one["input_schema"],
            response_format="content_and_artifact",
            handle_tool_error=True,
            **runner(one["name"]),
        )
        for one in definitions
    ]


def _langchain_answer(result: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a result's text and the result itself; a failure is raised as LangChain's tools report theirs."""
    text = json.dumps(result, ensure_ascii=False)
    if "error" in result:
        raise _module("langchain_core.tools", package="langchain-core").ToolException(text)
    return text, result


def _langchain_session(session: SessionOf) -> str | None:
    config = _module("langchain_core.runnables.config", package="langchain-core").ensure_config()
    if session is None:
        thread = config.get("configurable", {}).get("thread_id")
        return None if thread is None else str(thread)
    return _named(session, config)


def _named(session: SessionOf, context: Any) -> str | None:
    return session(context) if callable(session) else session


def _module(name: str, *, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        raise ImportError(
            f"these tools need the package {package}, which is not installed in this Python environment"
        ) from exc
