"""The registry of an engine's image tasks, with what they depend on."""

from __future__ import annotations

from flux2_tool.engine.runtime import Runtime
from flux2_tool.journal import AccountPaces, place_of
from flux2_tool.runapi.cache import RouteCache
from flux2_tool.runapi.rate_limit import ConcurrencyLimiter
from flux2_tool.schema.manifest import Manifest
from flux2_tool.settings import Settings
from flux2_tool.tasks.delivery import Receipt
from flux2_tool.tasks.dependencies import TaskDependencies
from flux2_tool.tasks.poll_scheduler import PollScheduler
from flux2_tool.tasks.registry import Registry
from flux2_tool.tasks.webhook_inbox import WebhookInbox


def registry_of(
    settings: Settings,
    *,
    manifest: Manifest,
    routes: RouteCache,
    webhook_inbox: WebhookInbox | None,
    runtime: Runtime,
    paces: AccountPaces,
    is_peer_in_process: bool,
    receipt: Receipt,
) -> Registry:
    """Return an engine's registry; for the arguments see `Engine` and `Registry`."""
    return Registry(
        place=place_of(settings),
        mode=settings.journal,
        owner=runtime.owner,
        opener=runtime.opener,
        is_peer_in_process=is_peer_in_process,
        receipt=receipt,
        dependencies=TaskDependencies(
            clock=runtime.clock,
            random=runtime.random,
            route_cache=routes,
            poll_scheduler=PollScheduler(typical_s=manifest.typical_s),
            create_slots=ConcurrencyLimiter(settings.max_creates),
            paces=paces,
            webhook_inbox=webhook_inbox,
            route=settings.route,
            resend_window_s=settings.resend_window_s,
        ),
    )
