"""One gateway in a Telegram group for tests of who may spend there: import `telegram` and `world`, and name the module.

The key is in its environment. A guest may spend one picture a day, of seven cents at most, and the owner is asked
before one of more than six is paid. Who may spend at all, a module chooses with `let_spend`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Final, Literal

import pytest

from tests.e2e.openclaw_host import OpenClaw
from tests.e2e.telegram import Telegram, running_telegram
from tests.e2e.world import World, running_world

__all__ = ["OWNER", "SHARING_MODULES", "group_gateway", "let_spend", "telegram", "world"]

SHARING_MODULES: Final = ("test_asking", "test_people", "test_subagents")
"""They run on the same worker."""
OWNER: Final = 8001
_GUARDS: Final = {"sender_daily_cap_usd": 0.07, "daily_cap_usd": 100, "ask_above_usd": 0.06}


@pytest.fixture(scope="session")
def group_gateway(
    make_openclaw: Callable[..., OpenClaw], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, Telegram]]:
    """The gateway's world, and its Telegram with two groups."""
    with running_telegram() as chats:
        sections = {
            "channels": {"telegram": chats.channel(owner=OWNER)},
            "commands": {"ownerAllowFrom": [f"telegram:{OWNER}"]},
            "plugins": {"entries": {"flux2": {"config": _GUARDS}}},
            "tools": {"toolSearch": False},
        }
        with running_world(make_openclaw, tmp_path_factory.mktemp("group"), sections) as (world, _gateway):
            yield world, chats


@pytest.fixture(scope="module")
def world(group_gateway: tuple[World, Telegram]) -> World:
    return group_gateway[0]


@pytest.fixture(scope="module")
def telegram(group_gateway: tuple[World, Telegram]) -> Telegram:
    """Nothing that was sent before is in it."""
    group_gateway[1].sent.clear()
    return group_gateway[1]


def let_spend(world: World, spenders: Literal["owner", "everyone"]) -> None:
    """Have the setting `spenders` be that: a command of OpenClaw's takes five seconds of a processor."""
    config = json.loads((world.openclaw.state / "openclaw.json").read_text())
    if config["plugins"]["entries"]["flux2"]["config"].get("spenders", "everyone") != spenders:
        world.openclaw.run("config", "set", "plugins.entries.flux2.config.spenders", spenders)
