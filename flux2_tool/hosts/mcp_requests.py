"""What both major versions of the MCP SDK hand over to the server, and what it answers with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from flux2_tool.hosts.worker.json_rpc import RequestId, request_id_of

# The key in an ASGI scope under which a request over HTTP has its `HttpExchange`.
EXCHANGE_KEY: Final = "flux2_tool.exchange"
# Nothing is asked beyond yes and no.
NO_FIELDS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}


class HttpExchange(Protocol):
    """One request over HTTP, as the server sees it: whose it is, and what becomes of its answer.

    Attributes:
        arguments: A tool's, as they were read, where the SDK cannot read them; else None.
    """

    arguments: Mapping[str, Any] | None

    def conversation(self, client: str) -> str:
        """Return the name of the request's conversation.

        Args:
            client: The name that the client gives itself.
        """

    def expect(self, task_ids: Collection[str]) -> None:
        """Remember that the answer will bring the results of tasks."""

    def answered_by(self, task: asyncio.Task[Any] | None) -> None:
        """Remember the task that answers the request; until it ends the request's id is in use."""

    def on_gone(self, callback: Callable[[], object]) -> None:
        """Call back once when the client has closed the connection before it had the answer."""


class Delivery(Protocol):
    """Takes what became of results."""

    def received(self, task_ids: Collection[str]) -> None:
        """The client has the results of these tasks."""

    def lost(self, task_ids: Collection[str]) -> None:
        """The client has not got the results of these tasks."""


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


class UnknownToolError(Exception):
    """No such tool is offered: an error of the protocol, as the specification has it; the message is for the host."""


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
        exchange: The HTTP request that brought it; None over stdio.
    """

    request_id: str | int
    name: str
    arguments: Mapping[str, Any] | None
    report_progress: Callable[[float, str | None], Awaitable[None]]
    client: str = ""
    ask_user: AskUser | None = None
    exchange: HttpExchange | None = None


class Handlers(Protocol):
    """What answers the requests; both answers are the JSON of the protocol."""

    async def list_tools(self) -> list[dict[str, Any]]:
        """Return the tool definitions."""

    async def call_tool(self, request: ToolRequest) -> dict[str, Any]:
        """Return the `CallToolResult` of a call.

        Raises:
            InputNeededError: The user has to answer a question first.
            UnknownToolError: There is no such tool.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """How the server presents itself; version 1 of the SDK knows no title."""

    name: str
    version: str
    title: str
    instructions: str
    icons: list[dict[str, Any]] = field(default_factory=list)


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

    def http(self, server: Any, *, max_body_bytes: int) -> Any:
        """Return the SDK's manager of the sessions that a server has over HTTP."""

    def is_stateless(self, protocol_version: str | None) -> bool:
        """Whether an HTTP request with this header stands for itself, without a session."""


def shows_forms(capabilities: Any) -> bool:
    """Return whether a host asks its user in a form; one that names no kind of question means that one."""
    elicitation = None if capabilities is None else capabilities.elicitation
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def form_of(message: str) -> dict[str, Any]:
    """Return the parameters of a question that is answered with yes or no."""
    return {"mode": "form", "message": message, "requestedSchema": dict(NO_FIELDS)}


def known(request_id: str | int | None) -> str | int:
    """Return the id of a request; a notification has none."""
    return "" if request_id is None else request_id


def id_key(request_id: str | int) -> str | int:
    """Return what a request is known by while it runs: both versions of the SDK take "2" for 2 somewhere."""
    if isinstance(request_id, str):
        try:
            return int(request_id)
        except ValueError:
            return request_id
    return request_id


def cancelled_by(message: Mapping[str, Any]) -> RequestId | None:
    """Return the id of the request that a message cancels, None if it cancels none."""
    params = message.get("params")
    if message.get("method") != "notifications/cancelled" or not isinstance(params, dict):
        return None
    return request_id_of({"id": params.get("requestId")})


def exchange_of(http_request: Any) -> HttpExchange | None:
    """Return the exchange of the HTTP request that the SDK attached to a message, if it did."""
    scope: Mapping[str, Any] = getattr(http_request, "scope", None) or {}
    return scope.get(EXCHANGE_KEY)
