"""Subagents and runs without a sender, in Node with a fake worker: who shows a picture, and for whom a call works."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.openclaw.conftest import PluginHost, text_of
from tests.openclaw.test_late_javascript import FETCH, GROUP, IN_GROUP, events, finish, waited_for

MakePlugin = Callable[..., Path]
PARENT, CHILD, GRANDCHILD = "agent:main:telegram:group:-1001", "agent:main:subagent:1", "agent:other:subagent:2"
SESSIONS = {
    CHILD: {"spawnedBy": PARENT, "completionOwnerSessionKey": PARENT},
    GRANDCHILD: {"spawnedBy": CHILD, "completionOwnerSessionKey": ""},
}
IN_CHILD = {**IN_GROUP, "sessionKey": CHILD, "senderIsOwner": False}
OWNER = {"channel": "telegram", "senderId": "1", "senderIsOwner": True}
GUEST = {"channel": "telegram", "senderId": "2", "senderIsOwner": False}
NOBODY = {"channel": "telegram", "senderIsOwner": False}


@pytest.fixture
def plugin(host: PluginHost, make_plugin: MakePlugin) -> PluginHost:
    host.register(make_plugin(), sessions=SESSIONS)
    return host


def params_of(outcome: dict[str, Any]) -> dict[str, Any]:
    """Return the params that the worker got for a call."""
    found: dict[str, Any] = outcome["details"]["result"]["seen"]["params"]
    return found


# ---- whose picture ---------------------------------------------------------------------------------------------------


def test_a_subagent_hands_its_picture_over(plugin: PluginHost) -> None:
    """What is attached in its session is seen by nobody."""
    outcome = plugin.call("a kite", context=IN_CHILD)

    assert "media" not in outcome["details"]
    assert "You are a subagent, and nobody sees what is attached here. Name task:tsk_1 in your answer" in text_of(
        outcome
    )
    assert "already attached" not in text_of(outcome)
    assert params_of(outcome)["handed_over"] is True


def test_the_parent_attaches_what_the_subagent_made(plugin: PluginHost) -> None:
    """It was not shown in the subagent's session, and so not yet."""
    plugin.call("a kite", context=IN_CHILD)

    outcome = plugin.call("", **FETCH, context=IN_GROUP)

    assert len(outcome["details"]["media"]["mediaUrls"]) == 1
    assert params_of(outcome)["handed_over"] is False


@pytest.mark.parametrize(
    ("session", "ancestors"),
    [
        pytest.param(CHILD, [("main", PARENT)], id="a child"),
        pytest.param(GRANDCHILD, [("main", CHILD), ("main", PARENT)], id="a child of a child, of another agent"),
        pytest.param(PARENT, [], id="a conversation of people"),
        pytest.param("agent:main:subagent:forgotten", [], id="a subagent that OpenClaw has no record of"),
    ],
)
def test_openclaws_record_says_who_spawned_a_session(
    plugin: PluginHost, session: str, ancestors: list[tuple[str, str]]
) -> None:
    """Never the model."""
    params = params_of(plugin.call("a kite", context={**IN_CHILD, "sessionKey": session}))

    assert [(one["agent_id"], one["session_key"]) for one in params["ancestors"]] == ancestors


def test_a_record_that_goes_round_in_circles_ends(host: PluginHost, make_plugin: MakePlugin) -> None:
    """A damaged store must not hang the gateway."""
    host.register(make_plugin(), sessions={CHILD: {"spawnedBy": GRANDCHILD}, GRANDCHILD: {"spawnedBy": CHILD}})

    params = params_of(host.call("a kite", context=IN_CHILD))

    assert [one["session_key"] for one in params["ancestors"]] == [GRANDCHILD]


@pytest.mark.parametrize("is_first_run", [True, False], ids=["the run that opens it", "a person's message in it"])
def test_a_subagent_that_is_bound_to_a_thread_shows_its_pictures_there(plugin: PluginHost, is_first_run: bool) -> None:
    """OpenClaw delivers its answers into the thread."""
    context = IN_CHILD if is_first_run else {**IN_CHILD, "requesterSenderId": "2", "delivery": {}}
    if is_first_run:
        spawned = {"childSessionKey": CHILD, "threadRequested": True, "runId": "run-2"}
        plugin.ask("fire", plugin="plugin", event="subagent_spawned", payload=spawned, ctx={})

    outcome = plugin.call("a kite", context=context)

    assert len(outcome["details"]["media"]["mediaUrls"]) == 1
    assert "already attached to this conversation" in text_of(outcome)


def test_a_subagents_late_picture_wakes_its_parent(host: PluginHost, make_plugin: MakePlugin) -> None:
    """The subagent has ended by then, and nobody would see what it says."""
    host.register(make_plugin(), sessions=SESSIONS)
    host.ask("start", plugin="plugin")
    host.ask("hurry", times=50)

    late = host.call("processing", context=IN_CHILD)
    waiting = waited_for(host)
    finish(host)
    event, wake = events(host, 2)

    assert "Or end now with task:tsk_1 in your answer" in text_of(late)
    assert "told by itself" not in text_of(late)
    assert [(one["sessionKey"], one["route"]) for one in waiting] == [(PARENT, GROUP)]
    assert event["sessionKey"] == wake["wake"]["sessionKey"] == PARENT


def test_what_the_subagent_gets_itself_wakes_nobody(host: PluginHost, make_plugin: MakePlugin) -> None:
    """It names the picture in its answer."""
    host.register(make_plugin(), sessions=SESSIONS)
    host.ask("start", plugin="plugin")
    host.ask("hurry", times=50)
    host.call("processing", context=IN_CHILD)

    host.call("", **FETCH, context=IN_CHILD)
    finish(host)
    host.ask("settle")

    assert waited_for(host) == []
    assert host.ask("events") == []


