"""The sandbox's ledger: everything it received and everything it did, for tests to check a client against.

In memory and append-only. The API key is never kept, only its fingerprint.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any

from flux2_tool.sandbox.options import Forgery
from flux2_tool.sandbox.tasks import Task


def fingerprint(key: str) -> str:
    """Twelve hex digits that stand for a key."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


@dataclass(slots=True, kw_only=True)
class CreateRecord:
    """One POST to a create path, whatever its outcome.

    `outcome` is one of received, route_off, unauthorized, dropped_before, fault, redirected, invalid, conflict,
    in_progress, no_credits, replayed, created. `fault` names the fault that was applied; `status` is None when no
    response was sent.
    """

    at: float
    route: str
    action: str
    path: str
    headers: list[tuple[str, str]]
    key_fingerprint: str | None
    idempotency_key: str | None
    body: bytes
    outcome: str = "received"
    status: int | None = None
    task_id: str | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One request to storage for an image or a file."""

    at: float
    path: str
    task_id: str | None
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """The API key was seen where it must never go."""

    at: float
    path: str
    where: str


@dataclass(slots=True, kw_only=True)
class CallbackDelivery:
    """One message to a `callback_url`, recorded before it is sent; or, with attempt 0 and an error, why none was.

    `status` is the receiver's HTTP status and `error` why there is none; both are None while the message is on its way.
    A forged message has attempt 0 and names its forgery; `task_id` is the task it aims at.
    """

    at: float
    task_id: str
    event_id: str
    url: str
    attempt: int
    forgery: Forgery = "none"
    status: int | None = None
    error: str | None = None


@dataclass(slots=True)
class Ledger:
    """All records of one sandbox, oldest first."""

    seed: int
    creates: list[CreateRecord] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    downloads: list[Download] = field(default_factory=list)
    uploads: list[Download] = field(default_factory=list)
    authorization_leaks: list[Leak] = field(default_factory=list)
    callbacks: list[CallbackDelivery] = field(default_factory=list)
    polls: int = 0
    polls_not_found: int = 0

    @property
    def billed_tasks(self) -> list[Task]:
        """The tasks that cost money so far."""
        return [task for task in list(self.tasks.values()) if task.billed_cents]

    @property
    def billed_cents(self) -> int:
        """What all tasks cost so far."""
        return sum(task.billed_cents for task in self.billed_tasks)

    def as_json(self, now: float, *, bodies: bool = True) -> dict[str, Any]:
        """Everything, as JSON can carry it. Bodies that are not UTF-8 are base64 under `body_base64`."""
        return {
            "now": now,
            "seed": self.seed,
            "summary": {
                "creates": len(self.creates),
                "tasks": len(self.tasks),
                "billed_tasks": len(self.billed_tasks),
                "billed_cents": self.billed_cents,
                "polls": self.polls,
                "polls_not_found": self.polls_not_found,
                "downloads": len(self.downloads),
                "uploads": len(self.uploads),
                "authorization_leaks": len(self.authorization_leaks),
                "callbacks": len(self.callbacks),
            },
            "creates": [_create_json(record, bodies=bodies) for record in list(self.creates)],
            "tasks": [_task_json(task, now) for task in list(self.tasks.values())],
            "downloads": [_plain(item) for item in list(self.downloads)],
            "uploads": [_plain(item) for item in list(self.uploads)],
            "authorization_leaks": [_plain(item) for item in list(self.authorization_leaks)],
            "callbacks": [_plain(item) for item in list(self.callbacks)],
        }


def _plain(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _create_json(record: CreateRecord, *, bodies: bool) -> dict[str, Any]:
    data = _plain(record)
    body = data.pop("body")
    if bodies:
        try:
            data["body"] = body.decode()
        except UnicodeDecodeError:
            data["body_base64"] = base64.b64encode(body).decode()
    return data


def _task_json(task: Task, now: float) -> dict[str, Any]:
    return {
        "id": task.id,
        "service": task.service,
        "route": task.route,
        "action": task.action,
        "model": task.model,
        "key_fingerprint": task.key_fingerprint,
        "idempotency_key": task.idempotency_key,
        "created_at": task.created_at,
        "finish_at": task.finish_at,
        "first_seen_finished_at": task.first_seen_finished_at,
        "state": task.state(now),
        "price_cents": task.price_cents,
        "billed_cents": task.billed_cents,
        "polls": task.polls,
    }
