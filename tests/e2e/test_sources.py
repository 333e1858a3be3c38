"""Pictures that are files: what an agent in the real OpenClaw may change, and what it may not even read."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from flux2_tool.sandbox.storage import StoredFile
from flux2_tool.sandbox.tasks import Task
from tests.e2e.common_gateway import world
from tests.e2e.conftest import World
from tests.e2e.scripted_model import Say, ToolCall
from tests.e2e.test_turns import run, task_of

__all__ = ["files_sent", "jpeg", "world"]


def jpeg(colour: str) -> bytes:
    """Return a small photo."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(stream, format="JPEG")
    return stream.getvalue()


def remix_each(world: World, sources: Sequence[str], *, session: str) -> tuple[str, ...]:
    """Have the model change each source in a call of its own; return what the tool told it of each."""
    calls = [
        ToolCall(tool="remix_image", arguments={"prompt": "as a drawing", "source_image_urls": [source]})
        for source in sources
    ]
    return run(world, [*calls, Say(text="That was all.")], session=session)[1]


def files_sent(world: World, result: str) -> list[bytes]:
    """Return the uploaded files among the sources of the task in a tool result."""
    return files_of_task(world, world.sandbox.ledger.tasks[task_of(result).removeprefix("task:")])


def files_of_task(world: World, task: Task) -> list[bytes]:
    """Return the uploaded files among the sources of a task."""
    found = [world.sandbox.storage.find_url(url) for url in task.arguments["source_image_urls"]]
    return [file.content or b"" for file in found if isinstance(file, StoredFile)]


def test_a_photo_from_the_chat_can_be_remixed_twice(world: World) -> None:
    """By reference and by path, uploaded once; `task:last` is the newest picture of the conversation."""
    photo = jpeg("teal")
    inbound = world.openclaw.state / "media" / "inbound"
    inbound.mkdir(parents=True, exist_ok=True)
    (inbound / "photo---1.jpg").write_bytes(photo)

    before = len(world.sandbox.ledger.uploads)

    by_reference, by_path = remix_each(
        world, ["media://inbound/photo---1.jpg", str(inbound / "photo---1.jpg")], session="photo"
    )
    [again] = remix_each(world, ["task:last"], session="photo")

    assert files_sent(world, by_reference) == [photo]
    assert files_sent(world, by_path) == [photo]
    assert len(world.sandbox.ledger.uploads) == before + 1
    newest = world.sandbox.ledger.tasks[task_of(by_path).removeprefix("task:")]
    [create] = [one for one in world.sandbox.ledger.creates if one.task_id == task_of(again).removeprefix("task:")]
    assert newest.image_id in json.loads(create.body)["source_image_urls"][0]


def test_files_outside_the_agents_folders_are_refused(world: World, tmp_path: Path) -> None:
    """An agent that was talked into it must not carry private files out, nor fill the memory."""
    workspace = world.openclaw.home / "workspace"
    workspace.mkdir(exist_ok=True)
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpeg("red"))
    (workspace / "link.jpg").symlink_to(secret)
    (workspace / "notes.png").write_text("the password is on the back")
    Image.new("1", (20_000, 10_000)).save(workspace / "giant.png")
    ledger, storage = world.sandbox.ledger, world.sandbox.storage
    before = (len(storage.files), len(ledger.uploads), len(ledger.creates))

    outside, link, text, giant = remix_each(
        world, [str(secret), "link.jpg", "notes.png", "giant.png"], session="refused"
    )

    assert "it lies outside the folders that source pictures may come from" in outside
    assert "it lies outside the folders that source pictures may come from" in link
    assert "it is text, not a picture" in text
    assert "password" not in text
    assert "it has far too many pixels; at most 64 megapixels are allowed" in giant
    assert all("source_refused, charged: no" in said for said in (outside, link, text, giant))
    assert (len(storage.files), len(ledger.uploads), len(ledger.creates)) == before
