"""The worker, `python -m flux2_tool worker`: one long-lived process that runs a gateway's tool calls.

JSON-RPC 2.0 over stdin and stdout, one message a line of at most 1 MiB. Stdout is protocol only; logs go to stderr.

    requests        initialize {plugin_version?, host?, config?}   -> {version, manifest_sha256}
                    call {tool, arguments, api_key, base_url, session, workspace_dir, state_dir, sandboxed, wait_s,
                    sender?, is_owner?, unattributed?, source_dirs?, output_dir?} -> the result object
                    webhook {headers, body_base64}                 -> {accepted}
                    shutdown                                       -> {}, then the process ends
    notifications   cancel {id}  in;  progress {id, state, elapsed_s, attempt, message}  out

A tool's failure is a result with `error`; a JSON-RPC error is for a protocol fault and harms no other call. The worker
ends when its input does, or its parent.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, Final

from flux2_tool.caller import Caller
from flux2_tool.credentials import Credentials, resolve_credentials
from flux2_tool.errors import ConfigurationError, Flux2Error, InternalError
from flux2_tool.lines import MAX_MESSAGE_BYTES, LineReader, LineWriter
from flux2_tool.manifest import Host, load_manifest
from flux2_tool.results import error_object
from flux2_tool.settings import Settings, load_settings
from flux2_tool.tool import Flux2Tool
from flux2_tool.waiting import Abort, Progress

logger = logging.getLogger(__name__)

PARENT_CHECK_S: Final = 1.0
SHUTDOWN_GRACE_S: Final = 3.0
# The session of an agent's calls that OpenClaw gives no conversation, as `image_provider.js` names it.
IMAGE_GENERATE_SESSION: Final = "image_generate"

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

RequestId = str | int


class ProtocolFaultError(Exception):
    """A message breaks the protocol; answered as a JSON-RPC error, under the request's id unless told otherwise."""

    def __init__(self, code: int, message: str, *, names_request: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.names_request = names_request


class Worker:
    """Serves one peer until it is told to stop.

    Args:
        send: Writes one message line; must not block for long.
        environ: Settings and key outside OpenClaw; under the plugin nothing of ours stands in it.
    """

    def __init__(self, send: Callable[[bytes], None], *, environ: Mapping[str, str]) -> None:
        self._send = send
        self._environ = environ
        self._manifest = load_manifest()
        self._host: Host = "native"
        self._config: Mapping[str, Any] = {}
        self._settings: Settings | None = None
        self._tool: Flux2Tool | None = None
        self._calls: dict[RequestId, tuple[asyncio.Task[None], Abort]] = {}
        self.stopped = asyncio.Event()

    async def receive(self, line: bytes) -> None:
        """Handle one line; every fault in it is answered and none is raised."""
        request_id: RequestId | None = None
        is_request = True
        try:
            if len(line.rstrip(b"\r\n")) > MAX_MESSAGE_BYTES:
                raise ProtocolFaultError(INVALID_REQUEST, f"a message may be at most {MAX_MESSAGE_BYTES} bytes long")
            message = _decoded(line)
            request_id = _request_id(message)
            method, params = message.get("method"), message.get("params", {})
            is_request = "id" in message or not isinstance(method, str)
            if not isinstance(method, str):
                raise ProtocolFaultError(INVALID_REQUEST, "method must be a string")
            if not isinstance(params, dict):
                raise ProtocolFaultError(INVALID_PARAMS, "params must be an object")
            if not is_request:
                self._notified(method, params)
                return
            await self._requested(request_id, method, params)
        except ProtocolFaultError as exc:
            if is_request:
                self._answer_fault(request_id if exc.names_request else None, exc.code, str(exc))
            else:
                logger.info("ignored a notification: %s", exc)
        except Flux2Error as exc:
            self._answer_fault(request_id, INVALID_PARAMS, f"{exc.message} {exc.hint}".strip())
        except Exception as exc:
            logger.exception("a message could not be handled")
            self._answer_fault(request_id, INTERNAL_ERROR, f"the worker failed by a defect ({type(exc).__name__})")

    async def stop(self, *, delivered: bool) -> None:
        """Stop every wait, let the calls answer, and close the connections.

        Args:
            delivered: Whether the peer is there to read the last answers.
        """
        for _task, abort in self._calls.values():
            abort.set()
        running = [task for task, _abort in self._calls.values()]
        if running:
            await asyncio.wait(running, timeout=SHUTDOWN_GRACE_S)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._tool is not None:
            await self._tool.aclose(delivered=delivered)

    # ---- messages ----------------------------------------------------------------------------------------------------

    async def _requested(self, request_id: RequestId | None, method: str, params: dict[str, Any]) -> None:
        if request_id is None:
            raise ProtocolFaultError(INVALID_REQUEST, "id must be a string or a whole number")
        if method == "call":
            self._begin_call(request_id, params)
        elif method == "initialize":
            self._initialize(params)
            self._answer(request_id, {"version": self._manifest.version, "manifest_sha256": self._manifest.sha256})
        elif method == "webhook":
            self._answer(request_id, {"accepted": self._webhook(params)})
        elif method == "shutdown":
            await self.stop(delivered=True)
            self._answer(request_id, {})
            self.stopped.set()
        else:
            raise ProtocolFaultError(
                METHOD_NOT_FOUND, f'no method "{method[:60]}"; there are initialize, call, webhook, shutdown'
            )

    def _notified(self, method: str, params: dict[str, Any]) -> None:
        if method == "cancel":
            request_id = _request_id(params)
            found = None if request_id is None else self._calls.get(request_id)
            if found is not None:
                found[1].set()
        else:
            logger.info("ignored the notification %r", method[:60])

    def _initialize(self, params: dict[str, Any]) -> None:
        host, config = params.get("host", "native"), params.get("config") or {}
        if host not in list(self._manifest.host_waits_s):
            raise ProtocolFaultError(INVALID_PARAMS, f"host must be one of {', '.join(self._manifest.host_waits_s)}")
        if not isinstance(config, dict):
            raise ProtocolFaultError(INVALID_PARAMS, "config must be an object")
        if self._tool is not None and (host, config) != (self._host, self._config):
            raise ProtocolFaultError(
                INVALID_REQUEST, "host and config are fixed by the first call; start another worker"
            )
        self._host, self._config = host, config

    def _begin_call(self, request_id: RequestId, params: dict[str, Any]) -> None:
        if request_id in self._calls:
            # An answer under this id would be taken for the running call's own.
            said = json.dumps(request_id)[:60]
            raise ProtocolFaultError(INVALID_REQUEST, f"the id {said} is in use by a running call", names_request=False)
        if not isinstance(params.get("tool"), str):
            raise ProtocolFaultError(INVALID_PARAMS, "call needs tool, a string")
        for name in ("api_key", "base_url", "workspace_dir", "state_dir", "output_dir"):
            if not isinstance(params.get(name), (str, type(None))):
                raise ProtocolFaultError(INVALID_PARAMS, f"{name} must be a string or null")
        source_dirs = params.get("source_dirs") or []
        if not isinstance(source_dirs, list) or not all(isinstance(folder, str) and folder for folder in source_dirs):
            raise ProtocolFaultError(INVALID_PARAMS, "source_dirs must be a list of paths, or null")
        wait_s = params.get("wait_s")
        if (
            isinstance(wait_s, bool)
            or not isinstance(wait_s, (int, float, type(None)))
            or not 0 <= (wait_s or 0) <= 86400
        ):
            raise ProtocolFaultError(INVALID_PARAMS, "wait_s must be a number of seconds from 0 to 86400, or null")
        abort = Abort()
        task = asyncio.get_running_loop().create_task(self._call(request_id, params, abort))
        self._calls[request_id] = (task, abort)

    async def _call(self, request_id: RequestId, params: dict[str, Any], abort: Abort) -> None:
        def tell(progress: Progress) -> None:
            self._write(
                {
                    "jsonrpc": "2.0",
                    "method": "progress",
                    "params": {
                        "id": request_id,
                        "state": progress.state,
                        "elapsed_s": progress.elapsed_s,
                        "attempt": progress.attempt,
                        "message": progress.message,
                    },
                }
            )

        try:
            result = await self._run_tool(params, abort, tell)
            self._answer(request_id, result)
        except Exception as exc:
            logger.exception("a call failed by a defect")
            self._answer_fault(request_id, INTERNAL_ERROR, f"the worker failed by a defect ({type(exc).__name__})")
        finally:
            self._calls.pop(request_id, None)

    async def _run_tool(
        self, params: Mapping[str, Any], abort: Abort, tell: Callable[[Progress], None]
    ) -> dict[str, Any]:
        try:
            tool = self._opened_tool()
            credentials = self._credentials(params, tool.settings)
        except Flux2Error as exc:
            return error_object(exc)
        return await tool.call(
            params["tool"],
            params.get("arguments"),
            credentials=credentials,
            wait_s=params.get("wait_s"),
            caller=_caller(params, self._environ),
            output_dir=Path(params["output_dir"]) if params.get("output_dir") else None,
            on_progress=tell,
            abort=abort,
        )

    def _webhook(self, params: Mapping[str, Any]) -> bool:
        headers, body = params.get("headers"), params.get("body_base64")
        if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
            raise ProtocolFaultError(INVALID_PARAMS, "headers must be an object of strings")
        try:
            decoded = base64.b64decode(str(body), validate=True)
        except ValueError as exc:
            raise ProtocolFaultError(INVALID_PARAMS, "body_base64 must be base64 text") from exc
        return self._opened_tool().webhook(headers, decoded)

    def _opened_tool(self) -> Flux2Tool:
        settings = self._settings = self._settings or self._loaded_settings()
        if self._tool is None:
            self._tool = Flux2Tool(settings=settings, host=self._host, manifest=self._manifest)
        return self._tool

    def _loaded_settings(self) -> Settings:
        try:
            return load_settings(self._environ, config=self._config, manifest=self._manifest)
        except ConfigurationError as exc:
            exc.hint = exc.hint or "Mend plugins.entries.flux2.config, then call again."
            raise

    def _credentials(self, params: Mapping[str, Any], settings: Settings) -> Credentials:
        return resolve_credentials(
            environ=self._environ,
            explicit_key=params.get("api_key"),
            explicit_base_url=params.get("base_url"),
            settings_base_url=settings.base_url,
        )

    # ---- answers -----------------------------------------------------------------------------------------------------

    def _answer(self, request_id: RequestId, result: Mapping[str, Any]) -> None:
        line = _line({"jsonrpc": "2.0", "id": request_id, "result": result})
        if len(line) > MAX_MESSAGE_BYTES:
            # The peer ends a worker that breaks the protocol, and every other session's call with it.
            logger.error("a result of %d bytes is larger than a message may be", len(line))
            line = _line({"jsonrpc": "2.0", "id": request_id, "result": _in_its_place(result)})
        self._send(line)

    def _answer_fault(self, request_id: RequestId | None, code: int, message: str) -> None:
        self._write({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}})

    def _write(self, message: Mapping[str, Any]) -> None:
        self._send(_line(message))


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


