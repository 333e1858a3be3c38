"""Version 1 of the MCP SDK behind `AnySdk`. Source: https://github.com/modelcontextprotocol/python-sdk, branch v1.x."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from flux2_tool.hosts.mcp_requests import (
    NO_FIELDS,
    AskUser,
    Handlers,
    ServerInfo,
    ToolRequest,
    UnknownToolError,
    UserAnswer,
    exchange_of,
    shows_forms,
)


class Sdk1:  # pragma: no cover - reached where version 1 is installed, as .ci/run does
    """See `AnySdk`."""

    def __init__(self) -> None:
        # By name, because the types of only one version can be checked.
        self._types: Any = importlib.import_module("mcp.types")
        self._envelope: Any = importlib.import_module("mcp.shared.message").SessionMessage
        self._error: Any = importlib.import_module("mcp.shared.exceptions").McpError
        self._lowlevel: Any = importlib.import_module("mcp.server.lowlevel")

    def server(self, info: ServerInfo, handlers: Handlers) -> Any:
        types = self._types
        icons = [types.Icon.model_validate(icon) for icon in info.icons]
        server = self._lowlevel.Server(info.name, version=info.version, instructions=info.instructions, icons=icons)

        async def list_tools(_request: Any) -> Any:
            return types.ServerResult(types.ListToolsResult.model_validate({"tools": await handlers.list_tools()}))

        async def call_tool(request: Any) -> Any:
            context = server.request_context
            token = None if context.meta is None else context.meta.progressToken
            client = context.session.client_params

            async def report(value: float, message: str | None) -> None:
                if token is not None:
                    # Over HTTP it goes with the request's answer.
                    await context.session.send_progress_notification(
                        token, value, message=message, related_request_id=str(context.request_id)
                    )

            request_of_tool = ToolRequest(
                request_id=context.request_id,
                name=request.params.name,
                arguments=request.params.arguments,
                report_progress=report,
                client="" if client is None else client.clientInfo.name,
                ask_user=self._ask_user(context),
                exchange=exchange_of(context.request),
            )
            try:
                result = await handlers.call_tool(request_of_tool)
            except UnknownToolError as exc:
                raise self._error(types.ErrorData(code=types.INVALID_PARAMS, message=str(exc))) from exc
            return types.ServerResult(types.CallToolResult.model_validate(result))

        # Not the SDK's decorators, which validate arguments and results in words of their own.
        server.request_handlers[types.ListToolsRequest] = list_tools
        server.request_handlers[types.CallToolRequest] = call_tool
        return server

    def _ask_user(self, context: Any) -> AskUser | None:
        peer = context.session.client_params
        if peer is None or not shows_forms(peer.capabilities):
            return None

        async def ask_now(message: str, state: str) -> UserAnswer:
            answer = await context.session.elicit_form(message, dict(NO_FIELDS), context.request_id)
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

    def http(self, server: Any, *, max_body_bytes: int) -> Any:
        manager: Any = importlib.import_module("mcp.server.streamable_http_manager").StreamableHTTPSessionManager
        ours = {"session_idle_timeout": None, "max_sessions": None, "max_request_body_size": max_body_bytes}
        known_options = inspect.signature(manager).parameters
        return manager(server, **{name: value for name, value in ours.items() if name in known_options})

    def is_stateless(self, _protocol_version: str | None) -> bool:
        return False
