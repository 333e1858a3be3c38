"""The MCP SDK behind one interface, whichever of its two major versions is installed.

Version 2 is the current one; agent frameworks that share an environment with this package may need version 1. What
differs is how handlers are registered and how messages are wrapped. Nothing here imports the SDK before it is needed.
Source: https://github.com/modelcontextprotocol/python-sdk, the branches v1.x and main.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Final, Protocol

from flux2_tool.exceptions import ConfigurationError

# Nothing is asked beyond yes and no.
_NO_FIELDS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}
# From this version of the protocol on a server answers with its question, instead of sending a request of its own.
_INPUT_REQUIRED_SINCE: Final = "2026-07-28"
_QUESTION: Final = "consent"

# The lowest of each major version that the tests ran with; pyproject.toml says the same.
LOWEST: Final[Mapping[int, tuple[int, int]]] = {1: (1, 24), 2: (2, 0)}
VERSIONS_TEXT: Final = "version 1.24 or newer, or 2, of the package mcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserAnswer:
    """What came of a question to the user.

    Attributes:
        action: accept, decline, or cancel for a question that was closed without an answer.
        state: What was passed with the question.
    """

    action: str
    state: str


# Asks the user, with a message and a state that comes back with the answer.
AskUser = Callable[[str, str], Awaitable[UserAnswer]]


class InputNeededError(Exception):
    """The answer to the request is a question: the host asks its user and sends the request again with the answer.

    Args:
        message: The question.
        state: Comes back with the answer.
    """

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        self.message = message
        self.state = state


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRequest:
    """One `tools/call`.

    Attributes:
        arguments: As the host sent them; None where it sent none.
        report_progress: Sends a value, in seconds, and a message, if the host asked for progress.
        client: The client's name; empty if it gave none.
        ask_user: Asks the user to agree, or raises InputNeededError; None where the host cannot ask.
    """

    request_id: str | int
    name: str
    arguments: Mapping[str, Any] | None
    report_progress: Callable[[float, str | None], Awaitable[None]]
    client: str = ""
    ask_user: AskUser | None = None


class Handlers(Protocol):
    """What answers the requests; both answers are the JSON of the protocol."""

    async def list_tools(self) -> list[dict[str, Any]]:
        """Return the tool definitions."""

    async def call_tool(self, request: ToolRequest) -> dict[str, Any]:
        """Return the `CallToolResult` of a call.

        Raises:
            InputNeededError: The user has to answer a question first.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """How the server presents itself; version 1 of the SDK knows no title."""

    name: str
    version: str
    title: str
    instructions: str


class AnySdk(Protocol):
    """One major version of the SDK."""

    def server(self, info: ServerInfo, handlers: Handlers) -> Any:
        """Return the SDK's low-level server, which validates no arguments."""

    def received(self, message: Mapping[str, Any]) -> Any:
        """Return the SDK's model of a message from the peer, in its envelope.

        Raises:
            ValueError: It is no message of JSON-RPC 2.0.
        """

    def sent(self, envelope: Any) -> Any:
        """Return the message in an envelope from the server: a pydantic model."""

    def answers(self, method: str) -> bool:
        """Whether the server answers this method, and be it with "method not found"."""

    def is_answer(self, message: Any) -> bool:
        """Whether a message is a response or an error."""

    def is_request(self, message: Any) -> bool:
        """Whether a message is a request."""


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
    return _Sdk2() if major == 2 else _Sdk1()


