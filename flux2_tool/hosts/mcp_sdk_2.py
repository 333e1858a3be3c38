"""Version 2 of the MCP SDK behind `AnySdk`. Source: https://github.com/modelcontextprotocol/python-sdk, branch main."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from flux2_tool.hosts.mcp_requests import (
    NO_FIELDS,
    AskUser,
    Handlers,
    InputNeededError,
    ServerInfo,
    ToolRequest,
    UnknownToolError,
    UserAnswer,
    exchange_of,
    form_of,
    known,
    shows_forms,
)

LISTS_LIVE_MS: Final = 300_000
# From this version of the protocol on a server answers with its question, instead of sending a request of its own.
_INPUT_REQUIRED_SINCE: Final = "2026-07-28"
_QUESTION: Final = "consent"


class Sdk2:
    """See `AnySdk`."""

    def __init__(self) -> None:
        import mcp_types
        from mcp.shared.message import SessionMessage

        self._types = mcp_types
        self._envelope = SessionMessage

    def server(self, info: ServerInfo, handlers: Handlers) -> Any:
        from mcp.server.caching import CacheHint
        from mcp.server.context import ServerRequestContext
        from mcp.server.lowlevel import Server
        from mcp.shared.exceptions import MCPError
        from mcp_types import (
            INVALID_PARAMS,
            CallToolRequestParams,
            CallToolResult,
            Icon,
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
                request_id=known(ctx.request_id),
                name=params.name,
                arguments=params.arguments,
                report_progress=report,
                client="" if ctx.session.client_params is None else ctx.session.client_params.client_info.name,
                ask_user=self._ask_user(ctx, params),
                exchange=exchange_of(ctx.request),
            )
            try:
                return CallToolResult.model_validate(await handlers.call_tool(request))
            except UnknownToolError as exc:
                raise MCPError(INVALID_PARAMS, str(exc)) from exc
            except InputNeededError as exc:
                question = {"method": "elicitation/create", "params": form_of(exc.message)}
                return InputRequiredResult.model_validate(
                    {"inputRequests": {_QUESTION: question}, "requestState": exc.state}
                )

        return Server(
            info.name,
            version=info.version,
            title=info.title,
            instructions=info.instructions,
            icons=[Icon.model_validate(icon) for icon in info.icons],
            # What is offered stays as it is while the process runs.
            cache_hints=dict.fromkeys(("tools/list", "server/discover"), CacheHint(ttl_ms=LISTS_LIVE_MS)),
            on_list_tools=list_tools,
            on_call_tool=call_tool,
        )

    def _ask_user(self, ctx: Any, params: Any) -> AskUser | None:
        """Return what asks the user of a host that can show a form."""
        if not shows_forms(ctx.session.client_capabilities):
            return None
        if ctx.protocol_version < _INPUT_REQUIRED_SINCE:

            async def ask_now(message: str, state: str) -> UserAnswer:
                answer = await ctx.session.elicit_form(message, dict(NO_FIELDS), ctx.request_id)
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

    def http(self, server: Any, *, max_body_bytes: int) -> Any:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        # Sessions end, and are counted, by our own rules, which hold for every version; see `mcp_http/sessions.py`.
        # Which of these there are depends on the version.
        ours = {"session_idle_timeout": None, "max_sessions": None, "max_request_body_size": max_body_bytes}
        known = inspect.signature(StreamableHTTPSessionManager).parameters
        options: dict[str, Any] = {name: value for name, value in ours.items() if name in known}
        return StreamableHTTPSessionManager(server, **options)

    def is_stateless(self, protocol_version: str | None) -> bool:
        from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

        return protocol_version is not None and protocol_version not in HANDSHAKE_PROTOCOL_VERSIONS
