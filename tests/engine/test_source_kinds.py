"""What a call says of its source pictures: every bad one at once, and what was changed of the good ones."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flux2_tool.context import CallContext
from flux2_tool.engine.source_checks import DOCUMENTED_BYTES, checked_picture
from flux2_tool.exceptions import SourceRefusedError
from flux2_tool.images.decoder import Decoder
from flux2_tool.schema.install_text import install_extra_text
from flux2_tool.schema.installation import this_installation
from tests.support.harness import SandboxTransport, opened_tool
from tests.support.pictures import NO_PICTURES, data_urls, file_of, picture, scene
from tests.support.virtual_time import run_virtual

FRAMES = [Image.new("RGB", (48, 32), colour) for colour in ("red", "green", "blue")]


def remix(home: Path, runapi: SandboxTransport, folder: Path, *sources: str, **settings: Any) -> dict[str, Any]:
    """Make one remix call of a workspace."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi, **settings) as tool:
            arguments = {"prompt": "make it blue", "source_image_urls": list(sources)}
            return await tool.call("remix_image", arguments, caller=CallContext(session="s", workspace_dir=folder))

    return run_virtual(main())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace with all kinds of files."""
    path = tmp_path / "work"
    path.mkdir()
    (path / "cat.png").write_bytes(picture())
    (path / "page.jpg").write_bytes(NO_PICTURES["an HTML page"][0])
    (path / "clip.png").write_bytes(NO_PICTURES["MP4"][0])
    (path / "photo.bmp").write_bytes(file_of("BMP"))
    (path / "anim.gif").write_bytes(file_of("GIF", FRAMES[0], save_all=True, append_images=FRAMES[1:]))
    (path / "anim.webp").write_bytes(file_of("WEBP", FRAMES[0], save_all=True, append_images=FRAMES[1:]))
    return path


def test_all_bad_sources_are_reported_at_once(home: Path, runapi: SandboxTransport, folder: Path) -> None:
    """One round of corrections instead of five, each of which costs a model a turn."""
    sources = ["page.jpg", "cat.png", "nothing.png", "/etc/hostname", "task:last", "data:image/png;base64", "clip.png"]

    error = remix(home, runapi, folder, *sources[:5], sources[6])["error"]

    assert error["code"] == "source_refused"
    assert error["message"].startswith("5 source pictures were refused: 1. source_image_urls[0]")
    for said in ("an HTML page", '"nothing.png"', "outside the folders", "no finished picture", "a video (MP4)"):
        assert said in error["message"]
    assert "[1]" not in error["message"]
    assert error["message"].count("Nothing was sent.") == 1
    for said in ("the picture's own address", "Check the path.", "one frame"):
        assert said in error["hint"]
    assert error["hint"].startswith("Ask the user")
    assert error["hint"].count("Ask the user") == 1
    assert runapi.sandbox.ledger.uploads == []
    assert runapi.sandbox.ledger.creates == []


@pytest.mark.parametrize(
    ("host", "first"),
    [
        pytest.param({"state_dir": Path("/state")}, "Ask the user to send the picture in this chat.", id="OpenClaw"),
        pytest.param({}, "Ask the user for a public link to the picture, or to put it", id="MCP"),
        pytest.param({"any_folder": True}, "Use a public link", id="a person at a terminal"),
    ],
)
def test_the_user_is_asked_for_a_picture_where_a_host_can_take_it(
    home: Path, runapi: SandboxTransport, host: dict[str, Any], first: str
) -> None:
    """A model that only reads what is forbidden tries the next path."""
    caller = CallContext(session="s", workspace_dir=home, **host)
    arguments = {"prompt": "summer", "source_image_urls": ["http://192.168.1.10/cam.jpg"]}

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            return await tool.call("remix_image", arguments, caller=caller)

    assert run_virtual(main())["error"]["hint"].startswith(first)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("photo.bmp", ["converted: source_image_urls[0] is a BMP picture; it was sent as a PNG of high quality"]),
        ("anim.webp", ["first_frame: source_image_urls[0] has several frames or pages; an edit is made of the first"]),
        ("anim.gif", ["undocumented_format: source_image_urls[0] is a GIF", "first_frame: source_image_urls[0]"]),
        ("cat.png", []),
    ],
)
@pytest.mark.parametrize("keep_metadata", [False, True])
def test_a_result_warns_of_what_was_changed(
    home: Path, runapi: SandboxTransport, folder: Path, source: str, said: list[str], keep_metadata: bool
) -> None:
    """Whoever sent a moving picture asks why the edit does not move."""
    result = remix(home, runapi, folder, source, keep_metadata=keep_metadata)

    assert result["task"]["state"] == "completed"
    assert len(result["warnings"]) == len(said)
    for warning, beginning in zip(result["warnings"], said, strict=True):
        assert warning.startswith(beginning)


def test_a_large_picture_is_sent_and_warned_of(home: Path, runapi: SandboxTransport, folder: Path) -> None:
    """RunAPI publishes no limit; where it has one, the warning says why a picture was refused."""
    side_px = 1900
    output = io.BytesIO()
    Image.frombytes("RGB", (side_px, side_px), os.urandom(side_px * side_px * 3)).save(output, "PNG", compress_level=1)
    (folder / "noise.png").write_bytes(output.getvalue())
    assert len(output.getvalue()) > DOCUMENTED_BYTES

    result = remix(home, runapi, folder, "noise.png")

    assert result["task"]["state"] == "completed"
    assert result["warnings"][0].startswith("large_source: source_image_urls[0] has 10.8 MB")


@pytest.mark.parametrize("name", data_urls(b""))
def test_every_spelling_of_a_data_url_is_accepted(
    home: Path, runapi: SandboxTransport, folder: Path, name: str
) -> None:
    """The arguments' schema must not refuse what can be read."""
    result = remix(home, runapi, folder, data_urls(file_of("PNG", scene()))[name])

    assert result["task"]["state"] == "completed"
    assert len(runapi.sandbox.ledger.uploads) == 1


