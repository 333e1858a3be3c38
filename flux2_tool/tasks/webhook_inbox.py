"""Receive RunAPI's webhooks, so that the end of a task is detected without frequent polling.

The gateway's HTTP route passes every webhook here. A valid one wakes its image task, which then polls at once: image
and cost come from that response, so a webhook can never change a task. Meanwhile the task is polled only rarely; after
two missing webhooks in a row, tasks are polled as without webhooks.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from flux2_tool._clock import Clock
from flux2_tool.runapi.webhooks import TOLERANCE_S, WebhookRefusedError, verify_webhook
from flux2_tool.tasks.poll_schedule import WebhookTrust

logger = logging.getLogger(__name__)

ROUTE_PATH: Final = "/flux2/callback"
MISSES_TO_DISTRUST: Final = 2
# An event can be repeated while its signature is accepted; twice that, to be safe.
REMEMBERED_S: Final = 2 * TOLERANCE_S
REMEMBERED_EVENTS: Final = 20_000


class WebhookInbox:
    """The webhooks of one process.

    Args:
        public_url: The gateway's public address, without a trailing slash.
        secret: The account's webhook secret.
        clock: Measures.
    """

    def __init__(self, *, public_url: str, secret: str, clock: Clock) -> None:
        self.callback_url = f"{public_url}{ROUTE_PATH}"
        self._secret = secret
        self._clock = clock
        self._misses = 0
        self._has_arrived = False
        self._events: OrderedDict[str, float] = OrderedDict()
        self._notified: OrderedDict[str, float] = OrderedDict()

    @property
    def trust(self) -> WebhookTrust:
        """Whether webhooks arrive, as far as is known."""
        if self._misses >= MISSES_TO_DISTRUST:
            return "none"
        return "proven" if self._has_arrived and not self._misses else "expected"

    def covers(self, body: bytes) -> bool:
        """Return whether a create request's body contains our webhook address."""
        return json.dumps(self.callback_url, ensure_ascii=False).encode("utf-8") in body

    def receive(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Return a webhook's task id, or None when it is a duplicate or has no task id.

        Raises:
            WebhookRefusedError: It is not from RunAPI, or too old.
        """
        now = self._clock.now()
        webhook = verify_webhook(headers, body, secret=self._secret, now=now)
        self._forget(now)
        if webhook.event_id in self._events:
            return None
        self._events[webhook.event_id] = now
        self._misses, self._has_arrived = 0, True
        task_id = webhook.task.task_id
        if task_id is None:
            logger.info("a webhook names no task")
            return None
        self._notified[task_id] = now
        return task_id

    def was_notified_of(self, task_id: str | None) -> bool:
        """Return whether a task's webhook has arrived, possibly before the create response."""
        return task_id in self._notified

    def note_end(self, *, was_notified: bool) -> None:
        """Record that a task with a webhook address has ended, and whether its webhook had arrived by then."""
        self._misses = 0 if was_notified else self._misses + 1
        if self._misses == MISSES_TO_DISTRUST:
            logger.warning("webhooks are not arriving; falling back to polling")

    def _forget(self, now: float) -> None:
        for remembered in (self._events, self._notified):
            while remembered and (
                len(remembered) >= REMEMBERED_EVENTS or next(iter(remembered.values())) < now - REMEMBERED_S
            ):
                remembered.popitem(last=False)


__all__ = ["ROUTE_PATH", "WebhookInbox", "WebhookRefusedError"]
