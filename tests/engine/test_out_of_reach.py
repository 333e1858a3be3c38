"""Saved copies for callers who cannot read this machine's files, as over MCP's HTTP: they count as no way to show."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.sandbox import SandboxOptions
from tests.support.harness import SandboxTransport, opened_tool
from tests.support.virtual_time import run_virtual

COPY = "saved copy"


def after_the_links_end(home: Path, *, count: int = 1, host: str = "mcp-http", **settings: Any) -> list[dict[str, Any]]:
    """Make pictures; return what came of looking back, of it an hour later, of fetching one, and of editing it."""
    runapi = SandboxTransport(SandboxOptions(duration_s=6.0, drawn_images=False, seed=1, image_life_s=3600))

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi, host=host, **settings) as tool:
            made = await tool.call("text_to_image", {"prompt": "an album", "count": count}, session="s")
            ref = made["task"]["ref"]
            early = await tool.call("get_image_task", {}, session="s")
            await asyncio.sleep(7200)
            late = await tool.call("get_image_task", {}, session="s")
            fetched = await tool.call("get_image_task", {"task_id": ref}, session="s")
            edit = {"prompt": "the album, older", "source_image_urls": [ref]}
            return [early, late, fetched, await tool.call("remix_image", edit, session="s")]

    return run_virtual(main())


@pytest.mark.parametrize("count", [1, 2])
def test_an_ended_link_is_not_handed_out_for_a_copy_that_nobody_reads(home: Path, tmp_path: Path, count: int) -> None:
    """The caller hears that the link is dead, where the copy is, and what can still be done with it."""
    early, late, fetched, edited = after_the_links_end(home, count=count, save_dir=str(tmp_path / "album"))

    assert COPY not in early["next"]
    assert "link has ended" not in early["next"]
    assert [(image["url"], image["path"]) for image in late["recent"]] == [(None, None)] * count
    assert "link has ended" in late["next"]
    assert f"{COPY} on its machine" in late["next"]
    assert "images[0].url" not in fetched["next"]
    assert f"A {COPY} is on the server's machine" in fetched["next"]
    assert f'remix_image takes the copy, with source_image_urls ["{fetched["task"]["ref"]}"]' in fetched["next"]
    assert "Making it again pays for a new image: do so only if they agree." in fetched["next"]
    assert edited["task"]["state"] == "completed"


def test_without_a_copy_nothing_is_said_of_one(home: Path) -> None:
    """Nobody can show or edit that picture any more."""
    _early, late, fetched, edited = after_the_links_end(home)

    assert COPY not in late["next"]
    assert f"there is no {COPY}" in fetched["next"]
    assert edited["error"]["code"] == "source_refused"


def test_who_reads_this_machines_files_is_given_the_copy(home: Path, tmp_path: Path) -> None:
    """Over stdio a path is as good as a link."""
    _early, late, fetched, _edited = after_the_links_end(home, host="mcp", save_dir=str(tmp_path / "album"))

    assert late["recent"][0]["path"] == fetched["images"][0]["path"]
    assert COPY not in late["next"]
    assert "images[0].path" in fetched["next"]
