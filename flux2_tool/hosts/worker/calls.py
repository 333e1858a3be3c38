"""The worker's tool calls: from a message's params to the engine, and from its result to an object for a message.

Separate from `server.py` because importing it loads the engine, which would delay a worker's start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from flux2_tool._folders import state_folder, system_path
from flux2_tool.context import Approval, CallContext
from flux2_tool.credentials import resolve_credentials
from flux2_tool.engine.account_report import account_report
from flux2_tool.engine.accounts import CredentialsSource
from flux2_tool.engine.approvals import Question
from flux2_tool.engine.engine import Engine
from flux2_tool.engine.host_profile import HostProfile
from flux2_tool.engine.wait import CancelToken, Progress
from flux2_tool.exceptions import ConfigurationError, InternalError
from flux2_tool.hosts.outcome import result_object
from flux2_tool.hosts.pipes import MAX_MESSAGE_BYTES
from flux2_tool.hosts.worker.params import (
    AccountParams,
    AgentSession,
    CallParams,
    OverviewParams,
    PictureParams,
    WebhookParams,
    parsed,
)
from flux2_tool.schema.guards import unknown_settings
from flux2_tool.schema.manifest import Manifest
from flux2_tool.schema.recent import CallResult
from flux2_tool.schema.results import error_object
from flux2_tool.settings import load_settings

logger = logging.getLogger(__name__)

# The session of calls whose conversation OpenClaw does not name; `image_provider.js` uses the same name.
IMAGE_GENERATE_SESSION: Final = "image_generate"


class WorkerCalls:
    """The engine behind one worker, opened at the first call.

    Args:
        manifest: Of this package.
        host: Which kind of host calls.
        config: The plugin's config.
        environ: Settings and key outside OpenClaw.
    """

    def __init__(
        self, manifest: Manifest, *, host: HostProfile, config: Mapping[str, Any], environ: Mapping[str, str]
    ) -> None:
        self._manifest = manifest
        self._host = host
        self._config = config
        self._environ = environ
        self._engine: Engine | None = None

    @staticmethod
    def parse(params: dict[str, Any]) -> CallParams:
        """Return the params of `call`; raises ProtocolFaultError unless they have the protocol's types."""
        return parsed(CallParams, params)

    async def run(
        self, params: CallParams, cancel: CancelToken, on_progress: Callable[[Progress], None]
    ) -> dict[str, Any]:
        """Run one call and return its result object."""
        return await result_object(self._run(params, cancel, on_progress))

    async def question(self, params: CallParams) -> dict[str, Any] | None:
        """Return what a person has to be asked before such a call, None if nothing; see `Engine.question`."""
        engine = self._opened()
        self._check_guards(params.tool)
        question = await engine.question(
            params.tool,
            params.arguments,
            caller=_caller(params, self._environ),
            credentials=self._credentials(params, engine),
        )
        return None if question is None else question_object(question)

    async def account(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return what is known of the account that these params name; see `account_report`.

        Raises:
            ProtocolFaultError: The params do not have the protocol's types.
            Flux2Error: The settings are wrong.
        """
        wanted = parsed(AccountParams, params)
        engine = self._opened()
        user_agent = f"flux2-tool/{self._manifest.version}"
        return await account_report(engine.settings, self._credentials(wanted, engine), user_agent=user_agent)

    async def overview(self, params: dict[str, Any]) -> str:
        """Return what the chat command `/flux2` answers; see `overview.py`.

        Raises:
            ProtocolFaultError: The params do not have the protocol's types.
            Flux2Error: The settings are wrong.
        """
        from flux2_tool.hosts.worker.overview import overview

        wanted, engine = parsed(OverviewParams, params), self._opened()
        return await overview(
            engine.settings,
            self._manifest,
            caller=self._host.in_session(_caller(wanted, self._environ), process=""),
            credentials=self._credentials(wanted, engine),
            is_operator=wanted.is_operator,
        )

    async def gallery(self, _params: dict[str, Any]) -> dict[str, Any]:
        """Write the gallery's page for the Control UI; see `gallery.py`. Raises Flux2Error."""
        from flux2_tool.hosts.worker.gallery import gallery_page

        return await gallery_page(self._opened().settings, self._manifest)

    async def gallery_picture(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return where a picture of the gallery is; see `gallery.py`. Raises ProtocolFaultError or Flux2Error."""
        from flux2_tool.hosts.worker.gallery import gallery_picture

        wanted = parsed(PictureParams, params)
        return await gallery_picture(self._opened().settings, self._manifest, key=wanted.key)

    def webhook(self, params: dict[str, Any]) -> bool:
        """Process a request to the gateway's webhook route; return whether RunAPI sent it.

        Raises:
            ProtocolFaultError: The params do not have the protocol's types.
            Flux2Error: The settings are wrong.
        """
        request = parsed(WebhookParams, params)
        return self._opened().webhook(request.headers, request.body)

    async def aclose(self, *, delivered: bool) -> None:
        """Release every task and connection; see `Engine.aclose`."""
        if self._engine is not None:
            await self._engine.aclose(delivered=delivered)

    async def _run(
        self, params: CallParams, cancel: CancelToken, on_progress: Callable[[Progress], None]
    ) -> CallResult:
        engine = self._opened()
        self._check_guards(params.tool)
        return await engine.call(
            params.tool,
            params.arguments,
            caller=_caller(params, self._environ),
            credentials=self._credentials(params, engine),
            wait_s=params.wait_s,
            output_dir=system_path(params.output_dir) if params.output_dir else None,
            on_progress=on_progress,
            cancel=cancel,
        )

    def _credentials(self, params: AccountParams, engine: Engine) -> CredentialsSource:
        return partial(
            resolve_credentials,
            environ=self._environ,
            explicit_key=params.api_key,
            explicit_base_url=params.base_url,
            settings_base_url=engine.settings.base_url,
        )

    def _opened(self) -> Engine:
        if self._engine is None:
            known = {name: value for name, value in self._config.items() if name in self._manifest.settings}
            try:
                state = state_folder(self._environ) if self._host.is_gateway else None
                settings = load_settings(self._environ, config=known, manifest=self._manifest, state=state)
            except ConfigurationError as exc:
                exc.hint = exc.hint or "Fix plugins.entries.flux2.config, then call again."
                raise
            for unknown in unknown_settings(self._config, self._manifest.settings):
                logger.warning("plugins.entries.%s.config.%s %s", self._manifest.id, unknown.name[:60], unknown.text)
            self._engine = Engine(settings=settings, environ=self._environ, host=self._host, manifest=self._manifest)
        return self._engine

    def _check_guards(self, tool: str) -> None:
        """Refuse to make an image under a config whose unknown key may have been meant as a cap.

        Raises:
            ConfigurationError: There is such a key.
        """
        if tool not in self._manifest.tools or not self._manifest.tools[tool].models:
            return
        where = f"plugins.entries.{self._manifest.id}.config"
        unknown = [one for one in unknown_settings(self._config, self._manifest.settings) if one.guards_money]
        if unknown:
            wrong = "; ".join(f"{where}.{one.name[:60]} {one.text}" for one in unknown)
            raise ConfigurationError(
                f"{wrong}. It may have been meant to limit what images cost, so none is made. Nothing was sent.",
                hint="Tell the user so. The operator renames it to the setting meant, or removes it: "
                f"openclaw config unset {where}.{unknown[0].name[:60]}",
            )


def question_object(question: Question) -> dict[str, Any]:
    """Return a question for a message."""
    return {
        "title": question.title,
        "text": question.text,
        "amount": question.amount,
        "currency": "USD",
        "approval": asdict(question.approval),
    }


def too_large(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the error that replaces a result too large to send; it still names the task."""
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


def _caller(params: CallParams, environ: Mapping[str, str]) -> CallContext:
    session, approval = params.session, params.approval
    agent_id = session.agent_id if isinstance(session, AgentSession) else None
    shared = None if agent_id is None else AgentSession(agent_id=agent_id, session_key=IMAGE_GENERATE_SESSION)
    state = system_path(params.state_dir) if params.state_dir else state_folder(environ)
    return CallContext(
        session=session.name if isinstance(session, AgentSession) else session,
        shared_session=None if shared is None else shared.name,
        ancestors=tuple(filter(None, (ancestor.name for ancestor in params.ancestors or ()))),
        is_handed_over=params.handed_over,
        is_unattributed=params.unattributed,
        is_unnamed=isinstance(session, AgentSession) and session.session_key is None,
        is_private=params.private,
        unattended=params.unattended,
        spends_as_owner=params.spends_as_owner,
        sender=params.sender,
        is_owner=params.is_owner,
        workspace_dir=system_path(params.workspace_dir) if params.workspace_dir else None,
        state_dir=state,
        sandboxed=params.sandboxed,
        source_dirs=tuple(system_path(folder) for folder in params.source_dirs or ()),
        is_watching=params.watching,
        approval=None if approval is None else Approval(**approval.model_dump()),
    )
