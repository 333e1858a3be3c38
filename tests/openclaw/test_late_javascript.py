"""Pictures that were not finished when their call's wait ended, in Node with a fake worker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.openclaw.conftest import PluginHost, text_of

MakePlugin = Callable[..., Path]
GROUP = {"channel": "telegram", "to": "telegram:-1001", "accountId": "default", "threadId": 7}
IN_GROUP = {"sessionKey": "agent:main:telegram:group:-1001", "messageChannel": "telegram", "deliveryContext": GROUP}
IN_WEBCHAT = {
    "sessionKey": "agent:main:main",
    "messageChannel": "webchat",
    "deliveryContext": {"channel": "webchat", "to": "agent:main:main"},
}
FETCH = {"tool": "get_image_task", "args": {"task_id": "tsk_1"}}


@pytest.fixture
def gateway(host: PluginHost, make_plugin: MakePlugin) -> PluginHost:
    """A host whose plugin has been started, and is not in no hurry."""
    host.register(make_plugin())
    host.ask("start", plugin="plugin")
    host.ask("hurry", times=15)
    return host


def finish(host: PluginHost, how: str = "completed", task: str = "tsk_1") -> None:
    """Let the worker's wait for a task end."""
    part = host.folder / f"part-{task}"
    part.write_text(how)
    part.rename(host.folder / f"watched-{task}")


def waited_for(host: PluginHost) -> list[dict[str, Any]]:
    """Return what is noted as waited for."""
    path = host.folder / "flux2-tool" / "late.json"
    found: list[dict[str, Any]] = json.loads(path.read_text())["pictures"] if path.exists() else []
    return found


def events(host: PluginHost, count: int) -> list[dict[str, Any]]:
    """Return the events once there are so many."""
    for _ in range(30):
        found: list[dict[str, Any]] = host.ask("events")
        if len(found) >= count:
            return found
        host.ask("settle")
    pytest.fail(f"{host.ask('events')}, {host.ask('logs')}")


def test_a_late_picture_wakes_its_own_conversation(gateway: PluginHost) -> None:
    """By its own route, and not the operator's; nobody has to ask."""
    late = gateway.call("processing", context=IN_GROUP)
    finish(gateway)

    event, wake = events(gateway, 2)

    assert "this conversation is told by itself" in text_of(late)
    assert event["deliveryContext"] == GROUP
    assert (event["sessionKey"], event["agentId"]) == ("agent:main:telegram:group:-1001", "main")
    assert 'call get_image_task with task_id "task:tsk_1"' in event["text"]
    assert '"a fox"' in event["text"]
    assert wake["wake"]["heartbeat"] == {"target": "telegram", "to": "telegram:-1001", "accountId": "default"}
    assert (wake["wake"]["sessionKey"], wake["wake"]["agentId"]) == ("agent:main:telegram:group:-1001", "main")


def test_the_late_pictures_of_one_call_wake_it_once(gateway: PluginHost) -> None:
    """Four messages about one wish are noise, and each may begin a turn that costs."""
    made = gateway.call("partly 1", context=IN_GROUP, args={"prompt": "partly 1", "count": 3})
    finish(gateway, task="tsk_2")
    gateway.ask("settle")
    assert gateway.ask("events") == []
    finish(gateway, task="tsk_3")

    found = events(gateway, 2)
    gateway.ask("settle")

    assert made["details"]["media"]["mediaUrls"]  # what was ready is shown at once
    assert "task:tsk_1, task:tsk_2 (processing), task:tsk_3 (processing)" in text_of(made)
    assert len(gateway.ask("events")) == len(found) == 2
    assert 'task_id "task:tsk_2", then "task:tsk_3"' in found[0]["text"]
    assert [one["told"] for one in waited_for(gateway)] == [1, 1]


def test_a_set_of_which_one_fails_late_is_told_whole(gateway: PluginHost) -> None:
    """What came and what did not, in one message."""
    gateway.call("partly 0", context=IN_GROUP, args={"prompt": "partly 0", "count": 2})
    finish(gateway, "failed", task="tsk_1")
    finish(gateway, task="tsk_2")

    event, _wake = events(gateway, 2)

    assert "The picture task:tsk_2" in event["text"]
    assert "task:tsk_1" in event["text"]
    assert "could not be made" in event["text"]
    assert [one["ref"] for one in waited_for(gateway)] == ["task:tsk_2"]