# ---- for whom --------------------------------------------------------------------------------------------------------


def spawn(plugin: PluginHost, requester: dict[str, Any], run: str, *, by: str = PARENT, in_run: str = "run-1") -> None:
    """Have a session spawn a run, as the hooks tell it."""
    call = {"toolName": "sessions_spawn", "toolCallId": "spawn-1", "runId": in_run}
    ctx = {"agentId": "main", "sessionKey": by, "runId": in_run, "requester": requester}
    plugin.ask("fire", plugin="plugin", event="before_tool_call", payload=call, ctx=ctx)
    details = {"status": "accepted", "runId": run, "childSessionKey": CHILD}
    ended = {**call, "result": {"details": details}}
    plugin.ask("fire", plugin="plugin", event="after_tool_call", payload=ended, ctx={**ctx, "requester": None})


def asked_by(plugin: PluginHost, run: str, context: dict[str, Any], requester: dict[str, Any] | None) -> dict[str, Any]:
    """Make a call in a run; return for whom the worker was told that it works."""
    names = {"agentId": context.get("agentId", "main"), "sessionKey": context["sessionKey"]}
    hook, call = {**names, "runId": run, "requester": requester}, f"call in {run}"
    plugin.ask("beforeToolCall", plugin="plugin", tool="text_to_image", call=call, args={}, context=context, hook=hook)
    plugin.ask("begin", plugin="plugin", tool="text_to_image", call=call, args={"prompt": "a kite"}, context=context)
    params = params_of(plugin.ask("end", call=call))
    return {name: params[name] for name in ("sender", "is_owner", "spends_as_owner", "unattended")}


FOR_OWNER = {"sender": "telegram:1", "is_owner": False, "spends_as_owner": True, "unattended": None}
FOR_GUEST = {"sender": "telegram:2", "is_owner": False, "spends_as_owner": False, "unattended": None}


@pytest.mark.parametrize(("requester", "expected"), [(OWNER, FOR_OWNER), (GUEST, FOR_GUEST)], ids=["owner", "guest"])
def test_a_subagents_run_works_for_whoever_spawned_it(
    plugin: PluginHost, requester: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Also in the run in which its answer comes back, and in what it spawns itself."""
    spawn(plugin, requester, "run-2")
    spawn(plugin, NOBODY, "run-3", by=CHILD, in_run="run-2")
    grandchild = {**IN_CHILD, "sessionKey": GRANDCHILD, "agentId": "other"}

    assert asked_by(plugin, "run-2", IN_CHILD, NOBODY) == expected
    assert asked_by(plugin, f"announce:v1:{CHILD}:run-2", IN_GROUP, NOBODY) == expected
    assert asked_by(plugin, "run-3", grandchild, {"channel": "telegram"}) == expected


def nobody(kind: str) -> dict[str, Any]:
    return {"sender": None, "is_owner": False, "spends_as_owner": False, "unattended": kind}


@pytest.mark.parametrize(
    ("run", "session", "kind"),
    [
        pytest.param("run-9", CHILD, "a subagent's run", id="a run that somebody else began in the owner's subagent"),
        pytest.param("x:run-2", CHILD, "a subagent's run", id="a run that only names the spawned one"),
        pytest.param("run-9", "agent:main:cron:1:run:2", "a scheduled run", id="scheduled"),
        pytest.param("run-9", "agent:main:hook:mail", "a webhook's run", id="a webhook"),
        pytest.param("run-9", "agent:main:main", "a run that no message began", id="a heartbeat"),
    ],
)
def test_any_other_run_works_for_nobody(plugin: PluginHost, run: str, session: str, kind: str) -> None:
    """The owner's leave is for the run that the owner's turn spawned."""
    spawn(plugin, OWNER, "run-2")

    assert asked_by(plugin, run, {**IN_CHILD, "sessionKey": session}, NOBODY) == nobody(kind)


def test_a_person_whom_the_channel_does_not_name_is_not_nobody(plugin: PluginHost) -> None:
    """What is allowed to scheduled runs is not allowed to strangers."""
    params = params_of(plugin.call("a kite", context={**IN_GROUP, "delivery": {}}))

    assert params["unattended"] is None
    assert params["is_owner"] is False


# ---- equal calls, and what was left ----------------------------------------------------------------------------------


def test_of_two_equal_calls_the_second_says_that_it_is_the_same_picture(plugin: PluginHost) -> None:
    """It is attached once, and a model must not add its cost up."""
    turn = {"turn": 1, "context": IN_GROUP}
    first, second = plugin.call("a kite", **turn), plugin.call("equal kite", **turn)

    assert len(first["details"]["media"]["mediaUrls"]) == 1
    assert "media" not in second["details"]
    assert "0.05 USD (billed), paid once for all equal calls" in text_of(second)
    assert "paid once" not in text_of(first)


def test_an_error_passes_on_what_its_conversation_is_told(plugin: PluginHost) -> None:
    """The picture that was never shown may have no later result to stand in."""
    result = {"error": {"code": "x", "message": "No.", "hint": "", "retryable": False, "charged": "no"}}
    result["error"] |= {"task_ref": None, "request_id": None, "warnings": ["earlier_image: task:tsk_9"]}

    [text] = plugin.ask("explained", plugin="plugin", results=[json.loads(json.dumps(result))])

    assert text.splitlines()[-1] == "Note: earlier_image: task:tsk_9"
