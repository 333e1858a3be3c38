"""The last pictures of a conversation, in Node with a fake worker: what the model reads, who is told the balance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.hosts.mcp_result import as_tool_result
from tests.openclaw.conftest import PluginHost, text_of
from tests.openclaw.fake_worker import RECENT

MakePlugin = Callable[..., Path]


@pytest.fixture
def plugin(host: PluginHost, make_plugin: MakePlugin) -> PluginHost:
    host.register(make_plugin())
    return host


def looked_back(plugin: PluginHost, context: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = plugin.call("recent", tool="get_image_task", context=context)
    return found


def test_the_last_pictures_are_told_and_not_attached(plugin: PluginHost) -> None:
    """Line by line as over MCP, but without links, which reach the model cut; all of them are in the details."""
    outcome = looked_back(plugin, {"messageChannel": "telegram"})

    over_mcp = str(as_tool_result(RECENT)["content"][0]["text"]).splitlines()
    assert text_of(outcome).splitlines() == [line for line in over_mcp if not line.startswith("   ")]
    assert "media" not in outcome["details"]
    assert outcome["details"]["result"]["recent"] == RECENT["recent"]


@pytest.mark.parametrize(
    ("session", "is_owner", "is_private"),  # in a chat of Telegram
    [
        pytest.param("agent:main:main", True, True, id="the owner's main session"),
        pytest.param("agent:main:telegram:direct:123", True, True, id="the owner's direct messages"),
        pytest.param("agent:main:review", True, False, id="a name that may be bound to a group"),
        pytest.param("agent:main:global", True, False, id="what all conversations share"),
        pytest.param("agent:main:main", False, False, id="somebody else's message"),
        pytest.param("agent:main:telegram:group:-1001", True, False, id="the owner in a group"),
        pytest.param("agent:main:telegram:group:-1001:direct:1", True, False, id="a group with an odd name"),
        pytest.param("agent:main:discord:channel:123:thread:9", True, False, id="the owner in a thread"),
        pytest.param("agent:main:cron:nightly:run:1", True, False, id="a scheduled run"),
        pytest.param(None, True, False, id="no session"),
    ],
)
def test_only_where_the_owner_alone_reads_it_is_private(
    plugin: PluginHost, session: str | None, is_owner: bool, is_private: bool
) -> None:
    """The account's balance is told there and nowhere else."""
    outcome = looked_back(plugin, {"sessionKey": session, "senderIsOwner": is_owner, "messageChannel": "telegram"})

    assert outcome["details"]["result"]["seen"]["params"]["private"] is is_private


@pytest.mark.parametrize("channel", [None, "webchat"])
@pytest.mark.parametrize(
    ("session", "is_private"),
    [("agent:main:dashboard:review", True), ("agent:main:review", True), ("agent:main:global", False)],
)
def test_the_operators_own_clients_are_private(
    plugin: PluginHost, channel: str | None, session: str, is_private: bool
) -> None:
    """The web page and the command line open sessions under names of their own."""
    context = {"sessionKey": session, "senderIsOwner": True, **({"messageChannel": channel} if channel else {})}

    assert looked_back(plugin, context)["details"]["result"]["seen"]["params"]["private"] is is_private