def test_the_rest_of_a_set_is_not_waited_for_too_long(gateway: PluginHost) -> None:
    """One that hangs must not keep the others from the person."""
    gateway.call("partly 0", context=IN_GROUP, args={"prompt": "partly 0", "count": 2})
    finish(gateway, task="tsk_1")

    first, _wake = events(gateway, 2)
    finish(gateway, task="tsk_2")
    later = events(gateway, 4)[2]

    assert '"task:tsk_1"' in first["text"]
    assert "task:tsk_2" not in first["text"]
    assert '"task:tsk_2"' in later["text"]


def test_fetching_one_of_a_set_silences_no_other(gateway: PluginHost, tmp_path: Path) -> None:
    """The other is paid, too, and nobody else tells of it."""
    gateway.call("partly 0", context=IN_GROUP, args={"prompt": "partly 0", "count": 2})
    gate = tmp_path / "gate"
    call = gateway.begin(f"until {gate}", context=IN_GROUP, tool="get_image_task", args={"task_id": "tsk_9"})
    gateway.wait_for_progress(call)
    finish(gateway, task="tsk_1")
    finish(gateway, task="tsk_2")
    gateway.ask("settle")

    gateway.call("", context=IN_GROUP, **FETCH)  # both are over, and neither is told yet
    gateway.ask("settle")
    gate.touch()
    gateway.ask("end", call=call)

    event, _wake = events(gateway, 2)
    assert '"task:tsk_2"' in event["text"]
    assert "task:tsk_1" not in event["text"]


def test_webchat_is_woken_without_a_message_to_anybody_else(gateway: PluginHost) -> None:
    """OpenClaw would send the answer to the operator's direct messages."""
    gateway.call("processing", context=IN_WEBCHAT)
    finish(gateway)

    _event, wake = events(gateway, 2)

    assert wake["wake"]["heartbeat"] == {"target": "none"}


def test_the_turn_that_was_begun_shows_it_where_it_was_asked_for(gateway: PluginHost) -> None:
    """OpenClaw names the operator's channel in such a turn, whatever conversation it is."""
    gateway.call("processing", context=IN_WEBCHAT)
    finish(gateway)
    events(gateway, 2)
    assert [one["told"] for one in waited_for(gateway)] == [1]

    shown = gateway.call("", context={**IN_WEBCHAT, "messageChannel": "telegram"}, **FETCH)

    assert 'MEDIA:"' not in text_of(shown)  # this worker was asked for no file
    assert shown["details"]["media"]["mediaUrls"]
    assert waited_for(gateway) == []


def test_a_conversation_that_fetches_it_itself_is_not_woken(gateway: PluginHost) -> None:
    """It would be told of a picture that it has."""
    gateway.call("processing", context=IN_GROUP)
    gateway.call("", context=IN_GROUP, **FETCH)
    finish(gateway)

    gateway.ask("settle")

    assert waited_for(gateway) == []
    assert gateway.ask("events") == []


def test_a_conversation_in_mid_call_is_not_woken_yet(gateway: PluginHost, tmp_path: Path) -> None:
    """The call may bring the picture."""
    gateway.call("processing", context=IN_GROUP)
    gate = tmp_path / "gate"
    call = gateway.begin(f"until {gate}", context=IN_GROUP)
    gateway.wait_for_progress(call)
    finish(gateway)
    gateway.ask("settle")
    assert gateway.ask("events") == []

    gate.touch()
    gateway.ask("end", call=call)

    assert waited_for(gateway) == []


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("failed", "could not be made: RunAPI could not make it. (charged: no)"),
        ("moderated", "could not be made: Moderation refused the request. (charged: no)"),
        ("lost", "did not come: It is completed but has no picture. (charged: unknown)"),
    ],
)
def test_a_picture_that_fails_late_is_told(gateway: PluginHost, how: str, said: str) -> None:
    """The person waits for it; whether it cost anything is part of it."""
    gateway.call("processing", context=IN_GROUP)
    finish(gateway, how)

    event, _wake = events(gateway, 2)

    assert said in event["text"]
    assert waited_for(gateway) == []