def test_a_link_with_white_space_around_is_sent_without(home: Path, runapi: SandboxTransport, folder: Path) -> None:
    """It was copied with its line's end."""
    result = remix(home, runapi, folder, " https://cdn.example/cat.png\n")

    sent = runapi.sandbox.ledger.tasks[result["task"]["id"]].arguments["source_image_urls"]
    assert sent == ["https://cdn.example/cat.png"]


def test_an_equal_picture_is_the_same_source_in_any_spelling(
    home: Path, runapi: SandboxTransport, folder: Path
) -> None:
    """A repeated request is recognised by the picture's bytes."""

    async def main() -> list[str]:
        async with opened_tool(home, runapi) as tool:
            found = await tool.call(
                "remix_image",
                {"prompt": "blue", "source_image_urls": ["cat.png", '"cat.png"', "cat.png\n"]},
                caller=CallContext(session="s", workspace_dir=folder),
            )
            links: list[str] = runapi.sandbox.ledger.tasks[found["task"]["id"]].arguments["source_image_urls"]
            return links

    assert len(set(run_virtual(main()))) == 1


@pytest.mark.parametrize("by_person", [False, True])
def test_only_a_person_is_told_how_to_install_what_reads_a_heic_photo(tmp_path: Path, by_person: bool) -> None:
    """The command that fits this installation; in a chat nobody could run it."""
    (tmp_path / "pillow_heif.py").write_text("raise ImportError")
    (tmp_path / "photo.jpg").write_bytes(file_of("HEIF"))
    python = tmp_path / "python"
    # The folders of modules are the argument after the program.
    python.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "words = sys.argv[1:]\n"
        "at = words.index('-c') + 2\n"
        f"words[at] = json.dumps([{str(tmp_path)!r}, *json.loads(words[at])])\n"
        "os.execv(sys.executable, [sys.executable, *words])\n"
    )
    python.chmod(0o755)
    decoder = Decoder(interpreter=str(python))

    async def main() -> None:
        with (tmp_path / "photo.jpg").open("rb") as file:
            await checked_picture(file, "photo", decoder=decoder, keep_metadata=False, by_person=by_person)

    try:
        with pytest.raises(SourceRefusedError, match="is a HEIC photo, which this installation cannot read") as caught:
            asyncio.run(main())
    finally:
        decoder.close()

    assert "Most Compatible" in caught.value.hint
    assert (install_extra_text("heic", this_installation()) in caught.value.hint) == by_person
    assert ("the operator installs" in caught.value.hint) != by_person
