"""RunAPI's client for commands that make no image, with the key or without it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from flux2_tool.credentials import DEFAULT_BASE_URL, Credentials, resolve_credentials
from flux2_tool.exceptions import Flux2Error
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.http_client import open_http
from flux2_tool.schema.manifest import load_manifest
from flux2_tool.settings import Settings


def public_base_url(settings: Settings, environ: Mapping[str, str]) -> str:
    """Return RunAPI's base URL for calls that need no key: that of the key, if there is a usable one."""
    try:
        return resolve_credentials(environ=environ, settings_base_url=settings.base_url).base_url
    except Flux2Error:
        return settings.base_url or DEFAULT_BASE_URL


@asynccontextmanager
async def opened_client(base_url: str, credentials: Credentials | None = None) -> AsyncIterator[RunapiClient]:
    """Open a client; without credentials it sends no key."""
    async with open_http(base_url) as http:
        yield RunapiClient(
            http,
            base_url=base_url,
            api_key=None if credentials is None else credentials.api_key,
            user_agent=f"flux2-tool/{load_manifest().version}",
        )