def test_a_late_picture_is_looked_for_in_its_agents_account(
    start_host: Callable[..., PluginHost], make_plugin: MakePlugin
) -> None:
    """RunAPI knows a task under the key alone that has paid for it."""
    host = start_host()
    host.register(make_plugin(), hostKey="sk-of-the-provider", agentKeys={"/agents/kim/agent": "sk-of-kim"})
    host.ask("start", plugin="plugin")
    host.ask("hurry", times=15)
    host.call("processing", context={**IN_GROUP, "agentId": "kim"}, hostKey="sk-of-kim")
    finish(host)
    events(host, 2)

    calls = [json.loads(line)["params"] for line in (host.folder / "calls.jsonl").read_text().splitlines()]

    assert [one["api_key"] for one in calls if one.get("watching")] == ["sk-of-kim"]


@pytest.mark.parametrize("trouble", ["refused", "no key", "another account", "no worker", "defect"])
def test_a_picture_that_cannot_be_looked_for_is_waited_for_on(gateway: PluginHost, trouble: str) -> None:
    """It may be there, paid: whoever is told that there is none asks for another, which is paid as well."""
    gateway.call("processing", context=IN_GROUP)
    finish(gateway, trouble)
    gateway.ask("settle")
    gateway.ask("settle")
    assert gateway.ask("events") == []
    finish(gateway)

    event, _wake = events(gateway, 2)

    assert "is finished and was not shown yet" in event["text"]
    warned = [text for level, text in gateway.ask("logs") if level == "warn" and "waited for on" in text]
    assert len(warned) == 1


def test_it_is_looked_for_less_and_less_often(host: PluginHost, make_plugin: MakePlugin) -> None:
    """What is wrong may stay so all day, and every look asks RunAPI several times."""
    picture = {"agentId": "main", "sessionKey": "s", "ref": "task:tsk_1", "route": GROUP, "title": None, "told": 0}
    (host.folder / "flux2-tool").mkdir()
    (host.folder / "flux2-tool" / "late.json").write_text(
        json.dumps({"pictures": [picture | {"since_ms": int(time.time() * 1000)}]})
    )
    host.register(make_plugin(python="/nowhere/python"))
    host.ask("delays")
    host.ask("start", plugin="plugin")
    minutes: list[int] = []
    while len(minutes) < 6:
        host.ask("settle")
        minutes += [ms // 60_000 for ms in host.ask("delays") if ms >= 60_000]

    assert minutes[:6] == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("refused", "RunAPI refused the key."),
        ("unfinished", "RunAPI has not finished it."),
        ("failed", "could not be made: RunAPI could not make it. (charged: no)"),
        ("completed", "is finished and was not shown yet"),
    ],
)
def test_after_a_day_its_conversation_is_told_how_it_stands(
    gateway: PluginHost, start_host: Callable[..., PluginHost], how: str, said: str
) -> None:
    """It was promised to hear of it."""
    gateway.call("processing", context=IN_GROUP)
    gateway.process.kill()
    path = gateway.folder / "flux2-tool" / "late.json"
    [picture] = waited_for(gateway)
    path.write_text(json.dumps({"pictures": [picture | {"since_ms": picture["since_ms"] - 25 * 3_600_000}]}))
    finish(gateway, how)

    again = start_host(RUNAPI_API_KEY="sk-secret-of-the-environment")
    again.register(gateway.folder / "plugin-0.1.0")
    again.ask("hurry", times=10)
    again.ask("start", plugin="plugin")
    event, _wake = events(again, 2)

    assert said in event["text"]
    assert "task:tsk_1" in event["text"]
    assert [one["ref"] for one in waited_for(again)] == (["task:tsk_1"] if how == "completed" else [])


@pytest.mark.parametrize(
    ("word", "is_over"), [("ends-refused", False), ("ends-stopped", False), ("ends-moderated", True)]
)
def test_only_an_end_of_the_picture_itself_ends_its_wait(gateway: PluginHost, word: str, is_over: bool) -> None:
    """Its conversation was told that it comes by itself; a call that failed on the way says nothing of the picture."""
    gateway.call("processing", context=IN_GROUP)

    gateway.call(word, context=IN_GROUP, **{**FETCH, "args": {"task_id": "tsk_1", "prompt": word}})

    assert [one["ref"] for one in waited_for(gateway)] == ([] if is_over else ["task:tsk_1"])