def _in_its_place(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the error that stands for a result too large to send; it still names the task."""
    error, ref = result.get("error"), (result.get("task") or {}).get("ref")
    found = error_object(
        InternalError(
            f"The result is larger than {MAX_MESSAGE_BYTES} bytes and cannot be passed on.",
            hint="`flux2-tool task` with the task's id shows it on the command line. Do not generate it again.",
            charged="yes" if error is None else error["charged"],
        )
    )
    found["error"]["task_ref"] = ref if error is None else error["task_ref"]
    return found


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise ProtocolFaultError(PARSE_ERROR, "the line is not JSON") from exc
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise ProtocolFaultError(INVALID_REQUEST, 'a message is one JSON object with "jsonrpc": "2.0"')
    return message


def _request_id(message: Mapping[str, Any]) -> RequestId | None:
    value = message.get("id")
    return value if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def _caller(params: Mapping[str, Any], environ: Mapping[str, str]) -> Caller:
    state = params.get("state_dir") or environ.get("OPENCLAW_STATE_DIR") or str(Path.home() / ".openclaw")
    workspace, sender = params.get("workspace_dir"), params.get("sender")
    session = params.get("session")
    agent = session.get("agent_id") if isinstance(session, Mapping) else None
    return Caller(
        session=_session_name(session),
        shared_session=_session_name({"agent_id": agent, "session_key": IMAGE_GENERATE_SESSION}) if agent else None,
        is_unattributed=params.get("unattributed") is True,
        sender=sender if isinstance(sender, str) else None,
        is_owner=params.get("is_owner") is True,
        workspace_dir=Path(workspace) if workspace else None,
        state_dir=Path(state),
        sandboxed=params.get("sandboxed") is True,
        source_dirs=tuple(Path(folder) for folder in params.get("source_dirs") or ()),
    )


def _session_name(session: Any) -> str | None:
    """Return one name for a session given as text or as {"agent_id", "session_key"}."""
    if isinstance(session, Mapping):
        parts = [session.get("agent_id"), session.get("session_key")]
        return "/".join(part if isinstance(part, str) else "" for part in parts) if any(parts) else None
    return session if isinstance(session, str) and session else None


async def serve(environ: Mapping[str, str], output: LineWriter) -> None:
    """Run the worker on this process's stdin and the given output until either side ends."""
    loop = asyncio.get_running_loop()
    worker = Worker(output.put, environ=environ)
    output.on_broken(lambda: loop.call_soon_threadsafe(worker.stopped.set))
    lines = LineReader(loop)
    tasks = [
        loop.create_task(_pump(worker, lines)),
        loop.create_task(_watch_parent(worker, os.getppid())),
        loop.create_task(worker.stopped.wait()),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * SHUTDOWN_GRACE_S):
                # Its input has ended, its output is broken or its parent is gone: perhaps nobody read the last answers.
                await worker.stop(delivered=False)


async def _pump(worker: Worker, lines: LineReader) -> None:
    while (line := await lines.next()) is not None:
        if line.strip():
            await worker.receive(line)


async def _watch_parent(worker: Worker, parent: int) -> None:
    """End with the parent even when another process keeps our input open."""
    while os.getppid() == parent:  # noqa: ASYNC110 - no event tells of a parent's end
        await asyncio.sleep(PARENT_CHECK_S)
    logger.info("the parent process is gone")
    worker.stopped.set()


def main() -> int:
    """Run the worker process; returns its exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    # Stdout is the protocol's alone: whatever else prints goes to stderr.
    output = LineWriter(FileIO(os.dup(sys.stdout.fileno()), "wb"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(os.environ, output))
    output.close(timeout_s=1.0)
    # The thread on stdin may still block in a read; nothing is left to save, so do not wait for it.
    sys.stderr.flush()
    os._exit(0)
