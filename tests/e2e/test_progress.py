"""What a channel shows while a picture is made: by default, and with the line that `status` names."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flux2_tool.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.e2e.conftest import KEY, World
from tests.e2e.openclaw_host import Gateway
from tests.e2e.scripted_model import Say, ToolCall
from tests.e2e.telegram import Telegram
from tests.support.waiting import wait_until

OWNER = 7
OURS = "making the image"
RELOADED = "[reload] config change detected"
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
    made.openclaw.add_plugin()
    return made


@pytest.fixture(scope="module")
def gateway(world: World) -> Iterator[Gateway]:
    with world.openclaw.gateway() as running:
        yield running


def shown_for(world: World, telegram: Telegram, prompt: str) -> list[str]:
    """Have somebody ask for a picture, and return everything that the chat showed until it came."""
    telegram.sent.clear()
    name = prompt.replace(" ", "-")
    call = ToolCall(tool="text_to_image", arguments={"prompt": prompt})
    marker = world.model.script(name, [call, Say(text="Here it is.")])
    telegram.post(f"A picture, please. {marker}", sender=OWNER)
    wait_until(lambda: [one for one in telegram.sent if one.files])
    return telegram.texts()


def test_the_line_that_status_names_shows_how_far_the_picture_is(
    world: World, gateway: Gateway, telegram: Telegram
) -> None:
    """By default a person sees that the agent works; after the command that `status` names, how far the picture is."""
    by_default = shown_for(world, telegram, "a quiet owl")
    status = world.openclaw.flux2_tool("openclaw", "status").stdout
    command = f"openclaw config set {SETTING} true"
    assert command in status
    world.openclaw.run(*command.split()[1:])
    wait_until(lambda: RELOADED in gateway.log.read_text())

    with_the_line = shown_for(world, telegram, "a busy bee")

    assert by_default[-1] == "Here it is."
    assert not [text for text in by_default if OURS in text]
    assert [text for text in with_the_line if OURS in text], with_the_line
