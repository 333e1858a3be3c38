"""The plugin's hook before a call: whom it asks, what goes with a call that was agreed to, and what it never asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.schema.manifest import load_manifest
from tests.openclaw.conftest import PluginHost, text_of

MakePlugin = Callable[..., Path]

ASKING = {"ask_above_usd": 0.1}


@pytest.fixture
def host(host: PluginHost, make_plugin: MakePlugin) -> PluginHost:
    """A host whose operator wants to be asked above ten cents."""
    host.register(make_plugin(), config=ASKING)
    return host


def before(
    host: PluginHost, call: str, prompt: str = "dear fox", *, tool: str = "text_to_image", **options: Any
) -> Any:
    """Run the hook before a call and return what it wants of the host."""
    return host.ask("beforeToolCall", plugin="plugin", tool=tool, call=call, args={"prompt": prompt}, **options)


def begin(host: PluginHost, call: str, prompt: str = "dear fox", **options: Any) -> None:
    """Begin the call itself."""
    host.ask("begin", plugin="plugin", tool="text_to_image", call=call, args={"prompt": prompt}, **options)


def params_of(outcome: dict[str, Any]) -> dict[str, Any]:
    """Return the params with which a call came to the worker."""
    found: dict[str, Any] = outcome["details"]["result"]["seen"]["params"]
    return found


def questions(host: PluginHost) -> list[dict[str, Any]]:
    """Return what the worker was asked about."""
    path = host.folder / "questions.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def asking_hooks(host: PluginHost, plugin: str) -> list[dict[str, Any]]:
    """Return the hooks that a person's answer may hold up, and so have a deadline of their own."""
    return [hook for hook in host.ask("hooks", plugin=plugin) if "timeoutMs" in hook.get("options", {})]


def test_a_person_is_asked_with_the_amount_and_the_payee(host: PluginHost) -> None:
    """OpenClaw shows a payment as one, and no answer but yes and no is offered: consent is for one call."""
    asked = before(host, "one")["requireApproval"]

    assert asked["title"] == "Pay?"
    assert asked["description"] == "For what?"
    assert asked["scope"] == {"kind": "payment", "amount": "0.14", "currency": "USD", "target": "RunAPI"}
    assert asked["allowedDecisions"] == ["allow-once", "deny"]
    assert "Nothing was sent, and nothing is charged." in asked["timeoutReason"]
    assert "ask_above_usd" in asked["timeoutReason"]


def test_the_worker_is_asked_about_the_call_as_it_would_be_made(host: PluginHost) -> None:
    """The same account, conversation, person and folder decide what it costs and whether it joins."""
    person = {"requesterSenderId": "7", "messageChannel": "telegram", "workspaceDir": "/w", "sandboxed": True}

    before(host, "one", context=person)
    [asked] = questions(host)
    host.ask("resolve", call="one", decision="allow-once")
    host.ask("begin", plugin="plugin", tool="text_to_image", call="one", args={"prompt": "dear fox"}, context=person)
    made = params_of(host.ask("end", call="one"))

    assert asked == {name: value for name, value in made.items() if name != "approval"}
    assert asked["sender"] == "telegram:7"
    assert asked["api_key"]


def test_consent_goes_with_the_call_it_was_given_for(host: PluginHost) -> None:
    """As the worker returned it, and with no other call."""
    before(host, "one")
    host.ask("resolve", call="one", decision="allow-once")
    begin(host, "one")
    begin(host, "two", "another fox")

    approval = params_of(host.ask("end", call="one"))["approval"]
    assert (approval["request_key"], approval["usd"]) == ("dear fox", 0.14)
    assert params_of(host.ask("end", call="two"))["approval"] is None


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        pytest.param("a fox", {}, id="the worker needs none"),
        pytest.param("dear-fault fox", {}, id="the worker has a defect"),
        pytest.param("dear fox", {"hook": {"requester": None}}, id="no message began the run"),
        pytest.param("dear fox", {"hook": {"requester": {"senderIsOwner": True}}}, id="typed on the gateway's machine"),
        pytest.param("dear fox", {"hook": {"sessionKey": "agent:main:cron:1:run:2"}}, id="a scheduled run"),
        pytest.param("dear fox", {"hook": {"sessionKey": "unknown"}}, id="a conversation without tools of ours"),
    ],
)
def test_where_nobody_is_asked_the_worker_decides(host: PluginHost, prompt: str, options: dict[str, Any]) -> None:
    """Its refusal names the setting; the host's own would not."""
    verdict = before(host, "one", prompt, **options)
    begin(host, "one", prompt)

    assert verdict is None
    assert params_of(host.ask("end", call="one"))["approval"] is None


def test_the_hook_never_waits_longer_than_the_host(host: PluginHost) -> None:
    """OpenClaw refuses a call whose hook is late, in words of its own."""
    [hook] = asking_hooks(host, "plugin")
    host.ask("hurry", times=1000)

    assert before(host, "one", "dear-silence") is None
    assert hook["event"] == "before_tool_call"
    assert hook["options"] == {"matcher": ["text_to_image", "remix_image"], "timeoutMs": 60_000}


def test_a_worker_that_does_not_start_has_no_question(
    start_host: Callable[..., PluginHost], make_plugin: MakePlugin
) -> None:
    """The call then names the command that fixes it."""
    host = start_host(RUNAPI_API_KEY="sk-secret-of-the-environment")
    host.register(make_plugin(python="/nowhere/python"), config=ASKING)

    assert before(host, "one") is None
    begin(host, "one")
    assert "configuration_error" in text_of(host.ask("end", call="one"))


