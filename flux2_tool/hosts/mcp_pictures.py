"""Small copies of finished pictures, as image content beside a result's text, so that hosts show them to people.

A model may get them as well, and pay for them: 384 pixels are about 200 tokens for Claude (width times height divided
by 750), and one tile for models of OpenAI. A chat model that takes no pictures may fail on one. So without the setting
only hosts get them that show them and are known to spare such models; each is bounded in bytes, made within seconds,
and left out without a word where that does not succeed: the text names the link.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from flux2_tool._files import open_file
from flux2_tool._net import is_loopback_url
from flux2_tool.exceptions import Flux2Error
from flux2_tool.hosts.mcp_result import SHOWS_OBJECT
from flux2_tool.images.decoder import Decoder, shared_decoder
from flux2_tool.images.download import DownloadError, download_image
from flux2_tool.images.errors import PictureError
from flux2_tool.images.open_files import opened
from flux2_tool.runapi.http_client import open_http

logger = logging.getLogger(__name__)

# By the names that clients give themselves: Claude Desktop, Cursor, VS Code, LibreChat, MCP Inspector.
SHOWING_CLIENTS: Final = ("claude-ai", "cursor", "visual studio code", "@librechat/", "inspector-", "mcp-inspector")
DEFAULT_KIB: Final = 64
_TYPES: Final = {"WEBP": "image/webp", "JPEG": "image/jpeg"}
_BYTES_PER_BASE64: Final = 3 / 4


def most_bytes(setting_kib: int | None, client: str) -> int:
    """Return how large a picture's content for a client may be, in bytes of base64; 0 for none.

    Args:
        setting_kib: The setting `mcp_image_kib`.
        client: The name that the client gives itself.
    """
    # Behind its tool search OpenClaw gives a model the letters of the base64. As observed with OpenClaw 2026.9.6.
    if client.startswith(SHOWS_OBJECT):
        return 0
    if setting_kib is None:
        setting_kib = DEFAULT_KIB if client.lower().startswith(SHOWING_CLIENTS) else 0
    return setting_kib * 1024


class SmallCopies:
    """Makes small copies; one for a server.

    Args:
        decoder: Decodes pictures.
    """

    def __init__(self, decoder: Decoder | None = None) -> None:
        self._decoder = decoder or shared_decoder()
        self._http: dict[str, httpx.AsyncClient] = {}

    async def contents(
        self, images: Sequence[Mapping[str, Any]], *, base_url: str, within_s: float, bound_bytes: int
    ) -> list[dict[str, Any]]:
        """Return the image contents of those pictures that can be had in time and within the bound.

        Args:
            images: Those of a result object.
            base_url: The address of the service, whose pictures may be on this machine as it may.
            within_s: For all of them together, in seconds.
            bound_bytes: For each of them, in bytes of base64.
        """
        try:
            async with asyncio.timeout(within_s):
                found = await asyncio.gather(*(self._content(image, base_url, bound_bytes) for image in images))
        except TimeoutError:
            logger.info("no small copy within %.1f s", within_s)
            return []
        return [content for content in found if content is not None]

    async def aclose(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(http.aclose() for http in self._http.values()))

    async def _content(self, image: Mapping[str, Any], base_url: str, bound_bytes: int) -> dict[str, Any] | None:
        try:
            with tempfile.TemporaryDirectory(prefix="flux2-tool-", ignore_cleanup_errors=True) as folder:
                path = await self._path_of(image, base_url, Path(folder))
                file = await opened(lambda: open_file(path))
                with file:
                    copy = await self._decoder.thumbnail(file)
            data = await asyncio.to_thread(os.pread, copy.file.fileno(), copy.facts.size_bytes, 0)
            copy.file.close()
        except (DownloadError, PictureError, Flux2Error, OSError) as exc:
            logger.info("no small copy: %s", exc)
            return None
        if copy.facts.size_bytes > bound_bytes * _BYTES_PER_BASE64:
            logger.info("no small copy: it has %d bytes", copy.facts.size_bytes)
            return None
        return {
            "type": "image",
            "data": base64.b64encode(data).decode("ascii"),
            "mimeType": _TYPES[copy.facts.kind],
            "annotations": {"audience": ["user"]},
        }

    async def _path_of(self, image: Mapping[str, Any], base_url: str, folder: Path) -> Path:
        if image["path"] is not None and await asyncio.to_thread(os.path.isfile, image["path"]):
            return Path(image["path"])
        if base_url not in self._http:
            self._http[base_url] = open_http(base_url)
        is_here = is_loopback_url(base_url)
        http, url = self._http[base_url], str(image["url"])
        return (await download_image(http, url, folder, "p", loopback_allowed=is_here, decoder=self._decoder)).path
