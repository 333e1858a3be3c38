"""Parts of a request: the key, the address it was sent to, its JSON body."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

KEY_HEADERS = ("authorization", "x-api-key")


def api_key(request: Request) -> str | None:
    """The key a request carries, as `Authorization: Bearer KEY` or as `X-API-Key: KEY`."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return request.headers.get("x-api-key", "").strip() or None


def base_url(request: Request) -> str:
    """Scheme and host as the client addressed us."""
    return f"{request.url.scheme}://{request.headers.get('host', 'localhost')}"


async def json_object(request: Request) -> dict[str, Any] | None:
    """The body as a JSON object, or None when it is not one."""
    try:
        content = json.loads(await request.body())
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