def test_without_the_setting_nobody_is_asked(host: PluginHost) -> None:
    """Nobody's calls are held up by it; and whoever sets it while a call waits is asked about the next."""
    host.ask("configure", changed={"enabled": True, "config": {}})
    free = before(host, "one")
    host.ask("configure", changed={"enabled": True, "config": ASKING})

    assert free is None
    assert before(host, "two") is not None


def test_the_descriptions_say_what_a_refusal_costs(host: PluginHost, make_plugin: MakePlugin) -> None:
    """OpenClaw's own words for a denial do not, and where it can ask nobody they do not name the setting."""
    host.register(make_plugin(), name="free", config={})
    asking, free = (
        {tool["name"]: tool["description"] for tool in host.ask("definitions", plugin=name)}
        for name in ("plugin", "free")
    )

    note = asking["text_to_image"].removeprefix(free["text_to_image"])
    assert note.startswith(" Above 0.1 USD (setting ask_above_usd) a person must agree first: ")
    assert "denied" in note
    assert "costs nothing" in note
    assert "limits are as in text_to_image" in asking["remix_image"]
    assert {**asking, "text_to_image": free["text_to_image"]} == free


def test_the_definitions_fit_in_their_tokens_with_everything_on(host: PluginHost, make_plugin: MakePlugin) -> None:
    """As the model reads them, with the note; a token is taken as 4 characters of compact JSON."""
    config = {**ASKING, "tiers": list(load_manifest().tiers), "callback_hosts": ["hooks.example.com"]}
    host.register(make_plugin(), name="everything", config=config)

    definitions = [
        {key: tool[key] for key in ("name", "description", "parameters")}
        for tool in host.ask("definitions", plugin="everything")
    ]

    text = "".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in definitions)
    assert len(text) / 4 <= 1050


def test_equal_calls_of_a_turn_share_one_question(host: PluginHost) -> None:
    """The second makes no image of its own; it waits for the answer, and joins the task of the first."""
    first = before(host, "one")
    second = before(host, "two")
    begin(host, "two")
    host.ask("resolve", call="one", decision="allow-once")
    begin(host, "one")
    approvals = [params_of(host.ask("end", call=call))["approval"] for call in ("one", "two")]

    assert first is not None
    assert second is None
    assert approvals[0] == approvals[1] is not None


@pytest.mark.parametrize("decision", ["deny", "timeout", "cancelled"])
def test_an_equal_call_is_refused_with_the_first(host: PluginHost, decision: str) -> None:
    """It never reaches the worker, and the model reads that it cost nothing; a later call is asked about again."""
    before(host, "one")
    before(host, "two")
    host.ask("resolve", call="one", decision=decision)
    begin(host, "two")

    outcome = host.ask("end", call="two")

    assert "nobody agreed. Nothing was sent, and nothing is charged." in text_of(outcome)
    assert "(not_approved, charged: no, retryable: no)" in text_of(outcome)
    assert not (host.folder / "calls.jsonl").exists()
    assert before(host, "three") is not None


@pytest.mark.parametrize("order", [("ours", "theirs"), ("theirs", "ours")])
def test_an_answer_counts_in_its_own_conversation(host: PluginHost, order: tuple[str, str]) -> None:
    """Some models number their calls anew in each conversation, and a run's id may not be told."""
    groups = {name: {"sessionKey": f"agent:main:telegram:group:{name}"} for name in order}
    asked = [
        before(host, name, callId="call_0", context=groups[name], hook={**groups[name], "runId": None})
        for name in order
    ]
    host.ask("resolve", call="ours", decision="allow-once")
    host.ask("resolve", call="theirs", decision="deny")

    begin(host, "ours", callId="call_0", context=groups["ours"])

    assert None not in asked
    assert params_of(host.ask("end", call="ours"))["approval"]["request_key"] == "dear fox"


def test_a_denial_ends_with_the_setting(host: PluginHost) -> None:
    """Where nobody is asked any more, a later call of the same id is none that somebody refused."""
    before(host, "one")
    host.ask("resolve", call="one", decision="deny")
    host.ask("configure", changed={"enabled": True, "config": {}})

    before(host, "again", callId="one")
    begin(host, "again", callId="one")

    assert params_of(host.ask("end", call="again"))["approval"] is None


def test_an_equal_call_is_asked_about_again_once_the_first_is_done(host: PluginHost) -> None:
    """What was agreed to is one image; the worker knows whether this one joins it."""
    before(host, "one")
    host.ask("resolve", call="one", decision="allow-once")
    begin(host, "one")
    host.ask("end", call="one")

    assert before(host, "two") is not None


@pytest.mark.parametrize("other", [{"prompt": "dear boat"}, {"hook": {"runId": "run-2"}}])
def test_other_calls_have_questions_of_their_own(host: PluginHost, other: dict[str, Any]) -> None:
    """Consent to one picture is none to another, nor to one of a later turn."""
    before(host, "one")

    assert before(host, "two", **other) is not None


def test_a_call_stopped_while_an_equal_one_is_asked_about_ends_at_once(host: PluginHost) -> None:
    """Somebody pressed stop; the question may stay open for minutes."""
    before(host, "one")
    before(host, "two")
    begin(host, "two")

    host.ask("abort", call="two")

    assert "cancelled" in text_of(host.ask("end", call="two"))
    assert not (host.folder / "calls.jsonl").exists()
