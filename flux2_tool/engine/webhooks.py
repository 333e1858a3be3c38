"""The webhook inbox of an engine, where webhooks are configured and its host can receive them."""

from __future__ import annotations

from flux2_tool._clock import Clock
from flux2_tool.engine.host_profile import HostProfile
from flux2_tool.settings import Settings
from flux2_tool.tasks.webhook_inbox import WebhookInbox


def webhook_inbox_of(settings: Settings, host: HostProfile, clock: Clock) -> WebhookInbox | None:
    """Return the webhook inbox if webhooks are configured and the host can receive them."""
    if not host.receives_webhooks or settings.callback_public_url is None or settings.callback_secret is None:
        return None
    return WebhookInbox(public_url=settings.callback_public_url, secret=settings.callback_secret, clock=clock)
