"""Webhooks: send the end of a task to its create's `callback_url`, signed, and again until it is acknowledged.

Facts: body, headers, signature and the 10 s are RunAPI's own for its older models; the pauses between deliveries are
made up to be believable. Nothing but loopback is ever contacted, and never through a proxy.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import httpx

from flux2_tool.sandbox.ledger import CallbackDelivery
from flux2_tool.sandbox.options import Forgery
from flux2_tool.sandbox.responses import callback_content, json_bytes
from flux2_tool.sandbox.service import Sandbox
from flux2_tool.sandbox.tasks import Task

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Between one delivery and the next, before `speed`; after the last one the event is abandoned."""

_STALE_S = 600
_FOREIGN_SECRET = base64.b64encode(b"a secret of somebody else's").decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """What is delivered, the same each time."""

    id: str
    task_id: str
    url: str
    body: bytes


def signature(secret: str, event_id: str, timestamp: int, body: bytes) -> str:
    """The value of X-Callback-Signature."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(base64.b64decode(secret), signed, hashlib.sha256).digest()).decode()


def follow(sandbox: Sandbox, task: Task, url: str, image_url: Callable[[], str]) -> None:
    """Have a new task's end delivered; a URL that is not on loopback is recorded as undeliverable at once."""
    event_id = sandbox.new_id("evt_")
    refusal = _refusal(url)
    if refusal is not None:
        _record(sandbox, _Event(id=event_id, task_id=task.id, url=url, body=b""), attempt=0, error=refusal)
        return
    loop, settled = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        # The ledger may be read, and so tasks settled, after the server's loop has ended.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settled.set)

    async def notify() -> None:
        if not sandbox.options.callback_early:
            await _finish(sandbox, task, settled)
        if sandbox.options.callback_delay_s:
            await sandbox.sleep(sandbox.options.callback_delay_s)
        image = None if task.missing_images else image_url()
        body = json_bytes(callback_content(sandbox.options, task, image_url=image))
        await _deliver(sandbox, _Event(id=event_id, task_id=task.id, url=url, body=body))

    sandbox.follow(task, notify(), wake)


async def _finish(sandbox: Sandbox, task: Task, settled: asyncio.Event) -> None:
    """Sleep exactly until the task ends; a failure, or a clock moved by hand, may end it sooner."""
    while (left_s := task.finish_at - sandbox.clock()) > 0:
        waits = {asyncio.ensure_future(sandbox.sleep(left_s)), asyncio.ensure_future(settled.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        settled.clear()


async def _deliver(sandbox: Sandbox, event: _Event) -> None:
    """Deliver until the event is acknowledged, abandoned or lost; then repeat it as often as the options ask for."""
    forgery = sandbox.options.callback_forgery
    if sandbox.options.callbacks and forgery != "none":
        await _send(sandbox, _forged(sandbox, event, forgery), attempt=0, forgery=forgery)
    acknowledged_at: int | None = None
    for attempt in itertools.count(1):
        if not sandbox.options.callbacks:
            _record(sandbox, event, attempt=0, error="callbacks are switched off")
            return
        acknowledged = await _send(sandbox, event, attempt=attempt)
        if acknowledged_at is None and acknowledged:
            acknowledged_at = attempt
        if acknowledged_at is not None:
            if attempt >= acknowledged_at + sandbox.options.callback_duplicates:
                return
        elif attempt > len(PAUSES_S):
            return
        else:
            await sandbox.sleep(PAUSES_S[attempt - 1] / sandbox.options.speed)


def _forged(sandbox: Sandbox, event: _Event, forgery: Forgery) -> _Event:
    """The forged event that goes first: that the task, or one that does not exist, has failed."""
    if forgery == "wrong_task":
        event = replace(event, id=sandbox.new_id("evt_"))
    claimed = sandbox.new_id("tsk_") if forgery == "wrong_task" else event.task_id
    return replace(event, body=json_bytes({"id": claimed, "status": "failed", "error": "This callback is forged"}))


async def _send(sandbox: Sandbox, event: _Event, *, attempt: int, forgery: Forgery = "none") -> bool:
    """Make one delivery and record it; return whether it was acknowledged."""
    record = _record(sandbox, event, attempt=attempt, forgery=forgery)
    timestamp = int(record.at) - (_STALE_S if forgery == "stale_timestamp" else 0)
    headers = {"Content-Type": "application/json", "X-Callback-Id": event.id, "X-Callback-Timestamp": str(timestamp)}
    if forgery != "unsigned":
        secret = _FOREIGN_SECRET if forgery == "bad_signature" else sandbox.callback_secret
        headers["X-Callback-Signature"] = signature(secret, event.id, timestamp, event.body)
    try:
        async with asyncio.timeout(sandbox.options.callback_timeout_s), _client(sandbox) as client:
            response = await client.post(event.url, content=event.body, headers=headers)
    except (httpx.HTTPError, TimeoutError) as exc:
        record.error = f"{type(exc).__name__}: {exc}".removesuffix(": ")
        return False
    record.status = response.status_code
    return response.is_success


def _client(sandbox: Sandbox) -> httpx.AsyncClient:
    # Loading the trusted certificates would take longer than a whole delivery, and loopback needs none.
    return httpx.AsyncClient(
        transport=sandbox.callback_transport,
        verify=False,  # noqa: S501
        trust_env=False,
        timeout=None,  # noqa: S113 (the caller's covers the whole delivery)
    )


def _record(
    sandbox: Sandbox, event: _Event, *, attempt: int, forgery: Forgery = "none", error: str | None = None
) -> CallbackDelivery:
    record = CallbackDelivery(
        at=sandbox.clock(),
        task_id=event.task_id,
        event_id=event.id,
        url=event.url,
        attempt=attempt,
        forgery=forgery,
        error=error,
    )
    sandbox.ledger.callbacks.append(record)
    return record


def _refusal(url: str) -> str | None:
    """Why a URL is never contacted, as the client that would send there reads it; None when it is loopback's."""
    try:
        address = httpx.URL(url)
        loopback = address.host == "localhost" or ipaddress.ip_address(address.host).is_loopback
    except (httpx.InvalidURL, ValueError):
        loopback = False
    if not loopback:
        return "not a loopback address; the sandbox contacts nothing else"
    return "no such port" if (address.port or 0) > 65535 else None
