"""Pictures whose turn ended after the tool's result and before they were shown, in Node with a fake worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.openclaw.conftest import PluginHost, text_of
from tests.openclaw.test_late_javascript import IN_GROUP
from tests.openclaw.test_subagents_javascript import IN_CHILD, SESSIONS

MakePlugin = Callable[..., Path]
NAMED = "Note: earlier_image: task:tsk_1 ("
ENDED = {"phase": "end", "aborted": False}
STOPPED = {"phase": "error", "aborted": True}
TIMED_OUT = {**ENDED, "timeoutPhase": "provider"}


@pytest.fixture
def root(make_plugin: MakePlugin) -> Path:
    return make_plugin()


@pytest.fixture
def gateway(host: PluginHost, root: Path) -> PluginHost:
    return started(host, root)


def started(host: PluginHost, root: Path, *, name: str = "plugin") -> PluginHost:
    host.register(root, name=name, sessions=SESSIONS)
    host.ask("start", plugin=name)
    return host


def test_the_pictures_of_one_call_are_told_in_one_sentence(gateway: PluginHost) -> None:
    """Four notes about one wish would be three too many, and the fourth would come a turn later."""
    tell(gateway, "run-1", {"phase": "start"})
    hook = {"sessionKey": IN_GROUP["sessionKey"], "runId": "run-1"}
    call: dict[str, Any] = {"plugin": "plugin", "tool": "text_to_image", "call": "c", "context": IN_GROUP}
    gateway.ask("beforeToolCall", args={}, hook=hook, **call)
    gateway.ask("begin", args={"prompt": "four foxes", "count": 4}, **call)
    gateway.ask("end", call="c")
    tell(gateway, "run-1", STOPPED)

    told = call_in(gateway, "run-2", "lost", context=IN_GROUP)
    after = call_in(gateway, "run-3", "lost", context=IN_GROUP)

    assert told.count("earlier_image:") == 1
    assert "task:tsk_1, task:tsk_2, task:tsk_3, task:tsk_4 (" in told
    assert "4 images asked for earlier in this conversation" in told
    assert "earlier_image" not in after


def tell(host: PluginHost, run: str, data: dict[str, Any]) -> None:
    """Have OpenClaw say what becomes of a run."""
    host.ask("agentEvent", runId=run, data=data)


def call_in(host: PluginHost, run: str, prompt: str, *, context: dict[str, Any] = IN_GROUP, **options: Any) -> str:
    """Make a call in a run whose begin was seen; return what the model reads."""
    tell(host, run, {"phase": "start"})
    return unseen_call(host, run, prompt, context=context, **options)


def unseen_call(
    host: PluginHost, run: str, prompt: str, *, context: dict[str, Any] = IN_GROUP, task: str | None = None
) -> str:
    """Make a call in a run of which no event has told."""
    call, tool = f"call in {run}: {prompt}", "get_image_task" if task else "text_to_image"
    hook = {"sessionKey": context["sessionKey"], "runId": run}
    host.ask("beforeToolCall", plugin="plugin", tool=tool, call=call, args={}, context=context, hook=hook)
    args = {"prompt": prompt, **({"task_id": task} if task else {})}
    host.ask("begin", plugin="plugin", tool=tool, call=call, args=args, context=context)
    return text_of(host.ask("end", call=call))


def others(host: PluginHost) -> list[str]:
    """Make two calls of which the worker gives another task; return what the model reads."""
    return [call_in(host, f"later-{number}", "x", task=f"tsk_{number}") for number in (8, 9)]


def told(texts: list[str]) -> list[bool]:
    return [NAMED in text for text in texts]


def test_what_a_stopped_turn_did_not_show_is_told_once(gateway: PluginHost) -> None:
    """The tool had returned it; the person stopped the turn before the agent answered."""
    call_in(gateway, "run-1", "a kite")
    tell(gateway, "run-1", STOPPED)

    elsewhere = call_in(gateway, "run-2", "x", context={**IN_GROUP, "sessionKey": "other"}, task="tsk_7")
    texts = others(gateway)

    assert NAMED not in elsewhere
    assert told(texts) == [True, False]
    assert "get_image_task fetches it, which is free" in texts[0]


def test_what_a_failed_turn_may_have_shown_is_told_as_that(gateway: PluginHost) -> None:
    """OpenClaw may attach a picture, and then say that the model cannot be reached."""
    call_in(gateway, "run-1", "a kite")
    tell(gateway, "run-1", {"phase": "error"})

    first, second = others(gateway)

    assert "its turn failed, perhaps before it was shown; get_image_task fetches it, which is free" in first
    assert "If the user does not see it, show it; do not request it again" in first
    assert NAMED not in second


def test_an_error_tells_it_too(gateway: PluginHost) -> None:
    """It may be the conversation's last result."""
    call_in(gateway, "run-1", "a kite")
    tell(gateway, "run-1", STOPPED)

    assert NAMED in call_in(gateway, "run-2", "poor")


