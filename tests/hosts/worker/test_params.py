"""The params of the worker's messages: strict where a wrong value would be used, silent where it only is not known."""

from __future__ import annotations

from typing import Any

import pytest

from flux2_tool.hosts.worker.json_rpc import INVALID_PARAMS, ProtocolFaultError
from flux2_tool.hosts.worker.params import AgentSession, CallParams, WebhookParams, parsed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("tool", 5, id="a tool that is a number"),
        pytest.param("api_key", 5, id="a key that is a number"),
        pytest.param("base_url", ["https://a.example"], id="an address in a list"),
        pytest.param("workspace_dir", True, id="a folder that is true"),
        pytest.param("output_dir", {}, id="a folder that is an object"),
        pytest.param("wait_s", True, id="a wait that is true"),
        pytest.param("wait_s", "5", id="a wait as text"),
        pytest.param("wait_s", -1, id="a wait below zero"),
        pytest.param("wait_s", 86_401, id="more than a day"),
        pytest.param("wait_s", float("nan"), id="no number"),
        pytest.param("wait_s", 10**400, id="a number without end"),
        pytest.param("source_dirs", "/tmp", id="folders as text"),  # noqa: S108
        pytest.param("source_dirs", [""], id="a folder without a name"),
    ],
)
def test_a_wrong_type_is_a_fault_that_names_the_member(name: str, value: Any) -> None:
    """Whoever writes the plugin must find it; the value may be a key and is not quoted."""
    with pytest.raises(ProtocolFaultError) as caught:
        parsed(CallParams, {"tool": "text_to_image", name: value})

    assert caught.value.code == INVALID_PARAMS
    assert str(caught.value).startswith(name)
    assert len(str(caught.value)) < 300


def test_a_call_needs_its_tool_and_nothing_else() -> None:
    """Everything else has a default."""
    assert parsed(CallParams, {"tool": "x"}).wait_s is None
    with pytest.raises(ProtocolFaultError, match=r"^tool: "):
        parsed(CallParams, {})


def test_members_that_are_not_known_are_ignored() -> None:
    """A newer plugin may send more."""
    assert parsed(CallParams, {"tool": "x", "colour": "red"}).tool == "x"


@pytest.mark.parametrize("value", [1, "true", "yes", [], {}, None, False])
@pytest.mark.parametrize("name", ["is_owner", "private", "unattributed", "sandboxed"])
def test_only_true_itself_is_true(name: str, value: Any) -> None:
    """Nobody becomes the owner by a text that means yes."""
    assert getattr(parsed(CallParams, {"tool": "x", name: value}), name) is False
    assert getattr(parsed(CallParams, {"tool": "x", name: True}), name) is True


@pytest.mark.parametrize(
    ("session", "name"),
    [
        pytest.param("s", "s", id="text"),
        pytest.param("", None, id="no text"),
        pytest.param({"agent_id": "a", "session_key": "k"}, "a/k", id="agent and key"),
        pytest.param({"session_key": "k"}, "/k", id="a key alone"),
        pytest.param({"agent_id": "a", "session_key": 5}, "a/", id="a key that is a number"),
        pytest.param({}, None, id="an empty object"),
        pytest.param(5, None, id="a number"),
        pytest.param("\ud800", "?", id="half of a character pair"),
    ],
)
def test_a_session_is_text_or_an_agents_conversation(session: Any, name: str | None) -> None:
    """What OpenClaw does not know must not end the call."""
    found = parsed(CallParams, {"tool": "x", "session": session}).session

    assert (found.name if isinstance(found, AgentSession) else found) == name


@pytest.mark.parametrize(("sender", "known"), [("tg:1", "tg:1"), (5, None), (None, None)])
def test_a_sender_that_is_no_text_is_not_known(sender: Any, known: str | None) -> None:
    """Caps per person then count nobody."""
    assert parsed(CallParams, {"tool": "x", "sender": sender}).sender == known


def test_a_webhooks_body_is_the_bytes_that_came() -> None:
    """Its signature covers every byte."""
    assert parsed(WebhookParams, {"headers": {"a": "b"}, "body_base64": "AP8="}).body == b"\x00\xff"


@pytest.mark.parametrize("body", [None, 5, "not base64", "ä"])
def test_a_webhooks_body_must_be_base64(body: Any) -> None:
    """Bytes that were guessed would fail the signature and hide the fault."""
    with pytest.raises(ProtocolFaultError, match=r"^body_base64: "):
        parsed(WebhookParams, {"headers": {}, "body_base64": body})


def test_a_webhooks_headers_must_be_text() -> None:
    """The signature is read out of one of them."""
    with pytest.raises(ProtocolFaultError, match=r"^headers\.a"):
        parsed(WebhookParams, {"headers": {"a": ["b"]}, "body_base64": ""})
