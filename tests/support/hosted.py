"""Engines as production calls them: behind the hosts' edge, where a result or an error becomes the JSON object."""

from __future__ import annotations

from typing import Any

from flux2_tool.context import CallContext
from flux2_tool.credentials import Credentials
from flux2_tool.engine.engine import Engine
from flux2_tool.engine.host_profile import MCP_HTTP
from flux2_tool.engine.runtime import Runtime
from flux2_tool.hosts.outcome import outcome_of, result_object
from flux2_tool.hosts.worker.server import HOSTS
from flux2_tool.schema.results import as_object
from flux2_tool.settings import Settings


class HostedEngine:
    """An engine behind the hosts' edge: what a call came to is the JSON object that every host hands on.

    Args:
        engine: What runs the calls.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.webhook = engine.webhook
        self.aclose = engine.aclose

    async def call(
        self,
        tool: str,
        arguments: Any,
        *,
        session: str | None = None,
        caller: CallContext | None = None,
        credentials: Credentials | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Make one call, by default of a caller of whom the host tells the session and nothing else."""
        caller = caller or CallContext(session=session, is_owner=self.engine.host.callers_are_owners)
        source = None if credentials is None else lambda: credentials
        return await result_object(self.engine.call(tool, arguments, caller=caller, credentials=source, **options))

    async def resume(self, **options: Any) -> list[dict[str, Any]]:
        """Finish what was interrupted."""
        return [as_object(outcome) for outcome in await self.engine.resume(**options)]

    async def resend(self, record_id: str, **options: Any) -> dict[str, Any]:
        """Send a request of unknown outcome once more."""
        return await result_object(self.engine.resend(record_id, **options))

    async def raw_response(self, task_id: str) -> str | dict[str, Any]:
        """Return RunAPI's last response about a task, or an error object."""
        outcome = await outcome_of(self.engine.raw_response(task_id))
        return outcome if isinstance(outcome, str) else as_object(outcome)


def hosted(settings: Settings, account: Credentials, *, host: str = "cli", **replaced: Any) -> HostedEngine:
    """Return an engine behind the hosts' edge.

    Args:
        host: As the worker's protocol names the kinds of hosts; or "mcp-http".
        replaced: Parts of `Runtime`.
    """
    engine = Engine(
        settings=settings,
        credentials=lambda: account,
        host={**HOSTS, "mcp-http": MCP_HTTP}[host],
        runtime=Runtime(**replaced),
    )
    return HostedEngine(engine)
