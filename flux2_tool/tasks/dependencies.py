"""What image tasks share: time, randomness, limits, and what is known of RunAPI and of durations."""

from __future__ import annotations

import random as random_module
from dataclasses import dataclass
from typing import Final, Literal

from flux2_tool._clock import Clock
from flux2_tool.runapi.cache import RouteCache
from flux2_tool.runapi.rate_limit import ConcurrencyLimiter
from flux2_tool.tasks.poll_schedule import PollSchedule, PollScheduler
from flux2_tool.tasks.webhook_inbox import WebhookInbox

RESEND_WINDOW_S: Final = 10 * 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDependencies:
    """The collaborators of a process's image tasks.

    Attributes:
        route_cache: Which create route and status path worked for a base URL.
        create_slots: Each create POST takes one while it is in flight.
        webhook_inbox: Receives RunAPI's webhooks; None where there are none.
        route: The create route that is set; "auto" tries what worked before.
        resend_window_s: For how long after its first POST a request may be sent again whose response was lost, in
            seconds.
    """

    clock: Clock
    random: random_module.Random
    route_cache: RouteCache
    poll_scheduler: PollScheduler
    create_slots: ConcurrencyLimiter
    webhook_inbox: WebhookInbox | None = None
    route: Literal["auto", "guide", "service"]
    resend_window_s: float = RESEND_WINDOW_S

    def webhook_expected(self, body: bytes) -> bool:
        """Return whether RunAPI will send our webhook for a create request with this body, as far as is known."""
        inbox = self.webhook_inbox
        return inbox is not None and inbox.is_trusted and inbox.covers(body)

    def poll_schedule(self, base_url: str, model: str | None, resolution: str | None, body: bytes) -> PollSchedule:
        """Return when to poll a task that was created with this body."""
        return self.poll_scheduler.schedule(base_url, model, resolution, webhook_expected=self.webhook_expected(body))
