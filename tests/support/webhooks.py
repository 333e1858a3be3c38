"""Webhooks as RunAPI signs them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any, Final

SECRET: Final = base64.b64encode(b"the account's secret").decode()


def signed_webhook(task_id: str, *, now: float) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a webhook that says that a task is completed."""
    return signed({"id": task_id, "status": "completed"}, event_id=f"evt_{task_id}", now=now)


def signed(content: Any, *, event_id: str, now: float) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a webhook with any content; bytes go as they are."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    stamp = str(int(now))
    digest = hmac.new(base64.b64decode(SECRET), f"{event_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "x-callback-id": event_id,
        "x-callback-timestamp": stamp,
        "x-callback-signature": base64.b64encode(digest).decode(),
    }
    return headers, body
