"""Verify a RunAPI webhook, that it was signed recently with the account's secret, and parse its task.

Pure: no I/O and no clock. For services that receive webhooks, such as the OpenClaw plugin's route or your own: anyone
can POST to a public address, so a webhook must be verified before it is used.

    webhook = verify_webhook(request.headers, await request.body(), secret=secret, now=time.time())

Source of headers and signature: `contract.py`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flux2_tool._net import webhook_key
from flux2_tool.runapi import contract
from flux2_tool.runapi.responses import TaskResponse, UnreadableResponseError, decode_json, read_task

TOLERANCE_S: Final = 300.0
MAX_EVENT_ID_CHARS: Final = 256
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


class WebhookRefusedError(ValueError):
    """The webhook is not from RunAPI, or too old. The message names the failed check and quotes none of its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook that RunAPI has signed.

    Attributes:
        event_id: The same for every delivery of one event; remember it for ten minutes to find duplicates.
        sent_at: When this delivery was signed, in seconds since 1970.
        task: The task as the webhook describes it. Poll the task for its authoritative cost and picture.
    """

    event_id: str
    sent_at: float
    task: TaskResponse


def verify_webhook(
    headers: Mapping[str, str], body: bytes, *, secret: str, now: float, tolerance_s: float = TOLERANCE_S
) -> Webhook:
    """Return a webhook's content after checking its signature and age.

    Args:
        headers: The request's headers; names in any case.
        body: The request's body, unchanged.
        secret: The account's webhook secret, in base64 as RunAPI shows it.
        now: The current time, in seconds since 1970.
        tolerance_s: How far the signature's time may be from `now`, in seconds, either way.

    Raises:
        WebhookRefusedError: A header is missing or invalid, the time is too far off, or the signature is wrong.
        ValueError: The secret is not base64.
        TypeError: The headers are not all text, the body is no bytes, the secret no text, or the time no number.
    """
    if not isinstance(secret, str):
        raise TypeError(f"secret must be the account's webhook secret as text, not {type(secret).__name__}")
    if not isinstance(now, int | float):
        raise TypeError(f"now must be the time in seconds since 1970, such as time.time(), not {type(now).__name__}")
    try:
        key = webhook_key(secret)
    except ValueError as exc:
        raise ValueError(f"secret {exc}") from exc
    if not isinstance(body, bytes | bytearray | memoryview):
        raise TypeError(f"body must be the request's bytes, unchanged, not {type(body).__name__}")
    pairs = list(headers.items()) if hasattr(headers, "items") else None
    if pairs is None or not all(isinstance(text, str) for pair in pairs for text in pair):
        raise TypeError("headers must be a mapping of names to values, all of them text")
    body = bytes(body)
    given = {name.lower(): value for name, value in pairs}
    event_id, timestamp, signature = (given.get(name.lower(), "").strip() for name in contract.WEBHOOK_HEADERS)
    if not 0 < len(event_id) <= MAX_EVENT_ID_CHARS or not event_id.isprintable():
        raise WebhookRefusedError(f"{contract.WEBHOOK_HEADERS[0]} is missing or not an id")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise WebhookRefusedError(f"{contract.WEBHOOK_HEADERS[1]} is missing or not a Unix time in seconds")
    signed = f"{event_id}.{timestamp}.".encode("utf-8", "surrogatepass") + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    if not hmac.compare_digest(expected, signature.encode("utf-8", "replace")):
        raise WebhookRefusedError(f"{contract.WEBHOOK_HEADERS[2]} is missing or not signed with this secret")
    if not abs(now - int(timestamp)) <= tolerance_s:  # also for what is no number
        raise WebhookRefusedError(f"it was signed more than {tolerance_s:g} s from now")
    try:
        decoded: Any = decode_json(body)
    except UnreadableResponseError as exc:
        raise WebhookRefusedError(f"its body is {exc}") from exc
    return Webhook(event_id=event_id, sent_at=float(timestamp), task=read_task(decoded))
