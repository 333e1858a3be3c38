"""The webhook inbox of an engine, where webhooks are configured and its host can receive them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from flux2_tool._clock import Clock
from flux2_tool.engine.host_profile import HostProfile
from flux2_tool.settings import Settings
from flux2_tool.tasks.registry import Registry
from flux2_tool.tasks.webhook_inbox import WebhookInbox, WebhookRefusedError

logger = logging.getLogger(__name__)


def webhook_inbox_of(settings: Settings, host: HostProfile, clock: Clock) -> WebhookInbox | None:
    """Return the webhook inbox if webhooks are configured and the host can receive them."""
    if not host.receives_webhooks or settings.callback_public_url is None or settings.callback_secret is None:
        return None
    return WebhookInbox(public_url=settings.callback_public_url, secret=settings.callback_secret, clock=clock)


def take_webhook(
    webhook_inbox: WebhookInbox | None, registry: Registry, headers: Mapping[str, str], body: bytes
) -> bool:
    """Process a request to the webhook's address; return whether RunAPI sent it."""
    if webhook_inbox is None:
        return False
    try:
        task_id = webhook_inbox.receive(headers, body)
    except WebhookRefusedError as exc:
        # Anybody can send one, and must not be able to fill the log that people read.
        logger.info("a webhook was refused: %s", exc)
        return False
    if task_id is not None:
        registry.notify_finished(task_id)
    return True
