"""The plugin's own deadlines: a worker that hangs, whatever way, never holds up a session and is replaced."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.openclaw.conftest import PluginHost, text_of
from tests.openclaw.test_plugin_javascript import assert_ended

MakePlugin = Callable[..., Path]

HURRY = 100
"""The plugin's deadlines are divided by this, so that no test sits them out."""


@pytest.fixture
def stop() -> Iterator[Callable[[int], None]]:
    """Stop a process, as a hung disk would; it goes on at the end, so that it can be killed or end."""
    with ExitStack() as stack:

        def stopped(pid: int) -> None:
            os.kill(pid, signal.SIGSTOP)
            stack.callback(_continue, pid)

        yield stopped


def _continue(pid: int) -> None:
    with suppress(ProcessLookupError):  # killed by the plugin, as it should be
        os.kill(pid, signal.SIGCONT)


def error_of(outcome: dict[str, Any]) -> dict[str, Any]:
    """The error object of a failed call."""
    error: dict[str, Any] = outcome["details"]["result"]["error"]
    return error


def test_a_stopped_worker_is_killed_and_every_call_answered(
    host: PluginHost, make_plugin: MakePlugin, stop: Callable[[int], None]
) -> None:
    """Nobody aborts, and no wait is over: only the silence tells."""
    host.register(make_plugin())
    calls = [host.begin(prompt) for prompt in ("deaf", "deaf-with-task")]
    for call in calls:
        host.wait_for_progress(call)
    stuck = host.pid()
    stop(stuck)
    host.ask("hurry", times=HURRY)
    calls.append(host.begin("a fox that came later"))

    unknown, known, later = (error_of(host.ask("end", call=call)) for call in calls)
    host.ask("hurry", times=1)

    assert {error["code"] for error in (unknown, known, later)} == {"worker_stopped"}
    assert {error["charged"] for error in (unknown, known, later)} == {"unknown"}
    assert known["task_ref"] == "task:tsk_7"
    assert 'get_image_task with task_id "task:tsk_7"' in known["hint"]
    assert "make the same call again" in unknown["hint"]
    assert_ended(stuck)
    assert host.call("fox")["details"]["media"]["mediaUrls"]
    assert host.pid() != stuck