@pytest.mark.parametrize(
    "context",
    [
        {"messageChannel": "telegram"},
        {**IN_GROUP, "sessionKey": "agent:main:subagent:1"},
        {**IN_GROUP, "sessionKey": "agent:main:cron:nightly"},
        {**IN_GROUP, "sessionKey": None},
    ],
    ids=["no route", "a subagent", "a scheduled run", "no session"],
)
def test_who_has_no_conversation_is_not_woken(gateway: PluginHost, context: dict[str, Any]) -> None:
    """It would be another one that is woken."""
    late = gateway.call("processing", context=context)

    assert "told by itself" not in text_of(late)
    assert waited_for(gateway) == []


def test_a_setting_turns_it_off(host: PluginHost, make_plugin: MakePlugin) -> None:
    """A turn that nobody asked for costs tokens."""
    host.register(make_plugin(), config={"late_pictures": False})
    host.ask("start", plugin="plugin")

    late = host.call("processing", context=IN_GROUP)

    assert "told by itself" not in text_of(late)
    assert waited_for(host) == []


def test_turned_on_later_it_goes_on_with_what_waited_before(
    gateway: PluginHost, start_host: Callable[..., PluginHost]
) -> None:
    """The next late picture must not take the place of those that an earlier gateway was waiting for."""
    gateway.call("processing", context=IN_GROUP)
    gateway.process.kill()
    again = start_host(RUNAPI_API_KEY="sk-secret-of-the-environment")
    again.register(gateway.folder / "plugin-0.1.0", config={"late_pictures": False})
    again.ask("start", plugin="plugin")
    again.ask("hurry", times=15)

    again.ask("configure", changed={"enabled": True, "config": {"late_pictures": True}})
    again.call("processing", context=IN_WEBCHAT)
    finish(again)

    assert {one["sessionKey"] for one in waited_for(again)} == {IN_GROUP["sessionKey"], IN_WEBCHAT["sessionKey"]}
    woken = {event["sessionKey"] for event in events(again, 4) if "text" in event}
    assert woken == {IN_GROUP["sessionKey"], IN_WEBCHAT["sessionKey"]}


def test_outside_a_gateway_nothing_waits(host: PluginHost, make_plugin: MakePlugin) -> None:
    """`openclaw agent --local` ends with its turn."""
    host.register(make_plugin())

    assert "told by itself" not in text_of(host.call("processing", context=IN_GROUP))


def test_a_restart_goes_on_waiting(gateway: PluginHost, start_host: Callable[..., PluginHost]) -> None:
    """The picture is paid, and nobody else knows who asked for it."""
    gateway.call("processing", context=IN_GROUP)
    gateway.process.kill()

    again = start_host(RUNAPI_API_KEY="sk-secret-of-the-environment")
    again.register(gateway.folder / "plugin-0.1.0")
    again.ask("start", plugin="plugin")
    again.ask("hurry", times=15)
    finish(again)

    event, _wake = events(again, 2)
    assert event["deliveryContext"] == GROUP


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pictures": 3}', '{"pictures": [3, {"ref": "task:1"}]}'])
def test_a_damaged_file_keeps_no_gateway_from_starting(host: PluginHost, make_plugin: MakePlugin, text: str) -> None:
    """It holds no money, only who is to be told."""
    (host.folder / "flux2-tool").mkdir()
    (host.folder / "flux2-tool" / "late.json").write_text(text)
    host.register(make_plugin())

    host.ask("start", plugin="plugin")

    assert "told by itself" in text_of(host.call("processing", context=IN_GROUP))


def test_stopping_the_gateway_ends_the_waits_and_keeps_the_note(gateway: PluginHost) -> None:
    """It must not hold up the gateway's end."""
    gateway.call("processing", context=IN_GROUP)

    gateway.ask("stop", plugin="plugin")

    assert [one["ref"] for one in waited_for(gateway)] == ["task:tsk_1"]
    assert gateway.ask("events") == []