class _Sdk2:
    def __init__(self) -> None:
        import mcp_types
        from mcp.shared.message import SessionMessage

        self._types = mcp_types
        self._envelope = SessionMessage

    def server(self, info: ServerInfo, handlers: Handlers) -> Any:
        from mcp.server.context import ServerRequestContext
        from mcp.server.lowlevel import Server
        from mcp_types import (
            CallToolRequestParams,
            CallToolResult,
            InputRequiredResult,
            ListToolsResult,
            PaginatedRequestParams,
        )

        async def list_tools(
            _ctx: ServerRequestContext[Any], _params: PaginatedRequestParams | None
        ) -> ListToolsResult:
            return ListToolsResult.model_validate({"tools": await handlers.list_tools()})

        async def call_tool(
            ctx: ServerRequestContext[Any], params: CallToolRequestParams
        ) -> CallToolResult | InputRequiredResult:
            async def report(value: float, message: str | None) -> None:
                await ctx.session.report_progress(value, message=message)

            request = ToolRequest(
                request_id=_known(ctx.request_id),
                name=params.name,
                arguments=params.arguments,
                report_progress=report,
                client="" if ctx.session.client_params is None else ctx.session.client_params.client_info.name,
                ask_user=self._ask_user(ctx, params),
            )
            try:
                return CallToolResult.model_validate(await handlers.call_tool(request))
            except InputNeededError as exc:
                question = {"method": "elicitation/create", "params": _question(exc.message)}
                return InputRequiredResult.model_validate(
                    {"inputRequests": {_QUESTION: question}, "requestState": exc.state}
                )

        return Server(
            info.name,
            version=info.version,
            title=info.title,
            instructions=info.instructions,
            on_list_tools=list_tools,
            on_call_tool=call_tool,
        )

    def _ask_user(self, ctx: Any, params: Any) -> AskUser | None:
        """Return what asks the user of a host that can show a form."""
        if not _shows_forms(ctx.session.client_capabilities):
            return None
        if ctx.protocol_version < _INPUT_REQUIRED_SINCE:

            async def ask_now(message: str, state: str) -> UserAnswer:
                answer = await ctx.session.elicit_form(message, dict(_NO_FIELDS), ctx.request_id)
                return UserAnswer(action=answer.action, state=state)

            return ask_now

        async def ask_by_answer(message: str, state: str) -> UserAnswer:
            answer = (params.input_responses or {}).get(_QUESTION)
            if not isinstance(answer, self._types.ElicitResult) or params.request_state is None:
                raise InputNeededError(message, state)
            return UserAnswer(action=answer.action, state=params.request_state)

        return ask_by_answer

    def received(self, message: Mapping[str, Any]) -> Any:
        return self._envelope(self._types.jsonrpc_message_adapter.validate_python(message, by_name=False))

    def sent(self, envelope: Any) -> Any:
        return envelope.message

    def answers(self, _method: str) -> bool:
        return True

    def is_answer(self, message: Any) -> bool:
        return isinstance(message, self._types.JSONRPCResponse | self._types.JSONRPCError)

    def is_request(self, message: Any) -> bool:
        return isinstance(message, self._types.JSONRPCRequest)


class _Sdk1:  # pragma: no cover - reached where version 1 is installed, as .ci/run does
    def __init__(self) -> None:
        # By name, because the types of only one version can be checked.
        self._types: Any = importlib.import_module("mcp.types")
        self._envelope: Any = importlib.import_module("mcp.shared.message").SessionMessage
        self._lowlevel: Any = importlib.import_module("mcp.server.lowlevel")

    def server(self, info: ServerInfo, handlers: Handlers) -> Any:
        types = self._types
        server = self._lowlevel.Server(info.name, version=info.version, instructions=info.instructions)

        async def list_tools(_request: Any) -> Any:
            return types.ServerResult(types.ListToolsResult.model_validate({"tools": await handlers.list_tools()}))

        async def call_tool(request: Any) -> Any:
            context = server.request_context
            token = None if context.meta is None else context.meta.progressToken
            client = context.session.client_params

            async def report(value: float, message: str | None) -> None:
                if token is not None:
                    await context.session.send_progress_notification(token, value, message=message)

            result = await handlers.call_tool(
                ToolRequest(
                    request_id=context.request_id,
                    name=request.params.name,
                    arguments=request.params.arguments,
                    report_progress=report,
                    client="" if client is None else client.clientInfo.name,
                    ask_user=self._ask_user(context),
                )
            )
            return types.ServerResult(types.CallToolResult.model_validate(result))

        # Not the SDK's decorators, which validate arguments and results in words of their own.
        server.request_handlers[types.ListToolsRequest] = list_tools
        server.request_handlers[types.CallToolRequest] = call_tool
        return server

    def _ask_user(self, context: Any) -> AskUser | None:
        peer = context.session.client_params
        if peer is None or not _shows_forms(peer.capabilities):
            return None

        async def ask_now(message: str, state: str) -> UserAnswer:
            answer = await context.session.elicit_form(message, dict(_NO_FIELDS), context.request_id)
            return UserAnswer(action=answer.action, state=state)

        return ask_now

    def received(self, message: Mapping[str, Any]) -> Any:
        return self._envelope(self._types.JSONRPCMessage.model_validate(message))

    def sent(self, envelope: Any) -> Any:
        return envelope.message.root

    def answers(self, method: str) -> bool:
        # It takes any other for parameters that are wrong, and says so at length.
        return method in ("initialize", "ping", "tools/list", "tools/call")

    def is_answer(self, message: Any) -> bool:
        return isinstance(message, self._types.JSONRPCResponse | self._types.JSONRPCError)

    def is_request(self, message: Any) -> bool:
        return isinstance(message, self._types.JSONRPCRequest)


def _shows_forms(capabilities: Any) -> bool:
    """Return whether a host asks its user in a form; one that names no kind of question means that one."""
    elicitation = None if capabilities is None else capabilities.elicitation
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def _question(message: str) -> dict[str, Any]:
    return {"mode": "form", "message": message, "requestedSchema": dict(_NO_FIELDS)}


def _known(request_id: str | int | None) -> str | int:
    return "" if request_id is None else request_id