@pytest.mark.parametrize("ends", [[ENDED], [STOPPED, ENDED]], ids=["it ends", "another model takes over"])
def test_what_a_turn_showed_is_not_told(gateway: PluginHost, ends: list[dict[str, Any]]) -> None:
    """A second time it would be noise, and a model would show it again."""
    call_in(gateway, "run-1", "a kite")
    for data in ends:
        tell(gateway, "run-1", data)

    assert told(others(gateway)) == [False, False]


def test_what_was_fetched_since_is_not_told(gateway: PluginHost) -> None:
    """The person asked for it, and has it now."""
    call_in(gateway, "run-1", "a kite")
    tell(gateway, "run-1", STOPPED)
    own = call_in(gateway, "run-2", "", task="tsk_1")
    tell(gateway, "run-2", ENDED)

    assert NAMED not in own
    assert told(others(gateway)) == [False, False]


def test_what_a_killed_gateway_did_not_show_is_told_by_the_next(
    gateway: PluginHost, root: Path, start_host: Callable[..., PluginHost]
) -> None:
    """A process that is killed writes nothing more."""
    call_in(gateway, "run-1", "a kite")
    gateway.process.kill()
    gateway.process.wait()

    again = started(start_host(RUNAPI_API_KEY="sk-secret"), root)

    assert told(others(again)) == [True, False]


def test_a_reload_of_the_plugin_ends_no_turn(gateway: PluginHost, root: Path) -> None:
    """OpenClaw loads it anew in the same process when a setting changes."""
    call_in(gateway, "run-1", "a kite")
    gateway.ask("stop", plugin="plugin")
    started(gateway, root)
    before = others(gateway)
    tell(gateway, "run-1", ENDED)

    assert told([*before, *others(gateway)]) == [False] * 4


def test_where_openclaw_tells_nothing_of_a_run_nothing_is_claimed(
    gateway: PluginHost, root: Path, start_host: Callable[..., PluginHost]
) -> None:
    """An end that is never told is no sign that the picture was not shown."""
    unseen_call(gateway, "run-1", "a kite")
    gateway.process.kill()
    gateway.process.wait()

    again = started(start_host(RUNAPI_API_KEY="sk-secret"), root)

    assert told(others(again)) == [False, False]


# ---- a subagent's ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "is_told"),
    [
        pytest.param(STOPPED, True, id="stopped"),
        pytest.param(TIMED_OUT, True, id="timed out"),
        pytest.param({**ENDED, "stopReason": "timeout"}, True, id="timed out, by its reason"),
        pytest.param(
            {**ENDED, "stopReason": "timeout", "timeoutPhase": "post_turn"}, False, id="timed out after its answer"
        ),
        pytest.param(ENDED, False, id="answered"),
    ],
)
def test_what_an_ended_subagent_did_not_name_is_told_to_its_parent(
    gateway: PluginHost, end: dict[str, Any], is_told: bool
) -> None:
    """The picture is paid, and only the subagent's answer would have named it."""
    call_in(gateway, "run-1", "a kite", context=IN_CHILD)
    before = others(gateway)
    tell(gateway, "run-1", end)

    assert told([*before, *others(gateway)]) == [False, False, is_told, False]


def test_what_the_parent_has_fetched_from_a_subagent_is_not_told(gateway: PluginHost) -> None:
    """It was shown before the subagent was stopped."""
    call_in(gateway, "run-1", "a kite", context=IN_CHILD)
    call_in(gateway, "run-2", "", task="tsk_1")
    tell(gateway, "run-2", ENDED)
    tell(gateway, "run-1", STOPPED)

    assert told(others(gateway)) == [False, False]


def test_what_a_killed_gateways_subagent_had_is_told_to_its_parent(
    gateway: PluginHost, root: Path, start_host: Callable[..., PluginHost]
) -> None:
    """Its run does not go on, and nobody announces its answer."""
    call_in(gateway, "run-1", "a kite", context=IN_CHILD)
    gateway.process.kill()
    gateway.process.wait()

    again = started(start_host(RUNAPI_API_KEY="sk-secret"), root)

    assert told(others(again)) == [True, False]
