"""The dependencies that image tasks share: clock, randomness, limits, route cache and poll schedules."""

from __future__ import annotations

import random as random_module
from dataclasses import dataclass, field
from typing import Literal

from flux2_tool._clock import Clock
from flux2_tool.journal import AccountPaces
from flux2_tool.runapi.cache import RouteCache
from flux2_tool.runapi.rate_limit import ConcurrencyLimiter
from flux2_tool.tasks.poll_schedule import PollSchedule, WebhookTrust
from flux2_tool.tasks.poll_scheduler import PollScheduler, TaskKind
from flux2_tool.tasks.taken_ids import TakenIds
from flux2_tool.tasks.webhook_inbox import WebhookInbox


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDependencies:
    """The dependencies of a process's image tasks.

    Attributes:
        route_cache: Which create route and status path worked for a base URL.
        create_slots: Limits the create POSTs in flight.
        taken_ids: Which request has which task.
        paces: What is shared with other processes of the accounts' pace; None where nothing is.
        webhook_inbox: Receives RunAPI's webhooks; None where there are none.
        route: The configured create route; "auto" tries the one that worked before first.
        resend_window_s: How long after its first POST a request with a lost response may be resent, in seconds.
    """

    clock: Clock
    random: random_module.Random
    route_cache: RouteCache
    poll_scheduler: PollScheduler
    create_slots: ConcurrencyLimiter
    paces: AccountPaces | None = None
    webhook_inbox: WebhookInbox | None = None
    route: Literal["auto", "guide", "service"]
    resend_window_s: float
    taken_ids: TakenIds = field(default_factory=TakenIds)

    def webhook_trust(self, body: bytes) -> WebhookTrust:
        """Return whether a webhook is expected for a create request with this body."""
        inbox = self.webhook_inbox
        return inbox.trust if inbox is not None and inbox.covers(body) else "none"

    def poll_schedule(self, kind: TaskKind | None, body: bytes) -> PollSchedule:
        """Return the present poll schedule of a task of a kind that was created with this body."""
        return self.following(self.poll_scheduler.schedule(kind), body)

    def following(self, planned: PollSchedule, body: bytes) -> PollSchedule:
        """Return how to poll a task that was created with this body and is planned so where no webhook is expected."""
        trust = self.webhook_trust(body)
        return planned if trust == "none" else PollSchedule(planned.expectation, webhook=trust)
