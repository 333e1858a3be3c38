"""The chat command /flux2, in the plugin's JavaScript."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.openclaw.conftest import PluginHost

GROUP = {"agentId": "main", "sessionKey": "agent:main:telegram:group:-100", "channel": "telegram", "senderId": "7"}


def asked(host: PluginHost, context: dict[str, Any]) -> dict[str, Any]:
    """Run the command and return what the worker was asked."""
    found: dict[str, Any] = json.loads(host.ask("command", plugin="plugin", context=context)["answer"]["text"])
    return found


def test_only_authorised_senders_may_use_it(host: PluginHost, make_plugin: Callable[..., Path]) -> None:
    """OpenClaw refuses the others before the plugin is asked."""
    host.register(make_plugin())

    definition = host.ask("command", plugin="plugin", context={})["definition"]

    assert (definition["name"], definition["requireAuth"]) == ("flux2", True)


def test_the_worker_is_asked_for_this_conversation(host: PluginHost, make_plugin: Callable[..., Path]) -> None:
    """Named, as is who asks, as the conversation's tools name them; the account is the gateway's."""
    host.register(make_plugin())

    found = asked(host, GROUP)

    assert found["session"] == {"agent_id": "main", "session_key": GROUP["sessionKey"]}
    assert (found["sender"], found["api_key"]) == ("telegram:7", "sk-secret-of-the-environment")


def test_the_account_is_that_of_the_agent_asked(
    start_host: Callable[..., PluginHost], make_plugin: Callable[..., Path]
) -> None:
    """The balance of another agent's account says nothing of what this one may spend."""
    host = start_host()
    host.register(make_plugin(), hostKey="sk-of-the-provider", agentKeys={"/agents/kim/agent": "sk-of-kim"})

    found = [asked(host, {**GROUP, "agentId": agent})["api_key"] for agent in ("main", "kim")]

    assert found == ["sk-of-the-provider", "sk-of-kim"]


@pytest.mark.parametrize(
    ("context", "is_operator"),
    [
        (GROUP, False),
        ({**GROUP, "gatewayClientScopes": ["operator.write"]}, False),
        ({**GROUP, "gatewayClientScopes": ["operator.read"]}, True),
        ({**GROUP, "senderIsOwner": True}, False),
    ],
)
def test_the_balance_is_for_the_operator(
    host: PluginHost, make_plugin: Callable[..., Path], context: dict[str, Any], is_operator: bool
) -> None:
    """A group that may make images need not know what its operator has, also when its owner asks there."""
    host.register(make_plugin())

    assert asked(host, context)["is_operator"] is is_operator


def test_without_a_conversation_nothing_is_shown(host: PluginHost, make_plugin: Callable[..., Path]) -> None:
    """Calls without a session share one name, and must not see each other's images here."""
    host.register(make_plugin())

    answer = host.ask("command", plugin="plugin", context={"agentId": "main"})["answer"]

    assert "does not say which conversation" in answer["text"]
    assert host.ask("worker")["pid"] is None
