"""The worker's tool calls: from what a message says to the tool, and back to what a message may carry.

Apart from `worker.py` because it brings everything a call needs, and a worker that nobody has called yet should be
there at once.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from flux2_tool.context import CallContext
from flux2_tool.credentials import resolve_credentials
from flux2_tool.engine.engine import Flux2Tool
from flux2_tool.engine.wait import CancelToken, Progress
from flux2_tool.exceptions import ConfigurationError, Flux2Error, InternalError
from flux2_tool.hosts.worker.json_rpc import INVALID_PARAMS, ProtocolFaultError
from flux2_tool.hosts.worker.pipes import MAX_MESSAGE_BYTES
from flux2_tool.schema.manifest import Host, Manifest
from flux2_tool.schema.results import error_object
from flux2_tool.settings import load_settings

# The session of an agent's calls that OpenClaw gives no conversation, as `image_provider.js` names it.
IMAGE_GENERATE_SESSION: Final = "image_generate"
LONGEST_WAIT_S: Final = 86400.0


class WorkerCalls:
    """The tool behind one worker, opened at the first call.

    Args:
        manifest: Of this package.
        host: Which kind of host calls.
        config: The plugin's config.
        environ: Settings and key outside OpenClaw.
    """

    def __init__(
        self, manifest: Manifest, *, host: Host, config: Mapping[str, Any], environ: Mapping[str, str]
    ) -> None:
        self._manifest = manifest
        self._host = host
        self._config = config
        self._environ = environ
        self._tool: Flux2Tool | None = None

    @staticmethod
    def check(params: Mapping[str, Any]) -> None:
        """Raise ProtocolFaultError unless a call's params have the protocol's types."""
        if not isinstance(params.get("tool"), str):
            raise ProtocolFaultError(INVALID_PARAMS, "call needs tool, a string")
        for name in ("api_key", "base_url", "workspace_dir", "state_dir", "output_dir"):
            if not isinstance(params.get(name), (str, type(None))):
                raise ProtocolFaultError(INVALID_PARAMS, f"{name} must be a string or null")
        source_dirs = params.get("source_dirs") or []
        if not isinstance(source_dirs, list) or not all(isinstance(folder, str) and folder for folder in source_dirs):
            raise ProtocolFaultError(INVALID_PARAMS, "source_dirs must be a list of paths, or null")
        wait_s = params.get("wait_s")
        is_number = isinstance(wait_s, (int, float, type(None))) and not isinstance(wait_s, bool)
        if not is_number or not 0 <= (wait_s or 0) <= LONGEST_WAIT_S:
            raise ProtocolFaultError(
                INVALID_PARAMS, f"wait_s must be a number of seconds from 0 to {LONGEST_WAIT_S:.0f}, or null"
            )

    async def run(
        self, params: Mapping[str, Any], cancel: CancelToken, tell: Callable[[Progress], None]
    ) -> dict[str, Any]:
        """Run one call, whose params were checked, to its result object."""
        try:
            tool = self._opened()
            credentials = resolve_credentials(
                environ=self._environ,
                explicit_key=params.get("api_key"),
                explicit_base_url=params.get("base_url"),
                settings_base_url=tool.settings.base_url,
            )
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
            cancel=cancel,
        )

    def webhook(self, params: Mapping[str, Any]) -> bool:
        """Take in what came to the gateway's webhook route; returns whether RunAPI sent it.

        Raises:
            ProtocolFaultError: The params do not have the protocol's types.
            Flux2Error: The settings are wrong.
        """
        headers, body = params.get("headers"), params.get("body_base64")
        if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
            raise ProtocolFaultError(INVALID_PARAMS, "headers must be an object of strings")
        try:
            decoded = base64.b64decode(str(body), validate=True)
        except ValueError as exc:
            raise ProtocolFaultError(INVALID_PARAMS, "body_base64 must be base64 text") from exc
        return self._opened().webhook(headers, decoded)

    async def aclose(self, *, delivered: bool) -> None:
        """Let go of every task and connection; see `Flux2Tool.aclose`."""
        if self._tool is not None:
            await self._tool.aclose(delivered=delivered)

    def _opened(self) -> Flux2Tool:
        if self._tool is None:
            try:
                settings = load_settings(self._environ, config=self._config, manifest=self._manifest)
            except ConfigurationError as exc:
                exc.hint = exc.hint or "Mend plugins.entries.flux2.config, then call again."
                raise
            self._tool = Flux2Tool(settings=settings, host=self._host, manifest=self._manifest)
        return self._tool


def too_large(result: Mapping[str, Any]) -> dict[str, Any]:
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


def _caller(params: Mapping[str, Any], environ: Mapping[str, str]) -> CallContext:
    state = params.get("state_dir") or environ.get("OPENCLAW_STATE_DIR") or str(Path.home() / ".openclaw")
    workspace, sender = params.get("workspace_dir"), params.get("sender")
    session = params.get("session")
    agent = session.get("agent_id") if isinstance(session, Mapping) else None
    return CallContext(
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
