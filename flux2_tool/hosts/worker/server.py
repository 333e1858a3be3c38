"""The worker, `python -m flux2_tool worker`: one long-lived process that runs a gateway's tool calls.

JSON-RPC 2.0 over stdin and stdout, one message per line of at most 1 MiB. Stdout is protocol only; logs go to stderr.

    requests        initialize {host?: "native" | "mcp" | "cli", config?}  -> {version, manifest_sha256}
                    call, see `params.CallParams`                          -> the result object
                    question, of the same params                           -> {question}, null or see `question_object`
                    overview {is_operator, ...}, its session and account   -> {text} for the chat command
                    webhook {headers, body_base64}                         -> {accepted}
                    account {api_key?, base_url?}                          -> see `engine/account_report.py`
                    gallery {}                                             -> {path}, the page; see `gallery.py`
                    gallery_picture {key}                                  -> {path} of its saved copy, or null
                    shutdown                                               -> {}, then the process ends
    notifications   cancel {id}  in;  progress {id, state, elapsed_s, attempt, message, task_ref?}  out

`initialize` may come again at any time with the same params: the plugin asks so whether the worker is alive. Progress
has a `task_ref` once RunAPI has accepted the task.
Members that are not named here, such as the plugin's `plugin_version`, are ignored.

A tool's failure is a result with `error`; a JSON-RPC error is for a protocol fault and harms no other call. The worker
ends when its input or its parent ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final

from flux2_tool.engine.host_profile import LOCAL, MCP, OPENCLAW, HostProfile
from flux2_tool.exceptions import Flux2Error
from flux2_tool.hosts.leash import Leash
from flux2_tool.hosts.log_stream import DRAIN_S, log_to_stderr, unblocked_stderr
from flux2_tool.hosts.pipes import MAX_MESSAGE_BYTES, LineReader, LineWriter, protocol_output
from flux2_tool.hosts.worker.json_rpc import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    ProtocolFaultError,
    RequestId,
    decoded,
    line_of,
    outer_id,
    request_id_of,
)
from flux2_tool.hosts.worker.loading import load_soon
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.schema.task_ref import TaskRef

if TYPE_CHECKING:
    from flux2_tool.engine.wait import CancelToken, Progress
    from flux2_tool.hosts.worker.calls import WorkerCalls
    from flux2_tool.hosts.worker.params import CallParams

logger = logging.getLogger(__name__)

SHUTDOWN_GRACE_S: Final = 3.0
# The kinds of hosts by their names in `initialize`.
HOSTS: Final[Mapping[str, HostProfile]] = {"native": OPENCLAW, "mcp": MCP, "cli": LOCAL}


class Worker:
    """Serves one peer until it is stopped.

    Args:
        send: Writes one message line; must not block.
        environ: Settings and key outside OpenClaw; under the plugin it has neither.
        send_progress: Writes one line of progress, which may be left out; by default as `send` does.
    """

    def __init__(
        self,
        send: Callable[[bytes], None],
        *,
        environ: Mapping[str, str],
        send_progress: Callable[[bytes], None] | None = None,
    ) -> None:
        self._send = send
        self._send_progress = send_progress or send
        self._environ = environ
        self._manifest = load_manifest()
        self._host = OPENCLAW
        self._config: Mapping[str, Any] = {}
        self._calls: WorkerCalls | None = None
        self._running: dict[RequestId, tuple[asyncio.Task[None], CancelToken]] = {}
        self._loading: asyncio.TimerHandle | None = None
        self.stopped = asyncio.Event()

    async def receive(self, line: bytes) -> None:
        """Handle one line; its faults are responded to or logged, never raised."""
        request_id: RequestId | None = None
        is_request = True
        try:
            if len(line.rstrip(b"\r\n")) > MAX_MESSAGE_BYTES:
                too_long = f"a message may be at most {MAX_MESSAGE_BYTES} bytes long"
                raise ProtocolFaultError(INVALID_REQUEST, too_long, request_id=outer_id(line))
            message = decoded(line)
            request_id = request_id_of(message)
            self._check_unused(request_id)
            method, params = message.get("method"), message.get("params", {})
            is_request = "id" in message or not isinstance(method, str)
            if not isinstance(method, str):
                raise ProtocolFaultError(INVALID_REQUEST, "method must be a string")
            if not isinstance(params, dict):
                raise ProtocolFaultError(INVALID_PARAMS, "params must be an object")
            if not is_request:
                self._handle_notification(method, params)
                return
            await self._handle_request(request_id, method, params)
        except ProtocolFaultError as exc:
            if is_request:
                named = request_id if exc.request_id is None else exc.request_id
                # Under a running call's id this would be taken for its result.
                self._respond_fault(None if named in self._running else named, exc.code, str(exc))
            else:
                logger.info("ignored a notification: %s", exc)
        except Flux2Error as exc:
            self._respond_fault(request_id, INVALID_PARAMS, f"{exc.message} {exc.hint}".strip())
        except Exception as exc:
            logger.exception("a message could not be handled")
            self._respond_fault(request_id, INTERNAL_ERROR, f"the worker failed by a defect ({type(exc).__name__})")

    async def stop(self, *, delivered: bool) -> None:
        """Stop every wait, let the calls end, and close the connections.

        Args:
            delivered: Whether the peer still reads the last responses.
        """
        if self._loading is not None:
            self._loading.cancel()
        for _task, cancel in self._running.values():
            cancel.set()
        running = [task for task, _cancel in self._running.values()]
        if running:
            await asyncio.wait(running, timeout=SHUTDOWN_GRACE_S)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._calls is not None:
            await self._calls.aclose(delivered=delivered)

    # ---- messages ----------------------------------------------------------------------------------------------------

    async def _handle_request(self, request_id: RequestId | None, method: str, params: dict[str, Any]) -> None:
        if request_id is None:
            raise ProtocolFaultError(INVALID_REQUEST, "id must be a string or a whole number")
        if method == "call":
            self._begin_call(request_id, params)
        elif method == "question":
            self._begin(request_id, self._question(request_id, self._loaded().parse(params)))
        elif method == "overview":
            self._begin(request_id, self._overview(request_id, params))
        elif method in ("account", "gallery", "gallery_picture"):
            self._begin(request_id, self._answer(request_id, getattr(self._loaded(), method)(params)))
        elif method == "initialize":
            self._initialize(params)
            self._respond(request_id, {"version": self._manifest.version, "manifest_sha256": self._manifest.sha256})
            self._loading = self._loading or load_soon()
        elif method == "webhook":
            self._respond(request_id, {"accepted": self._loaded().webhook(params)})
        elif method == "shutdown":
            await self.stop(delivered=True)
            self._respond(request_id, {})
            self.stopped.set()
        else:
            there_are = "initialize, call, question, overview, account, gallery, gallery_picture, webhook, shutdown"
            raise ProtocolFaultError(METHOD_NOT_FOUND, f'no method "{method[:60]}"; there are {there_are}')

    def _handle_notification(self, method: str, params: dict[str, Any]) -> None:
        if method == "cancel":
            request_id = request_id_of(params)
            found = None if request_id is None else self._running.get(request_id)
            if found is not None:
                found[1].set()
        else:
            logger.info("ignored the notification %r", method[:60])

    def _initialize(self, params: dict[str, Any]) -> None:
        name, config = params.get("host", "native"), params.get("config") or {}
        if name not in list(HOSTS):
            raise ProtocolFaultError(INVALID_PARAMS, f"host must be one of {', '.join(HOSTS)}")
        host = HOSTS[name]
        if not isinstance(config, dict):
            raise ProtocolFaultError(INVALID_PARAMS, "config must be an object")
        if self._calls is not None and (host, config) != (self._host, self._config):
            raise ProtocolFaultError(
                INVALID_REQUEST, "host and config are fixed by the first call; start another worker"
            )
        self._host, self._config = host, config

    def _begin_call(self, request_id: RequestId, params: dict[str, Any]) -> None:
        from flux2_tool.engine.wait import CancelToken

        wanted, cancel = self._loaded().parse(params), CancelToken()
        task = asyncio.get_running_loop().create_task(self._call(request_id, wanted, cancel))
        self._running[request_id] = (task, cancel)

    def _begin(self, request_id: RequestId, answer: Coroutine[Any, Any, None]) -> None:
        from flux2_tool.engine.wait import CancelToken

        self._running[request_id] = (asyncio.get_running_loop().create_task(answer), CancelToken())

    async def _overview(self, request_id: RequestId, params: dict[str, Any]) -> None:
        async def overview() -> dict[str, Any]:
            try:
                return {"text": await self._loaded().overview(params)}
            except Flux2Error as exc:
                return {"text": f"{exc.message} {exc.hint}".strip()}

        await self._answer(request_id, overview())

    async def _answer(self, request_id: RequestId, answer: Awaitable[dict[str, Any]]) -> None:
        """Respond with what a request beside the calls comes to."""
        try:
            self._respond(request_id, await answer)
        except ProtocolFaultError as exc:
            self._respond_fault(request_id, exc.code, str(exc))
        except Flux2Error as exc:
            self._respond_fault(request_id, INVALID_PARAMS, f"{exc.message} {exc.hint}".strip())
        except Exception as exc:
            logger.exception("a request failed by a defect")
            self._respond_fault(request_id, INTERNAL_ERROR, f"the worker failed by a defect ({type(exc).__name__})")
        finally:
            self._running.pop(request_id, None)

    def _check_unused(self, request_id: RequestId | None) -> None:
        if request_id in self._running:
            raise ProtocolFaultError(
                INVALID_REQUEST, f"the id {json.dumps(request_id)[:60]} is in use by a running call"
            )

    async def _question(self, request_id: RequestId, params: CallParams) -> None:
        try:
            self._respond(request_id, {"question": await self._loaded().question(params)})
        except Flux2Error as exc:
            # The call that follows says what is wrong.
            logger.info("no question: %s", exc.code)
            self._respond(request_id, {"question": None})
        except Exception as exc:
            logger.exception("a question failed by a defect")
            self._respond_fault(request_id, INTERNAL_ERROR, f"the worker failed by a defect ({type(exc).__name__})")
        finally:
            self._running.pop(request_id, None)

    async def _call(self, request_id: RequestId, params: CallParams, cancel: CancelToken) -> None:
        def on_progress(progress: Progress) -> None:
            params: dict[str, Any] = {
                "id": request_id,
                "state": progress.state,
                "elapsed_s": progress.elapsed_s,
                "attempt": progress.attempt,
                "message": progress.message,
            }
            if progress.task_id is not None:
                params["task_ref"] = TaskRef.text_of(progress.task_id)
            self._send_progress(line_of({"method": "progress", "params": params}))

        try:
            self._respond(request_id, await self._loaded().run(params, cancel, on_progress))
        except Exception as exc:
            logger.exception("a call failed by a defect")
            self._respond_fault(request_id, INTERNAL_ERROR, f"the worker failed by a defect ({type(exc).__name__})")
        finally:
            self._running.pop(request_id, None)

    def _loaded(self) -> WorkerCalls:
        if self._calls is None:
            # At the first call: importing it loads the engine, and `initialize` should get its response at once.
            from flux2_tool.hosts.worker.calls import WorkerCalls

            self._calls = WorkerCalls(self._manifest, host=self._host, config=self._config, environ=self._environ)
        return self._calls

    # ---- responses ---------------------------------------------------------------------------------------------------

    def _respond(self, request_id: RequestId, result: Mapping[str, Any]) -> None:
        line = line_of({"id": request_id, "result": result})
        if len(line) > MAX_MESSAGE_BYTES:
            # The peer ends a worker that breaks the protocol, and every other session's call with it.
            logger.error("a result of %d bytes is larger than a message may be", len(line))
            from flux2_tool.hosts.worker.calls import too_large

            line = line_of({"id": request_id, "result": too_large(result)})
        self._send(line)

    def _respond_fault(self, request_id: RequestId | None, code: int, message: str) -> None:
        self._send(line_of({"id": request_id, "error": {"code": code, "message": message}}))


async def serve(environ: Mapping[str, str], output: LineWriter) -> None:
    """Run the worker on this process's stdin and the given output until either side ends."""
    loop = asyncio.get_running_loop()
    worker = Worker(output.put, environ=environ, send_progress=output.put_progress)

    def stop() -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            loop.call_soon_threadsafe(worker.stopped.set)

    output.on_broken(stop)
    leash = Leash(stop, also_look=output.check_reader)
    leash.watch()
    lines = LineReader(loop, on_end=leash.pull)
    tasks = [loop.create_task(_pump(worker, lines)), loop.create_task(worker.stopped.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leash.pull()
        for task in tasks:
            task.cancel()
        # Its input has ended, its output is broken or its parent is dead: the last responses may be unread.
        await worker.stop(delivered=False)


async def _pump(worker: Worker, lines: LineReader) -> None:
    while (line := await lines.next()) is not None:
        if line.strip():
            await worker.receive(line)


def main() -> int:
    """Run the worker process; returns its exit code."""
    with unblocked_stderr() as log:
        output = protocol_output(log)
        log_to_stderr(logging.INFO)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(os.environ, output))
        output.close(timeout_s=1.0)
        if log is not None:
            log.drain(timeout_s=DRAIN_S)
        # The thread on stdin may still block in a read; nothing is left to save, so do not wait for it.
        os._exit(0)
