"""flux2-tool: Flux 2 images for OpenClaw agents, for other agents' hosts, and for Python.

    from flux2_tool import Flux2Tool

The API is in `hosts/python/client.py`, its exceptions in `exceptions.py`. A name is imported on first use, so that
commands start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flux2_tool.engine.wait import Progress
    from flux2_tool.exceptions import Flux2Error
    from flux2_tool.hosts.python.client import Flux2Tool
    from flux2_tool.hosts.python.sync_client import SyncFlux2Tool
    from flux2_tool.runapi.webhooks import Webhook, WebhookRefusedError, verify_webhook
    from flux2_tool.schema.results import ToolResult

__all__ = [
    "Flux2Error",
    "Flux2Tool",
    "Progress",
    "SyncFlux2Tool",
    "ToolResult",
    "Webhook",
    "WebhookRefusedError",
    "verify_webhook",
]

_HOMES = {
    "Flux2Error": "flux2_tool.exceptions",
    "Flux2Tool": "flux2_tool.hosts.python.client",
    "Progress": "flux2_tool.engine.wait",
    "SyncFlux2Tool": "flux2_tool.hosts.python.sync_client",
    "ToolResult": "flux2_tool.schema.results",
    "Webhook": "flux2_tool.runapi.webhooks",
    "WebhookRefusedError": "flux2_tool.runapi.webhooks",
    "verify_webhook": "flux2_tool.runapi.webhooks",
}

# Hidden from type checkers, which would accept any name otherwise.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        if name in ("Flux2Tool", "SyncFlux2Tool"):
            _check_system()
        return getattr(importlib.import_module(_HOMES[name]), name)

    def _check_system() -> None:
        from flux2_tool._platform import unsupported_system

        reason = unsupported_system()
        if reason is not None:
            from flux2_tool.exceptions import ConfigurationError

            raise ConfigurationError(reason)

    def __dir__() -> list[str]:
        return sorted([*globals(), *__all__])
