"""OpenClaw's own `image_generate`, served by the plugin when it was installed for that.

OpenClaw answers such a call at once and wakes the agent when the picture is there. With many tools around, as here, it
stands behind OpenClaw's tool search.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.sandbox import Sandbox
from flux2_tool.sandbox.faults import Fault
from flux2_tool.sandbox.objects import stored_bytes
from tests.e2e.conftest import KEY, World
from tests.e2e.scripted_model import Say, SeenRequest, ToolCall
from tests.e2e.test_never_twice import tasks_of
from tests.e2e.test_sources import files_of_task, jpeg
from tests.e2e.test_turns import run
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def private_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], sandbox: tuple[str, Sandbox], private_folder: Path) -> Iterator[World]:
    made = make_world(
        RUNAPI_API_KEY=KEY,
        RUNAPI_BASE_URL=sandbox[0],
        TMPDIR=str(private_folder),
        NODE_COMPILE_CACHE=str(Path(tempfile.gettempdir()) / "node-compile-cache"),  # else it would be empty in there
        config={"tiers": ["pro", "flex", "klein"]},
    )
    done = made.openclaw.flux2_tool("openclaw", "install", "--yes", "--image-generate")
    assert done.returncode == 0, done.stderr
    with made.openclaw.gateway():
        yield made


def generate(world: World, session: str, **arguments: Any) -> SeenRequest:
    """Have the model call `image_generate`; return the request by which OpenClaw tells it how that ended."""
    name = world.model.unused("generate")
    call = ToolCall(tool="tool_call", arguments={"id": "image_generate", "args": arguments})
    marker = world.model.script(name, [call, Say(text="Your picture.")])

    world.openclaw.turn(f"A picture, please. {marker}", session=session)

    assert "Background task started" in world.model.tool_results(name)[0]
    [woken] = wait_until(lambda: [seen for seen in world.model.seen(name) if "image_generation" in seen.said])[:1]
    assert isinstance(woken, SeenRequest)
    return woken


def managed_images(world: World, session: str) -> list[dict[str, Any]]:
    """Return the pictures of a session that OpenClaw keeps and shows itself, oldest first."""

    def found() -> list[dict[str, Any]]:
        history = world.openclaw.call_gateway("chat.history", sessionKey=f"agent:main:{session}")
        said = [message["content"] for message in history["messages"] if message["role"] == "assistant"]
        parts = [part for content in said if isinstance(content, list) for part in content]
        return [part for part in parts if part["type"] == "image"]

    return list(wait_until(found))


def test_image_generate_delivers_in_a_second_turn(world: World, private_folder: Path) -> None:
    """Bytes all the way: no link that ends after a week, and nothing left of how they travelled."""
    generate(world, "whale", prompt="a blue whale", aspectRatio="16:9", resolution="1K")

    [image] = managed_images(world, "whale")
    [task] = tasks_of(world, "a blue whale")
    [kept] = (world.openclaw.state / "media" / "tool-image-generation").glob("*a-blue-whale*.png")
    assert (image["mimeType"], image["width"], image["height"]) == ("image/png", 1360, 768)
    assert kept.read_bytes() == stored_bytes(world.sandbox, task)
    assert task.billed_cents == 5
    assert list(private_folder.glob("flux2-*")) == []


def test_several_pictures_by_one_call_of_openclaws_own_tool(world: World, private_folder: Path) -> None:
    """Its parameter count reaches RunAPI as so many requests; what of them failed, OpenClaw's model reads."""
    world.sandbox.faults.queue(Fault(kind="failed", on="create", value="too wild"))

    woken = generate(world, "whales", prompt="three whales", count=3)

    assert len(managed_images(world, "whales")) == 2
    assert len(tasks_of(world, "three whales")) == 3
    assert "2 of 3 pictures came; not_made: " in woken.said
    assert "too wild" in woken.said
    assert list(private_folder.glob("flux2-*")) == []


def test_an_input_image_is_remixed(world: World, private_folder: Path) -> None:
    """What the person in the chat sent is what is changed."""
    photo = jpeg("navy")
    path = world.openclaw.home / "workspace" / "boat.jpg"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(photo)

    generate(world, "boat", prompt="the boat at night", image=str(path))

    assert len(managed_images(world, "boat")) == 1
    [task] = tasks_of(world, "the boat at night")
    assert (task.action, task.model) == ("remix_image", "flux-2-pro-remix-image")
    assert files_of_task(world, task) == [photo]
    assert list(private_folder.glob("flux2-*")) == []


def test_klein_is_one_of_its_models(world: World) -> None:
    """It has no choice of resolution, which OpenClaw knows, and its picture is shown like any other."""
    woken = generate(world, "gecko", prompt="a green gecko", model="runapi/flux-2-klein", resolution="2K")

    [task] = tasks_of(world, "a green gecko")
    assert len(managed_images(world, "gecko")) == 1, woken.said
    assert (task.model, task.billed_cents, sorted(task.arguments)) == ("flux-2-klein", 3, ["model", "prompt"])


def test_an_equal_call_joins_a_picture_that_took_too_long(world: World) -> None:
    """At the end of the time allowed nothing is lost: the second call brings the picture of the first."""
    made = world.sandbox.options
    world.sandbox.options = made.changed({"duration_s": 8.0})

    late = generate(world, "snail", prompt="a slow snail", timeoutMs=4_000)
    [task] = tasks_of(world, "a slow snail")
    generate(world, "snail", prompt="a slow snail", timeoutMs=60_000)

    world.sandbox.options = made
    assert f"task:{task.id} is not finished after 4 s" in late.said
    assert len(managed_images(world, "snail")) == 1
    assert tasks_of(world, "a slow snail") == [task]


def test_switching_image_generate_off_leaves_nothing(world: World) -> None:
    """It competes with our own tools for the same job. Last, because it changes the installation."""
    done = world.openclaw.flux2_tool("openclaw", "install", "--yes", "--no-image-generate")
    assert done.returncode == 0, done.stderr
    search = ToolCall(tool="tool_search", arguments={"query": "generate an image"})

    run(world, [search, Say(text="I found none.")], session="off")

    last = world.model.requests[-1]
    assert "image_generate" not in last.tool_results[0]
    assert "tool=image_generate" not in last.said
    assert "text_to_image" in last.tools
