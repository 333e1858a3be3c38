"""What a channel shows while a picture is made: by default, and with the line that `status` names."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flux2_tool.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.e2e.conftest import KEY, World
from tests.e2e.scripted_model import Say, ToolCall
from tests.e2e.telegram import Telegram
from tests.support.waiting import wait_until

OWNER = 7
OURS = "making the image"
SETTING = "channels.telegram.streaming.progress.toolProgress"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[tuple[str, Sandbox]]:
    """Long enough for a line to be edited once or twice."""
    options = SandboxOptions(api_keys=frozenset({KEY}), duration_s=12.0, drawn_images=False)
    with running_sandbox(options) as (base_url, running):
        yield base_url, running


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], telegram: Telegram, sandbox: tuple[str, Sandbox]) -> World:
    """Telegram with OpenClaw's own defaults of streaming."""
    made = make_world(RUNAPI_API_KEY=KEY, RUNAPI_BASE_URL=sandbox[0])
    channel = telegram.channel(owner=OWNER)
    del channel["streaming"]
    made.openclaw.configure(channels={"telegram": channel}, commands={"ownerAllowFrom": [f"telegram:{OWNER}"]})
    made.openclaw.install_plugin()
    return made


def shown_for(world: World, telegram: Telegram, prompt: str) -> list[str]:
    """Have somebody ask for a picture, and return everything that the chat showed until it came."""
    telegram.sent.clear()
    name = prompt.replace(" ", "-")
    call = ToolCall(tool="text_to_image", arguments={"prompt": prompt})
    marker = world.model.script(name, [call, Say(text="Here it is.")])
    with world.openclaw.gateway():
        telegram.post(f"A picture, please. {marker}", sender=OWNER)
        wait_until(lambda: [one for one in telegram.sent if one.files])
    return telegram.texts()


def test_a_picture_comes_with_telegrams_own_defaults(world: World, telegram: Telegram) -> None:
    """It shows that the agent works; `status` says that more can be shown, and how."""
    shown = shown_for(world, telegram, "a quiet owl")
    status = world.openclaw.flux2_tool("openclaw", "status").stdout

    assert shown[-1] == "Here it is."
    assert not [text for text in shown if OURS in text]
    assert f"openclaw config set {SETTING} true" in status


def test_the_line_that_status_names_shows_how_far_the_picture_is(world: World, telegram: Telegram) -> None:
    """A person who waits for a minute should see that something happens."""
    world.openclaw.run("config", "set", SETTING, "true")

    shown = shown_for(world, telegram, "a busy bee")
    status = world.openclaw.flux2_tool("openclaw", "status").stdout

    assert [text for text in shown if OURS in text], shown
    assert SETTING not in status
