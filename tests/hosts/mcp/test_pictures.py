"""Small copies of pictures beside a result's text: for whom, how large, and never at the cost of the result."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.hosts.mcp_pictures import DEFAULT_KIB, SmallCopies, most_bytes
from flux2_tool.hosts.mcp_result import as_tool_result
from tests.hosts.mcp.test_result import result
from tests.support.pictures import opened, picture

KIB = 1024


@pytest.mark.parametrize(
    ("setting_kib", "client", "wanted_bytes"),
    [
        (None, "claude-ai", DEFAULT_KIB * KIB),
        (None, "Visual Studio Code", DEFAULT_KIB * KIB),
        (None, "cursor-vscode", DEFAULT_KIB * KIB),
        (None, "inspector-cli", DEFAULT_KIB * KIB),
        (None, "claude-code", 0),
        (None, "", 0),
        (200, "claude-code", 200 * KIB),
        (0, "claude-ai", 0),
        (200, "openclaw-bundle-mcp", 0),
    ],
)
def test_hosts_that_show_them_get_them(setting_kib: int | None, client: str, wanted_bytes: int) -> None:
    """A model pays for a picture, and one that takes none may fail on it; the setting decides for all but OpenClaw."""
    assert most_bytes(setting_kib, client) == wanted_bytes


def contents(*images: dict[str, Any], bound_bytes: int = 64 * KIB, within_s: float = 60.0) -> list[dict[str, Any]]:
    """Return the image contents of a result."""

    async def main() -> list[dict[str, Any]]:
        copies = SmallCopies()
        try:
            return await copies.contents(
                images, base_url="http://127.0.0.1:9/v1", within_s=within_s, bound_bytes=bound_bytes
            )
        finally:
            await copies.aclose()

    return asyncio.run(main())


def test_a_copy_is_small_and_for_the_user(tmp_path: Path) -> None:
    """It comes from the saved file, where there is one."""
    (tmp_path / "p.png").write_bytes(picture("PNG", (1600, 800)))

    [content] = contents({"url": "https://cdn.example/p.png", "path": str(tmp_path / "p.png")})

    assert opened(base64.b64decode(content["data"])).size == (384, 192)
    assert content["mimeType"] in ("image/webp", "image/jpeg")
    assert content["annotations"] == {"audience": ["user"]}


def test_what_is_too_large_or_cannot_be_had_is_left_out(tmp_path: Path) -> None:
    """The result is answered all the same, with the link."""
    (tmp_path / "p.png").write_bytes(picture("PNG", (1600, 800)))
    (tmp_path / "text.png").write_text("no picture")
    there = {"url": "https://cdn.example/p.png", "path": str(tmp_path / "p.png")}

    assert contents(there, bound_bytes=100) == []
    assert contents(there, within_s=0.0) == []
    assert contents({**there, "path": str(tmp_path / "text.png")}) == []
    assert len(contents({"url": "http://127.0.0.1:9/gone.png", "path": str(tmp_path / "gone.png")}, there)) == 1


def test_the_text_says_that_there_is_a_copy() -> None:
    """Else a model takes it for the picture that the user gets."""
    content = {"type": "image", "data": "AA==", "mimeType": "image/webp"}

    answer = as_tool_result(result(), pictures=[content])

    assert answer["content"][1:] == [content]
    assert answer["content"][0]["text"].endswith("it is not the picture itself.")
