"""Webhooks in the real OpenClaw: RunAPI tells the gateway that a picture is ready, and the turn has it at once."""

from __future__ import annotations

import base64
import math
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from flux2_tool.sandbox import Sandbox, SandboxOptions, running_sandbox
from flux2_tool.tasks.poll_schedule import WEBHOOK_EXPECTED_DELAY_S
from flux2_tool.tasks.webhook_inbox import ROUTE_PATH
from tests.e2e.conftest import KEY, World
from tests.e2e.openclaw_host import Gateway
from tests.e2e.scripted_model import Say, ToolCall

pytestmark = pytest.mark.usefixtures("gateway")

SECRET = base64.b64encode(b"the account's webhook secret").decode()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[tuple[str, Sandbox]]:
    """A sandbox that delivers webhooks, each preceded by a forged one that says the task has failed."""
    options = SandboxOptions(
        api_keys=frozenset({KEY}),
        duration_s=1.0,
        drawn_images=False,
        callback_secret=SECRET,
        callback_forgery="bad_signature",
    )
    with running_sandbox(options) as (base_url, running):
        yield base_url, running


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], sandbox: tuple[str, Sandbox]) -> World:
    made = make_world(RUNAPI_API_KEY=KEY, RUNAPI_BASE_URL=sandbox[0])
    config = {"callback_public_url": f"http://127.0.0.1:{made.openclaw.port}", "callback_secret": SECRET}
    made.openclaw.configure(plugins={"entries": {"flux2": {"config": config}}})
    made.openclaw.add_plugin()
    return made


@pytest.fixture(scope="module")
def gateway(world: World) -> Iterator[Gateway]:
    with world.openclaw.gateway() as running:
        yield running


def test_a_webhook_ends_the_wait_at_once(world: World) -> None:
    """Neither the gateway's own login nor a forged message stands in the way, and nothing is asked for in vain."""
    prompts = [f"a red fox, told {number}" for number in range(3)]
    for prompt in prompts:
        call = ToolCall(tool="text_to_image", arguments={"prompt": prompt})
        name = prompt.replace(" ", "-").replace(",", "")
        turn = world.openclaw.turn(
            f"A picture, please. {world.model.script(name, [call, Say(text='Here it is.')])}", session=name
        )
        assert turn.media_urls, turn

    ledger = world.sandbox.ledger
    tasks = [task for task in ledger.tasks.values() if task.arguments["prompt"] in prompts]
    assert [task.polls for task in tasks] == [1, 1, 1]
    # None was asked for because no webhook had come by then.
    seen_s = [(task.first_seen_finished_at or math.inf) - task.created_at for task in tasks]
    assert max(seen_s) < WEBHOOK_EXPECTED_DELAY_S
    told = [(delivery.forgery, delivery.status) for delivery in ledger.callbacks]
    assert told.count(("bad_signature", 401)) == 3
    assert told.count(("none", 200)) == 3


def test_an_unsigned_webhook_is_refused(world: World) -> None:
    """The route is open to the internet."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{world.openclaw.port}{ROUTE_PATH}",
        data=b'{"id": "tsk_1", "status": "failed"}',
        method="POST",
    )

    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)  # noqa: S310 - loopback

    with caught.value as refused:
        assert refused.code == 401
