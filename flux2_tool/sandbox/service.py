"""The sandbox's state: accounts, tasks, idempotency keys. No HTTP here; that is in `app.py`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import heapq
import json
import random
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Any

import httpx

from flux2_tool.sandbox.catalog import Action, Service, nearest_ratio, price_cents, size_px
from flux2_tool.sandbox.faults import Fault, Faults
from flux2_tool.sandbox.ledger import Ledger
from flux2_tool.sandbox.options import SandboxOptions
from flux2_tool.sandbox.storage import Storage
from flux2_tool.sandbox.tasks import Failure, Route, Task, draw_duration_s, foreseen_failure

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]

# The share of a task's time that it waits in the queue, and the most of it.
_PENDING_SHARE, _PENDING_MOST_S = 0.15, 1.0


@dataclass(slots=True)
class Account:
    """What one key can spend. Reserved money is neither spent nor free."""

    balance_cents: int
    reserved_cents: int = 0
    spent_cents: int = 0
    spent_by_day: dict[str, int] = field(default_factory=dict)

    @property
    def free_cents(self) -> int:
        """What a new task may cost at most."""
        return self.balance_cents - self.reserved_cents


@dataclass(frozen=True, slots=True)
class _Remembered:
    input_digest: bytes
    task: Task
    at: float


class Sandbox:
    """The state of a running sandbox, at `app.state.sandbox`."""

    def __init__(
        self,
        options: SandboxOptions,
        *,
        clock: Clock,
        sleep: Sleep,
        rng: random.Random | None,
        callback_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        seed = options.seed if options.seed is not None else random.SystemRandom().getrandbits(63)
        source = rng or random.Random(seed)  # noqa: S311 (believable durations, no secrets)
        self.options = options
        self.clock = clock
        self.sleep = sleep
        self.callback_transport = callback_transport
        self._ledger = Ledger(seed)
        self._settling = Lock()
        self.faults = Faults(random.Random(source.getrandbits(64)))  # noqa: S311
        self.storage = Storage(secret=source.randbytes(32))
        self._durations = random.Random(source.getrandbits(64))  # noqa: S311
        self._ids = random.Random(source.getrandbits(64))  # noqa: S311
        self._accounts: dict[str, Account] = {}
        self._remembered: dict[tuple[str, str], _Remembered] = {}
        self._unsettled: list[tuple[float, int, Task]] = []
        self._followers: set[asyncio.Task[None]] = set()
        self._on_settled: dict[str, Callable[[], None]] = {}
        self._made = 0

    @property
    def ledger(self) -> Ledger:
        """The ledger, with everything settled that has finished by now. May be read from any thread."""
        self.settle(self.clock())
        return self._ledger

    @property
    def callback_secret(self) -> str:
        """Base64 of the key that signs callbacks now."""
        made = hashlib.sha256(b"callbacks" + self.storage.secret).digest()
        return self.options.callback_secret or base64.b64encode(made).decode()

    def follow(self, task: Task, following: Coroutine[Any, Any, None], on_settled: Callable[[], None]) -> None:
        """Run a coroutine in the background for a task; `on_settled` is called, on any thread, once it is settled."""
        self._on_settled[task.id] = on_settled
        follower = asyncio.get_running_loop().create_task(following)
        self._followers.add(follower)
        follower.add_done_callback(self._followers.discard)

    async def callbacks_done(self) -> None:
        """Wait until every callback is acknowledged, abandoned or lost. For the sandbox's own event loop."""
        while self._followers:
            await asyncio.wait(set(self._followers))

    def new_id(self, prefix: str, hex_digits: int = 24) -> str:
        """A fresh identifier that looks random."""
        return f"{prefix}{self._ids.getrandbits(hex_digits * 4):0{hex_digits}x}"

    def authorized_key(self, key: str | None) -> str | None:
        """The key itself when it is a good one: one of `api_keys`, or if none are named, any that starts with sk-."""
        good = self.options.api_keys
        return key if key is not None and (key in good if good else key.startswith("sk-")) else None

    def account(self, key_fingerprint: str) -> Account:
        """The account of a key, opened on first sight with the starting balance."""
        account = self._accounts.get(key_fingerprint)
        if account is None:
            account = self._accounts[key_fingerprint] = Account(self.options.balance_cents)
        return account

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change options while running. A new `balance_cents` is given to the accounts that exist, too.

        Raises:
            ValueError: A name or a value is not allowed.
        """
        self.options = self.options.changed(changes)
        if "balance_cents" in changes:
            for account in self._accounts.values():
                account.balance_cents = self.options.balance_cents

    def settle(self, now: float) -> None:
        """Settle every task that has finished by now: charge it, or release what was reserved for it."""
        with self._settling:
            while self._unsettled and self._unsettled[0][0] <= now:
                _, _, task = heapq.heappop(self._unsettled)
                if not task.settled:
                    self._settle_one(task)

    def _settle_one(self, task: Task) -> None:
        task.settled = True
        account = self.account(task.key_fingerprint)
        account.reserved_cents -= task.price_cents
        if task.failure is None or not self.options.refunds:
            task.billed_cents = task.price_cents
            account.balance_cents -= task.price_cents
            account.spent_cents += task.price_cents
            day = day_of(task.finish_at)
            account.spent_by_day[day] = account.spent_by_day.get(day, 0) + task.price_cents
        on_settled = self._on_settled.pop(task.id, None)
        if on_settled is not None:
            on_settled()

    def remembered(self, key_fingerprint: str, idempotency_key: str, digest: bytes, now: float) -> Task | None:
        """The task an idempotency key already made.

        Raises:
            ConflictError: The key was used with other input.
        """
        entry = self._remembered.get((key_fingerprint, idempotency_key))
        life_s = self.options.idempotency_life_s
        if entry is None or (life_s is not None and now - entry.at >= life_s):
            return None
        if entry.input_digest != digest:
            raise ConflictError(idempotency_key)
        return entry.task

    def make_task(
        self,
        *,
        service: Service,
        route: Route,
        action: Action,
        arguments: Mapping[str, Any],
        key_fingerprint: str,
        idempotency_key: str | None,
        digest: bytes,
        now: float,
        fault: Fault | None,
    ) -> Task | None:
        """Accept a valid request: reserve its price and start its clock. None when the account cannot pay."""
        cents = price_cents(action, arguments)
        account = self.account(key_fingerprint)
        if account.free_cents < cents:
            return None
        duration_s = draw_duration_s(action, arguments, self.options, self._durations)
        task = Task(
            id=self.new_id("tsk_") if route == "guide" else str(uuid.UUID(int=self._ids.getrandbits(128), version=4)),
            service=service,
            route=route,
            action=action,
            model=arguments["model"],
            arguments=arguments,
            size_px=size_px(self._ratio(arguments), arguments.get("output_resolution", "1k")),
            key_fingerprint=key_fingerprint,
            idempotency_key=idempotency_key,
            created_at=now,
            started_at=now + min(_PENDING_SHARE * duration_s, _PENDING_MOST_S),
            finish_at=now + duration_s,
            price_cents=cents,
            image_id=self.new_id("img_"),
            failure=foreseen_failure(arguments["prompt"]),
        )
        if fault is not None and fault.kind == "failed":
            task.failure = Failure(code="generation_failed", message=fault.value or "Image generation failed")
        elif fault is not None and fault.kind in ("no_images", "late_images"):
            task.missing_images = fault.polls if fault.kind == "late_images" else -1
        elif fault is not None and fault.kind == "in_progress":
            task.busy_until = now + fault.delay_s
        self._ledger.tasks[task.id] = task
        self.storage.pictures[task.image_id] = task
        with self._settling:
            account.reserved_cents += cents
            self._await_settlement(task)
        if idempotency_key is not None:
            self._remembered[(key_fingerprint, idempotency_key)] = _Remembered(digest, task, now)
        return task

    def another_task(self, task: Task) -> Task:
        """The latest other task of the same key whose id its client has, because it was polled; else the task."""
        others = (
            other
            for other in reversed(self._ledger.tasks.values())
            if other is not task and other.key_fingerprint == task.key_fingerprint and other.polls
        )
        return next(others, task)

    def fail_task(self, task: Task, now: float, message: str) -> None:
        """End a task that is still running as failed."""
        if task.fail(now, Failure(code="generation_failed", message=message or "Image generation failed")):
            with self._settling:
                self._await_settlement(task)
            self.settle(now)

    def _await_settlement(self, task: Task) -> None:
        self._made += 1
        heapq.heappush(self._unsettled, (task.finish_at, self._made, task))

    def _ratio(self, arguments: Mapping[str, Any]) -> str:
        ratio: str = arguments.get("aspect_ratio", "auto" if "source_image_urls" in arguments else "1:1")
        if ratio != "auto":
            return ratio
        size = self.storage.size_of_url(arguments["source_image_urls"][0])
        return nearest_ratio(*size) if size else "1:1"


class ConflictError(Exception):
    """An idempotency key came again with other input."""


def input_digest(action: Action, body: Any) -> bytes:
    """The digest of a request's input: equal for equivalent JSON, on either route."""
    canonical = json.dumps([action, body], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).digest()


def day_of(at: float) -> str:
    """The UTC day of a clock reading."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()
