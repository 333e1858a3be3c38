"""The MCP server, `flux2-tool mcp`: the manifest's tools for any MCP host, over stdin and stdout.

It needs the extra `mcp`; nothing else imports that package. The SDK's low-level server passes on our own JSON
Schemas unchanged and does not validate arguments, so that a model reads our violations instead of the SDK's. A tool's
failure is a result with `isError`; a JSON-RPC error is for a protocol fault. Over stdio the session is the connection,
and the process ends with it; for HTTP see `mcp_http/`. Source: the MCP specification, 2025-11-25 and 2026-07-28,
server/tools and basic/utilities.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import mcp  # noqa: F401 - fails here, before anything is begun, where the extra is missing

from flux2_tool.context import Approval, CallContext, working_folder, workspace_of
from flux2_tool.credentials import Credentials, resolve_credentials
from flux2_tool.engine.approvals import declined
from flux2_tool.engine.engine import Engine
from flux2_tool.engine.host_profile import MCP_STDIO, HostProfile
from flux2_tool.engine.wait import CancelToken, Progress
from flux2_tool.exceptions import ConfigurationError, NotApprovedError
from flux2_tool.hosts.leash import Leash, call_at_signal
from flux2_tool.hosts.log_stream import DRAIN_S, LogStream, log_to_stderr, unblocked_stderr
from flux2_tool.hosts.mcp_answers import Answers, ReadAnswers
from flux2_tool.hosts.mcp_consent import KEY_BYTES, ConsentStates
from flux2_tool.hosts.mcp_icon import ICONS
from flux2_tool.hosts.mcp_pictures import SmallCopies, most_bytes
from flux2_tool.hosts.mcp_requests import InputNeededError, ServerInfo, ToolRequest, UnknownToolError, UserAnswer
from flux2_tool.hosts.mcp_result import as_tool_result
from flux2_tool.hosts.mcp_sdk import sdk
from flux2_tool.hosts.mcp_transport import MAX_LINE_BYTES, message_streams
from flux2_tool.hosts.outcome import result_object
from flux2_tool.hosts.pipes import LineReader, LineWriter, protocol_output
from flux2_tool.schema.export import export
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.recent import CallResult
from flux2_tool.schema.results import ToolResult, as_object
from flux2_tool.schema.validation import without_nulls
from flux2_tool.schema.value_text import nearest, shown
from flux2_tool.schema.violations import near_text
from flux2_tool.settings import Settings, load_settings

logger = logging.getLogger(__name__)

STOP_GRACE_S: Final = 3.0
# How long a host that closes its connection may take to read the last answer.
LAST_READ_S: Final = 0.5
# MCP requires every progress value to exceed the one before, even if two changes coincide.
PROGRESS_STEP_S: Final = 0.001
# For small copies; some hosts over stdio end a call after five seconds.
PICTURES_WITHIN_S: Final = 1.5
PICTURES_WITHIN_HTTP_S: Final = 6.0


class ToolServer:
    """Answers requests: those of one connection, or of all sessions over HTTP.

    The server starts even with wrong settings: every call then returns the error, where an agent can read it.

    Args:
        environ: Settings and key.
        answers: Which results the host has received.
        host: How its host calls.
        caller: Whoever calls, and the folders whose pictures they may use as sources.
        random_bytes: Returns that many bytes that nobody can guess.

    Attributes:
        engine: Runs the tools; None with wrong settings.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        answers: Answers,
        *,
        host: HostProfile,
        caller: CallContext,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._environ = environ
        self._answers = answers
        self._manifest = load_manifest()
        self._settings: Settings | None = None
        self._fault: ConfigurationError | None = None
        self._host = host
        self._caller = caller
        self.engine: Engine | None = None
        self._calls: dict[asyncio.Task[dict[str, Any]], CancelToken] = {}
        self._small_copies = SmallCopies()
        self._states = ConsentStates(random_bytes(KEY_BYTES))
        try:
            self._settings = load_settings(environ)
            self.engine = Engine(settings=self._settings, environ=environ, host=host, manifest=self._manifest)
            if self._settings.spenders != "everyone" or self._settings.sender_daily_cap_usd is not None:
                logger.warning(
                    "spenders and sender_daily_cap_usd have no effect over MCP: a host does not identify the "
                    "requester, so everybody counts as the owner"
                )
        except ConfigurationError as exc:
            logger.warning("wrong settings: %s", exc)
            self._fault = exc

    @property
    def info(self) -> ServerInfo:
        """How the server presents itself."""
        return ServerInfo(
            name="flux2-tool",
            version=self._manifest.version,
            title=self._manifest.name,
            instructions=self._manifest.description,
            icons=ICONS,
        )

    async def list_tools(self) -> list[dict[str, Any]]:
        """Answer `tools/list` with the tool definitions."""
        settings = self._settings
        tools = export(
            self._manifest,
            "mcp",
            tiers=self._manifest.default_tiers if settings is None else settings.tiers,
            callback_hosts=() if settings is None else settings.callback_hosts,
            wait_s=self._host.wait_s if settings is None else self._host.longest_wait_s(settings),
        )
        return [{**tool, "icons": ICONS} for tool in tools]

    async def call_tool(self, request: ToolRequest) -> dict[str, Any]:
        """Answer `tools/call`; a host that cancels the request stops the wait, never the task."""
        self._note_received(self._answers.take())
        if request.name not in self._manifest.tools:
            tools = self._manifest.tools
            known = ", ".join(tools) + near_text(nearest(request.name, tools))
            raise UnknownToolError(f"Unknown tool: {shown(request.name)}; tools are {known}")
        cancel = CancelToken()
        caller = self._caller
        if (exchange := request.exchange) is not None:
            if exchange.arguments is not None:
                request = replace(request, arguments=exchange.arguments)
            exchange.answered_by(asyncio.current_task())
            exchange.on_gone(cancel.set)
            caller = replace(caller, session=exchange.conversation(request.client))
        try:
            consent = await self._consent(request, caller)
        except NotApprovedError as exc:
            return as_tool_result(as_object(exc), client=request.client)
        progress_queue: asyncio.Queue[Progress | None] = asyncio.Queue()
        caller = replace(caller, approval=consent)
        call = asyncio.create_task(result_object(self._run(request, caller, cancel, progress_queue.put_nowait)))
        self._calls[call] = cancel
        call.add_done_callback(lambda done: self._calls.pop(done, None))
        call.add_done_callback(lambda _done: progress_queue.put_nowait(None))
        last_s = -PROGRESS_STEP_S
        try:
            while (progress := await progress_queue.get()) is not None:
                last_s = max(progress.elapsed_s, last_s + PROGRESS_STEP_S)
                await request.report_progress(last_s, progress.message)
        finally:
            # After a cancelled request the call still ends normally, without a listener.
            cancel.set()
        return await self._answer(request, call.result())

    async def aclose(self) -> None:
        """Stop every wait and close the connections. Tasks at RunAPI continue."""
        self.stop_waiting()
        if self._calls:
            await asyncio.wait(self._calls, timeout=STOP_GRACE_S)
        if self.engine is not None:
            self._note_received(await self._answers.take_within(LAST_READ_S))
            # What the client has not read when it closes the connection, an equal call gets again.
            await self.engine.aclose(delivered=False)
        await self._small_copies.aclose()

    def stop_waiting(self) -> None:
        """End the wait of every call, which then answers at once."""
        for cancel in self._calls.values():
            cancel.set()

    def _note_received(self, task_ids: Collection[str]) -> None:
        if task_ids and self.engine is not None:
            self.engine.received(task_ids)

    async def _answer(self, request: ToolRequest, result: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a call, with small copies of its pictures where the host shows them."""
        images, pictures = result.get("images") or [], []
        bound_bytes = most_bytes(None if self._settings is None else self._settings.mcp_image_kib, request.client)
        if images and bound_bytes and self.engine is not None:
            within_s = PICTURES_WITHIN_S if self._host.shares_files else PICTURES_WITHIN_HTTP_S
            try:
                pictures = await self._small_copies.contents(
                    images, base_url=self._credentials().base_url, within_s=within_s, bound_bytes=bound_bytes
                )
            except asyncio.CancelledError:
                self.engine.lost([task["id"] for task in result["tasks"]])  # there will be no answer
                raise
        if images and not self._host.shares_files:
            result |= {"images": [{**image, "path": None} for image in images]}
        return as_tool_result(result, client=request.client, pictures=pictures)

    async def _consent(self, request: ToolRequest, caller: CallContext) -> Approval | None:
        """Ask the user whether to pay, if this call needs that and the host can ask; the wait has not begun yet.

        Raises:
            NotApprovedError: The user does not agree.
            InputNeededError: The host has to ask, and to send the request again; also where it agrees to a question
                that this process has not asked.
        """
        if self.engine is None or request.ask_user is None:
            return None
        question = await self.engine.question(
            request.name,
            without_nulls(request.arguments or {}),
            credentials=self._credentials,
            caller=caller,
        )
        if question is None:
            return None
        message, state = f"{question.title} {question.text}", self._states.state_of(question.approval)
        try:
            answer = await _unless_gone(request, request.ask_user(message, state))
        except InputNeededError:
            raise
        except Exception:
            # A host that declares what it cannot do; the call is then refused like any other without consent.
            logger.exception("the host could not ask its user")
            return None
        if answer.action != "accept":
            raise declined(question, was_answered=answer.action == "decline")
        # What was shown when the user agreed: the price may have changed while the host asked.
        approval = self._states.approval_of(answer.state)
        if approval is None:
            raise InputNeededError(message, state)
        return approval

    def _credentials(self) -> Credentials:
        base_url = None if self._settings is None else self._settings.base_url
        return resolve_credentials(environ=self._environ, settings_base_url=base_url)

    async def _run(
        self,
        request: ToolRequest,
        caller: CallContext,
        cancel: CancelToken,
        on_progress: Callable[[Progress], None],
    ) -> CallResult:
        if self.engine is None or self._settings is None:
            raise self._fault or ConfigurationError("there are no settings")
        result = await self.engine.call(
            request.name,
            without_nulls(request.arguments or {}),
            credentials=self._credentials,
            # A host has a timeout of its own, whatever the model asked for.
            longest_wait_s=self._host.longest_wait_s(self._settings),
            caller=caller,
            on_progress=on_progress,
            cancel=cancel,
        )
        if isinstance(result, ToolResult) and not cancel.is_set:
            self._answers.expect(request, [task.id for task in result.tasks if task.id is not None])
        return result


async def _unless_gone(request: ToolRequest, asking: Awaitable[UserAnswer]) -> UserAnswer:
    """Return the user's answer; a client that has closed its connection meanwhile has not answered."""
    if request.exchange is None:
        return await asking
    question = asyncio.ensure_future(asking)
    request.exchange.on_gone(question.cancel)
    try:
        return await question
    except asyncio.CancelledError:
        if not question.cancelled() or (current := asyncio.current_task()) is None or current.cancelling():
            raise
        return UserAnswer(action="cancel", state="")
    finally:
        question.cancel()


async def serve(environ: Mapping[str, str], output: LineWriter, *, folder: Path | None) -> None:
    """Serve stdin and the given output until the client closes them, a signal comes, or the parent process dies."""
    answers = ReadAnswers(output)
    caller = CallContext(
        is_owner=MCP_STDIO.callers_are_owners,
        workspace_dir=workspace_of(folder, environ),
        state_dir=Path(environ["OPENCLAW_STATE_DIR"]) if environ.get("OPENCLAW_STATE_DIR") else None,
    )
    tools = ToolServer(environ, answers, host=MCP_STDIO, caller=caller)
    answers.delivery = tools.engine
    server = sdk().server(tools.info, tools)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(*_signal: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            loop.call_soon_threadsafe(stopped.set)

    leash = Leash(stop, also_look=output.check_reader)

    def end(*_signal: object) -> None:
        leash.pull()
        stop()

    call_at_signal(end)
    output.on_broken(end)
    leash.watch()
    lines = LineReader(loop, on_end=leash.pull, max_bytes=MAX_LINE_BYTES)
    async with message_streams(lines, output, answers) as (read, write):
        serving = asyncio.ensure_future(server.run(read, write, server.create_initialization_options()))
        other = asyncio.ensure_future(stopped.wait())
        await asyncio.wait([serving, other], return_when=asyncio.FIRST_COMPLETED)
        leash.pull()
        await tools.aclose()
        output.close(timeout_s=1.0)
        exit_now()


def exit_now() -> None:
    """End this process at once, whatever its threads are doing."""
    if isinstance(sys.stderr, LogStream):
        sys.stderr.drain(timeout_s=DRAIN_S)
    os._exit(0)


def main() -> None:
    """Run the server process; it does not return."""
    with unblocked_stderr() as log:
        output = protocol_output(log)
        log_to_stderr(logging.WARNING)
        asyncio.run(serve(os.environ, output, folder=working_folder()))
        exit_now()