@pytest.mark.parametrize("signals", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_the_text_says_what_may_be_charged_and_how_to_fetch_it(
    host: PluginHost, make_plugin: MakePlugin, signals: signal.Signals
) -> None:
    """The model has only the text, and must not pay for a second picture."""
    host.register(make_plugin())
    call = host.begin("deaf-with-task")
    host.wait_for_progress(call)
    host.ask("hurry", times=HURRY)
    os.kill(host.pid(), signals)

    text = text_of(host.ask("end", call=call))

    assert "task:tsk_7 goes on at RunAPI and may be charged" in text
    assert 'Call get_image_task with task_id "task:tsk_7" to fetch the image; do not request it again.' in text
    assert "(worker_stopped, charged: unknown, retryable: yes, task:tsk_7)" in text


def test_a_call_that_a_living_worker_forgets_ends_by_itself(host: PluginHost, make_plugin: MakePlugin) -> None:
    """It answers everything else, so only the call's own wait tells."""
    host.register(make_plugin(), config={"wait_s": 1})
    call = host.begin("deaf-with-task")
    host.wait_for_progress(call)
    forgetful = host.pid()
    host.ask("hurry", times=HURRY)
    # Its deadline began before time was hurried; this one's is hurried, and is over first.
    second = host.begin("deaf-with-task")

    error = error_of(host.ask("end", call=second))
    host.ask("hurry", times=1)

    assert (error["code"], error["task_ref"]) == ("worker_stopped", "task:tsk_7")
    assert host.call("fox")["details"]["media"]["mediaUrls"]
    assert host.pid() != forgetful


def test_a_replaced_worker_finishes_the_calls_of_others(
    host: PluginHost, make_plugin: MakePlugin, tmp_path: Path
) -> None:
    """One call that got lost is no reason to lose a picture that is being made."""
    host.register(make_plugin())
    gate = tmp_path / "gate"
    other = host.begin(f"until {gate}")
    host.wait_for_progress(other)
    first = host.pid()
    lost = host.begin("deaf")
    host.wait_for_progress(lost)
    host.ask("hurry", times=HURRY)

    host.ask("abort", call=lost)
    assert error_of(host.ask("end", call=lost))["code"] == "cancelled"
    host.ask("hurry", times=1)
    assert host.call("fox")["details"]["media"]["mediaUrls"]
    second = host.pid()
    gate.touch()
    outcome = host.ask("end", call=other)

    assert second != first
    assert outcome["details"]["result"]["task"]["state"] == "completed"
    assert_ended(first)


def test_a_worker_that_ignores_an_abort_is_replaced(host: PluginHost, make_plugin: MakePlugin) -> None:
    """It would be as deaf to the next one."""
    host.register(make_plugin())
    call = host.begin("deaf-with-task")
    host.wait_for_progress(call)
    deaf = host.pid()
    host.ask("hurry", times=HURRY)

    host.ask("abort", call=call)
    error = error_of(host.ask("end", call=call))
    host.ask("hurry", times=1)

    assert (error["code"], error["charged"], error["task_ref"]) == ("cancelled", "unknown", "task:tsk_7")
    assert_ended(deaf)
    assert host.call("fox")["details"]["media"]["mediaUrls"]


def test_output_that_is_no_message_is_no_sign_of_life(
    host: PluginHost, make_plugin: MakePlugin, tmp_path: Path
) -> None:
    """A thread that prints for ever says nothing about the one that should answer."""
    python = tmp_path / "babbling"
    worker = (
        "import sys, json, time\n"
        "hello = json.loads(sys.stdin.readline())\n"
        "version, sha = sys.argv[1:3]\n"
        "answer = {'jsonrpc': '2.0', 'id': hello['id'], 'result': {'version': version, 'manifest_sha256': sha}}\n"
        "print(json.dumps(answer), flush=True)\n"
        "while True:\n"
        "    print('no message of the protocol', flush=True)\n"
        "    print('WARNING nor is this', file=sys.stderr, flush=True)\n"
        "    time.sleep(0.01)\n"
    )
    bundle = make_plugin(python=str(python))
    tools = json.loads((bundle / "dist" / "tools.json").read_text())
    (tmp_path / "babbling.py").write_text(worker)
    arguments = f'"{tmp_path / "babbling.py"}" {tools["version"]} {tools["manifest_sha256"]}'
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}\n')
    python.chmod(0o755)
    host.register(bundle)
    host.ask("hurry", times=HURRY // 5)

    assert error_of(host.call("fox"))["code"] == "worker_stopped"


def test_a_wrapper_that_leaves_a_child_does_not_hold_up_a_call(
    host: PluginHost, make_plugin: MakePlugin, tmp_path: Path
) -> None:
    """The child keeps the worker's pipes open, so their end is no sign of the worker's."""
    python = tmp_path / "wrapper"
    python.write_text("#!/bin/sh\nsleep 600 &\necho $! > child\nexit 3\n")
    python.chmod(0o755)
    host.register(make_plugin(python=str(python)))

    error = error_of(host.call("fox"))
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)

    assert error["code"] == "configuration_error"
    assert "code 3" in error["message"]


def test_a_gateway_that_is_busy_itself_blames_nobody(host: PluginHost, make_plugin: MakePlugin, tmp_path: Path) -> None:
    """All of its timers are late then, and the worker's answers wait in the pipe."""
    host.register(make_plugin())
    gate = tmp_path / "gate"
    call = host.begin(f"until {gate}")
    host.wait_for_progress(call)
    first = host.pid()
    host.ask("hurry", times=HURRY // 5)
    second = host.begin(f"until {gate}")
    host.wait_for_progress(second)

    host.ask("block", ms=2500)  # longer than it would wait for a sign of life
    gate.touch()

    assert [host.ask("end", call=one)["details"]["result"]["task"]["state"] for one in (call, second)] == [
        "completed",
        "completed",
    ]
    assert host.pid() == first


def test_the_doctor_method_notices_a_stuck_worker(
    host: PluginHost, make_plugin: MakePlugin, stop: Callable[[int], None]
) -> None:
    """A worker that started well an hour ago may hang today."""
    host.register(make_plugin())
    host.call("fox")
    stop(host.pid())
    host.ask("hurry", times=HURRY)

    found = host.ask("gatewayMethod", plugin="plugin", method="flux2.doctor")
    host.ask("hurry", times=1)

    assert found["answer"]["worker"]["problem"]["error"]["code"] == "worker_stopped"
    assert host.ask("gatewayMethod", plugin="plugin", method="flux2.doctor")["answer"]["worker"] == {"problem": None}
