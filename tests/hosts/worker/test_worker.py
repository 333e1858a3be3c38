"""The worker as the real process that a gateway runs: its protocol, its ends, and what must not reach its stdout."""

from __future__ import annotations

import base64
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.sandbox import Fault, Sandbox, SandboxOptions, running_sandbox
from flux2_tool.schema.manifest import load_manifest
from tests.support.environ import base_environ
from tests.support.harness import FOX
from tests.support.keys import KEY
from tests.support.pictures import picture
from tests.support.waiting import PATIENCE_S, wait_until
from tests.support.webhooks import SECRET, signed_webhook
from tests.support.worker_process import COMMAND, WorkerProcess, running_worker

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def runapi_server() -> Iterator[tuple[str, Sandbox]]:
    """The sandbox over real sockets, twenty times as fast as life; a [slow] picture takes longer than any test."""
    with running_sandbox(SandboxOptions(speed=20.0, slow_s=20 * 3600.0, drawn_images=False, seed=5)) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """One worker for everything that must not harm it."""
    with running_worker(tmp_path_factory.mktemp("worker")) as worker:
        yield worker


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker of the test's own."""
    with running_worker(tmp_path) as running:
        yield running


@pytest.fixture
def account(runapi_server: tuple[str, Sandbox]) -> dict[str, Any]:
    """What travels with each call."""
    return {"api_key": KEY, "base_url": runapi_server[0], "session": "s"}


# ---- calls -----------------------------------------------------------------------------------------------------------


def test_initialize_tells_version_and_manifest(shared: WorkerProcess) -> None:
    """The plugin compares both before it trusts a worker."""
    manifest = load_manifest()
    result = shared.result(shared.request("initialize", {"plugin_version": "9.9.9", "host": "native"}))

    assert result == {"version": manifest.version, "manifest_sha256": manifest.sha256}


def test_a_call_brings_the_result_object_with_progress_on_the_way(
    shared: WorkerProcess, account: dict[str, Any]
) -> None:
    """The one thing the worker is for."""
    request_id = shared.begin({"prompt": "progress please"}, **account)
    result = shared.result(request_id)
    mine = [progress for progress in shared.progress if progress["id"] == request_id]

    assert result["task"]["state"] == "completed"
    assert result["images"][0]["url"].startswith(account["base_url"])
    assert len(mine) >= 2
    assert set(mine[0]) == {"id", "state", "elapsed_s", "attempt", "message"}
    assert mine[0]["state"] == "submitting"


def test_calls_run_side_by_side_and_get_their_own_pictures(
    shared: WorkerProcess, account: dict[str, Any], runapi_server: tuple[str, Sandbox]
) -> None:
    """One worker serves a gateway with many sessions; a slow call must not hold up the others."""
    slow = shared.begin({"prompt": "a fox [slow]"}, **account)
    ids = {f"call-{n}": shared.begin({"prompt": f"fox number {n}"}, id=f"call-{n}", **account) for n in range(25)}
    results = {name: shared.result(request_id) for name, request_id in ids.items()}
    shared.notify("cancel", {"id": slow})

    assert shared.result(slow)["error"]["code"] == "cancelled"
    for n in range(25):
        task = runapi_server[1].ledger.tasks[results[f"call-{n}"]["task"]["id"]]
        assert task.arguments["prompt"] == f"fox number {n}"


def test_a_tools_failure_is_a_result_and_no_protocol_error(shared: WorkerProcess, account: dict[str, Any]) -> None:
    """The model must be able to read it."""
    failed = shared.call({"prompt": "a fox [fail]"}, **account)
    invalid = shared.call({"prompt": ""}, **account)
    unknown = shared.call({}, tool="make_video", **account)
    keyless = shared.call(FOX, base_url=account["base_url"])

    assert failed["error"]["code"] == "generation_failed"
    assert invalid["error"]["code"] == "invalid_arguments"
    assert unknown["error"]["code"] == "invalid_arguments"
    assert keyless["error"]["code"] == "missing_api_key"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"api_key": ""}, "missing_api_key"),
        ({"api_key": "${RUNAPI_API_KEY}"}, "missing_api_key"),
        ({"api_key": "sk-a\nb"}, "configuration_error"),
        ({"base_url": "http://example.com"}, "configuration_error"),
        ({"base_url": "nonsense"}, "configuration_error"),
        ({"base_url": "https://u:p@runapi.ai"}, "configuration_error"),
    ],
)
def test_a_wrong_account_is_told_as_the_set_ups_fault(
    shared: WorkerProcess, account: dict[str, Any], params: dict[str, Any], code: str
) -> None:
    """A literal ${RUNAPI_API_KEY} is the commonest mistake of all."""
    assert shared.call(FOX, **{**account, **params})["error"]["code"] == code


def test_each_call_brings_its_own_account(shared: WorkerProcess, account: dict[str, Any]) -> None:
    """A gateway may hold several keys."""
    good = shared.begin({"prompt": "a good key"}, **account)
    bad = shared.begin({"prompt": "a bad key"}, **{**account, "api_key": "not-a-sandbox-key"})

    assert shared.result(bad)["error"]["code"] == "authentication"
    assert shared.result(good)["task"]["state"] == "completed"


def test_what_image_generate_made_is_for_every_conversation_of_its_agent(
    shared: WorkerProcess, account: dict[str, Any]
) -> None:
    """OpenClaw tells it no conversation; its timeout names a task that some conversation must be able to fetch."""
    generating = {"session": {"agent_id": "main", "session_key": "image_generate"}, "unattributed": True}
    made = shared.call({"prompt": "a fox for an agent"}, **{**account, **generating})
    looks = [
        shared.call(
            {"task_id": made["task"]["ref"]},
            tool="get_image_task",
            **{**account, "session": {"agent_id": agent, "session_key": f"agent:{agent}:main"}},
        )
        for agent in ("main", "work")
    ]

    assert looks[0]["images"][0]["url"]
    assert looks[1]["error"]["code"] == "task_not_found"


def test_a_cancel_stops_one_call_before_its_picture_is_there(shared: WorkerProcess, account: dict[str, Any]) -> None:
    """The person pressed stop; the other session did not."""
    first = shared.begin({"prompt": "first [slow]"}, **account)
    other = shared.begin({"prompt": "the other one"}, **account)
    wait_until(
        lambda: any(progress["id"] == first and progress["state"] == "processing" for progress in shared.progress)
    )
    shared.notify("cancel", {"id": first})
    error = shared.result(first)["error"]

    assert (error["code"], error["charged"]) == ("cancelled", "unknown")
    assert error["task_ref"].startswith("task:tsk_")
    assert shared.result(other)["task"]["state"] == "completed"


def test_a_cancel_of_something_else_does_not_stop_call_one(worker: WorkerProcess, account: dict[str, Any]) -> None:
    """In Python True equals 1; in JSON it does not."""
    request_id = worker.begin({"prompt": "call one"}, id=1, **account)
    wrong_ids: list[Any] = [True, 1.0, "1", None, [], {}, 10**30]
    for wrong_id in wrong_ids:
        worker.notify("cancel", {"id": wrong_id})
    worker.notify("cancel", {})

    assert worker.result(request_id)["task"]["state"] == "completed"


# ---- protocol faults -------------------------------------------------------------------------------------------------

_HEAD = {"jsonrpc": "2.0"}
PARSE, INVALID, NO_METHOD, PARAMS = -32700, -32600, -32601, -32602
_CALL = {"tool": "text_to_image", "arguments": FOX}
_WRONG: list[tuple[str, Any]] = [
    ("api_key", 5),
    ("base_url", []),
    ("workspace_dir", {}),
    ("state_dir", False),
    ("output_dir", 1),
    ("source_dirs", "/a/folder"),
    ("source_dirs", [1]),
    ("source_dirs", [""]),
    ("wait_s", "long"),
    ("wait_s", -1),
    ("wait_s", True),
    ("wait_s", float("nan")),
    ("wait_s", 10**400),
]


FAULTS: list[Any] = [
    pytest.param(b"hello", None, PARSE, id="text"),
    pytest.param(b"\xff\xfe\xfa", None, PARSE, id="no text"),
    pytest.param(b'{"jsonrpc": "2.0", "id": 1, "method": "init', None, PARSE, id="half a message"),
    pytest.param(b"[" * 100_000, None, PARSE, id="deep nesting"),
    pytest.param(b"\x00" * 100, None, PARSE, id="zeros"),
    pytest.param(b'{"id": ' + b"9" * 5000 + b"}", None, PARSE, id="an endless number"),
    pytest.param([], None, INVALID, id="a batch"),
    pytest.param("initialize", None, INVALID, id="a string"),
    pytest.param(7, None, INVALID, id="a number"),
    pytest.param({"id": 70, "method": "initialize"}, None, INVALID, id="no version"),
    pytest.param({"jsonrpc": "1.0", "id": 71, "method": "initialize"}, None, INVALID, id="another version"),
    pytest.param({**_HEAD, "id": 72}, 72, INVALID, id="no method"),
    pytest.param({**_HEAD, "id": 73, "method": 5}, 73, INVALID, id="a method that is a number"),
    pytest.param({**_HEAD, "id": 74, "method": "generate"}, 74, NO_METHOD, id="an unknown method"),
    pytest.param({**_HEAD, "id": "\ud800", "method": "\x1b[31m\ud800"}, "\ud800", NO_METHOD, id="surrogates"),
    pytest.param({**_HEAD, "id": None, "method": "initialize"}, None, INVALID, id="a null id"),
    pytest.param({**_HEAD, "id": True, "method": "initialize"}, None, INVALID, id="an id that is true"),
    pytest.param({**_HEAD, "id": 1.5, "method": "initialize"}, None, INVALID, id="an id with a fraction"),
    pytest.param({**_HEAD, "id": {}, "method": "initialize"}, None, INVALID, id="an id that is an object"),
    pytest.param({**_HEAD, "id": 75, "method": "call", "params": []}, 75, PARAMS, id="params as a list"),
    pytest.param({**_HEAD, "id": 76, "method": "call", "params": "x"}, 76, PARAMS, id="params as text"),
    pytest.param({**_HEAD, "id": 77, "method": "call", "params": {}}, 77, PARAMS, id="no tool"),
    pytest.param({**_HEAD, "id": 78, "method": "call", "params": {"tool": 3}}, 78, PARAMS, id="a numbered tool"),
    *(
        pytest.param(
            {**_HEAD, "id": 79, "method": "call", "params": {**_CALL, name: wrong}},
            79,
            PARAMS,
            id=f"a wrong {name}",
        )
        for name, wrong in _WRONG
    ),
    pytest.param({**_HEAD, "id": 80, "method": "initialize", "params": {"host": "word"}}, 80, PARAMS, id="host"),
    pytest.param({**_HEAD, "id": 81, "method": "initialize", "params": {"host": []}}, 81, PARAMS, id="host list"),
    pytest.param({**_HEAD, "id": 82, "method": "initialize", "params": {"config": 5}}, 82, PARAMS, id="config"),
    pytest.param(b'{"a": "' + b"x" * MIB + b'"}', None, INVALID, id="more than 1 MiB"),
    pytest.param(b'{"jsonrpc":"2.0","id":83,"a":"' + b"x" * MIB + b'"}', 83, INVALID, id="more, its id first"),
    pytest.param(b'{"a":"' + b"x" * MIB + b'","id":84}', 84, INVALID, id="more, its id last"),
    pytest.param(b'{"a":"' + b"x" * 5 * MIB + b'", "id": "last"}\r', "last", INVALID, id="5 MiB, its id last"),
    pytest.param(b'{"a":{"b":"' + b"x" * MIB + b'","id":85}}', None, INVALID, id="more, another id last"),
    pytest.param(b'{"a":"' + b"x" * MIB + b',\\"id\\":85}"}', None, INVALID, id="more, a text with an id last"),
    pytest.param(b'{"id":86,"a":"' + b"x" * MIB + b'","id":87}', None, INVALID, id="more, two ids"),
    pytest.param(b"x" * 5 * MIB, None, INVALID, id="5 MiB of garbage"),
]


@pytest.mark.parametrize(("line", "request_id", "code"), FAULTS)
def test_a_protocol_fault_is_answered_as_one(shared: WorkerProcess, line: Any, request_id: Any, code: int) -> None:
    """Its sender learns what was wrong, and the worker goes on."""
    shared.send(line)
    found = shared.answer(request_id)

    assert found["error"]["code"] == code
    assert 0 < len(found["error"]["message"]) < 300
    assert "result" not in found
    assert shared.is_alive()


def test_all_these_faults_together_harm_no_other_call(worker: WorkerProcess, account: dict[str, Any]) -> None:
    """One broken peer, or one broken message, must not take the gateway's other sessions down."""
    calls = [worker.begin({"prompt": f"beside faults {n}"}, **account) for n in range(3)]
    for fault in FAULTS:
        worker.send(fault.values[0])

    assert [worker.result(call)["task"]["state"] for call in calls] == ["completed"] * 3


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"   ",
        {**_HEAD, "method": "cancel", "params": {"id": 424242}},
        {**_HEAD, "method": "cancel", "params": []},
        {**_HEAD, "method": "cancel"},
        {**_HEAD, "method": "initialize"},
        {**_HEAD, "method": "call", "params": {**_CALL, "api_key": KEY}},
        {**_HEAD, "method": "shutdown"},
        {**_HEAD, "method": "progress", "params": {"id": 1}},
        {**_HEAD, "method": "nonsense\n", "params": "x"},
    ],
)
def test_a_notification_is_never_answered(tmp_path: Path, message: Any) -> None:
    """JSON-RPC: who sends no id awaits no answer, and a request without an id must not run as one."""
    with running_worker(tmp_path) as worker:
        worker.send(message)
        assert worker.is_alive()
        assert worker.end() == 0

    assert len(worker.lines) == 1


def test_a_message_of_exactly_one_mebibyte_is_read(shared: WorkerProcess) -> None:
    """The bound is on the message; its line end is not part of it."""
    head, tail = b'{"jsonrpc": "2.0", "id": "big", "method": "initialize", "params": {"x": "', b'"}}'
    message = head + b"x" * (MIB - len(head) - len(tail)) + tail

    assert len(message) == MIB
    shared.send(message)
    assert "version" in shared.result("big")
    shared.send(message.replace(b'"x": "', b'"x": "y'))
    assert shared.answer("big")["error"]["code"] == INVALID


class LargeAnswers(BaseHTTPRequestHandler):
    """A service whose finished task names as many and as long links as this version reads, all of them Chinese."""

    def do_POST(self) -> None:
        """Accept the image and answer it at once."""
        self.rfile.read(int(self.headers["Content-Length"]))
        links = [f"https://images.example/{n}/" + "狐" * 8000 for n in range(64)]
        task = {"id": "tsk_large", "status": "completed", "images": [{"url": link} for link in links]}
        body = json.dumps(task, ensure_ascii=False).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_a_result_larger_than_a_message_is_an_error_that_names_the_task(worker: WorkerProcess) -> None:
    """The plugin ends a worker whose line has no end, and with it the calls of every other session."""
    with ThreadingHTTPServer(("127.0.0.1", 0), LargeAnswers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base_url = f"http://127.0.0.1:{server.server_port}"
        error = worker.call(FOX, api_key=KEY, base_url=base_url, session="s")["error"]
        server.shutdown()

    assert (error["code"], error["task_ref"], error["charged"]) == ("internal_error", "task:tsk_large", "yes")
    assert max(map(len, worker.lines)) <= MIB


def test_an_id_in_use_is_refused_without_ending_the_call_that_has_it(
    worker: WorkerProcess, account: dict[str, Any]
) -> None:
    """An error under the running call's id would be taken for that call's answer."""
    worker.begin({"prompt": "the first"}, id="twice", **account)
    worker.begin({"prompt": "the second"}, id="twice", **account)
    refused = worker.answer(None)["error"]
    result = worker.result("twice")

    assert refused["code"] == INVALID
    assert "twice" in refused["message"]
    assert result["task"]["state"] == "completed"
    assert worker.call({"prompt": "the third"}, id="twice", **account)["task"]["state"] == "completed"


def test_one_and_the_text_one_are_two_ids(worker: WorkerProcess, account: dict[str, Any]) -> None:
    """JSON tells numbers from strings."""
    worker.begin({"prompt": "number"}, id=1, **account)
    worker.begin({"prompt": "text"}, id="1", **account)

    assert worker.result(1)["task"]["id"] != worker.result("1")["task"]["id"]


@pytest.mark.parametrize("depth", [30, 500, 900])
def test_deeply_nested_arguments_are_refused_as_arguments(shared: WorkerProcess, depth: int) -> None:
    """A model can write such a thing; the worker must live on."""
    nested = '{"prompt": ' + "[" * depth + "]" * depth + "}"
    params = f'{{"tool":"text_to_image","api_key":"{KEY}","arguments":{nested}}}'
    shared.send(f'{{"jsonrpc":"2.0","id":"deep","method":"call","params":{params}}}'.encode())

    assert shared.result("deep")["error"]["code"] == "invalid_arguments"
    assert shared.is_alive()


def test_several_messages_in_one_write_and_one_in_several_are_all_read(worker: WorkerProcess) -> None:
    """A pipe knows no messages."""
    message = b'{"jsonrpc":"2.0","id":%d,"method":"initialize"}'
    worker.send(b"\n".join(message % n for n in range(5)))
    for piece in (b'{"jsonrpc":"2.0",', b'"id":9,"met', b'hod":"initialize"}\r\n'):
        assert worker.process.stdin
        worker.process.stdin.write(piece)
        worker.process.stdin.flush()
        time.sleep(0.02)

    assert all("version" in worker.result(n) for n in (0, 1, 2, 3, 4, 9))


# ---- its stdout ------------------------------------------------------------------------------------------------------

_NOISY = """
import os, subprocess, sys, threading, time
import flux2_tool.hosts.worker.server
def noise():
    while True:
        print("noise by print")
        sys.stdout.flush()
        os.write(1, b"noise by write\\n")
        subprocess.run(["echo", "noise by a child"])
        time.sleep(0.005)
threading.Timer(0.3, noise).start()
sys.exit(flux2_tool.hosts.worker.server.main())
"""


def test_nothing_but_protocol_reaches_stdout_whatever_prints(tmp_path: Path, account: dict[str, Any]) -> None:
    """One stray line of a library would break the plugin's parser."""
    with running_worker(tmp_path, (sys.executable, "-c", _NOISY)) as worker:
        wait_until(lambda: "noise by a child" in worker.stderr)
        result = worker.call(FOX, **account)
        assert worker.end() == 0

    assert result["task"]["state"] == "completed"
    for line in worker.lines:
        assert json.loads(line)["jsonrpc"] == "2.0"
    for kind in ("print", "write", "a child"):
        assert f"noise by {kind}" in worker.stderr


def test_lines_are_plain_ascii(shared: WorkerProcess, account: dict[str, Any]) -> None:
    """Line separators of Unicode inside a message would cut it in two for some readers."""
    shared.call({"prompt": "行\u2028と\u2029列\u0085", "sed": "x"}, **account)

    assert all(line.isascii() and line.endswith(b"\n") for line in shared.lines)


def test_the_key_is_not_logged(tmp_path: Path, account: dict[str, Any], runapi_server: tuple[str, Sandbox]) -> None:
    """Gateway logs are shared when people ask for help."""
    key = "sk-worker-log-canary-7f3a"
    with running_worker(tmp_path) as worker:
        runapi_server[1].faults.queue(Fault(kind="status", on="create", status=500))
        worker.call({"prompt": "a key to keep"}, **{**account, "api_key": key})
        worker.call({"prompt": "a fox [fail]"}, **{**account, "api_key": key})
        worker.send(
            json.dumps({"jsonrpc": "2.0", "id": 1, "method": "call", "params": {"api_key": key, "tool": 5}}).encode()
        )
        worker.answer(1)
        worker.send(f'{{"api_key": "{key}", broken'.encode())
        worker.answer(None)
        worker.end()

    assert "generation_failed" in worker.stderr
    assert key not in worker.stderr
    assert key.encode() not in b"".join(worker.lines)


# ---- its ends --------------------------------------------------------------------------------------------------------


def test_shutdown_answers_the_calls_in_flight_and_ends(worker: WorkerProcess, account: dict[str, Any]) -> None:
    """A gateway that stops wants an answer for every call it has open."""
    call = worker.begin({"prompt": "a fox [slow]"}, **account)
    wait_until(lambda: worker.progress)
    shutdown = worker.request("shutdown")

    assert worker.result(call)["error"]["code"] == "cancelled"
    assert worker.result(shutdown) == {}
    assert worker.wait(10) == 0


def test_it_ends_with_its_input(worker: WorkerProcess, account: dict[str, Any]) -> None:
    """The pipe is the leash: a gateway that is gone must leave no worker behind."""
    call = worker.begin({"prompt": "a fox [slow]"}, **account)
    wait_until(lambda: worker.progress)

    assert worker.end() == 0
    assert worker.result(call)["error"]["code"] == "cancelled"


def test_it_ends_when_nobody_reads_it_any_more(worker: WorkerProcess) -> None:
    """A closed stdout is a peer that is gone, also while stdin stays open."""
    assert worker.is_alive()
    worker._threads[0].join(0.1)
    assert worker.process.stdout
    descriptor = worker.process.stdout.fileno()
    null = os.open(os.devnull, os.O_RDONLY)
    # The reading thread sits in a read of this pipe; put another file under it, so that the pipe has no reader.
    os.dup2(null, descriptor)
    os.close(null)

    def is_gone() -> bool:
        with suppress(BrokenPipeError):
            worker.request("initialize")
            return worker.process.poll() is not None
        return True

    wait_until(is_gone)

    assert worker.process.wait(PATIENCE_S) == 0


_PARENT = """
import subprocess, sys, time
worker = subprocess.Popen(sys.argv[2:], stdin=int(sys.argv[1]))
print("started", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_parent_even_while_its_input_stays_open(tmp_path: Path, number: signal.Signals) -> None:
    """A child of the gateway may have inherited the pipe; then no end of input ever comes."""
    reading, writing = os.pipe()
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(reading), *COMMAND],
        pass_fds=(reading,),
        stdout=subprocess.PIPE,
        env={**base_environ(), "HOME": str(tmp_path)},
    )
    os.close(reading)
    assert parent.stdout
    try:
        assert parent.stdout.readline() == b"started\n"
        os.write(writing, b'{"jsonrpc":"2.0","id":1,"method":"initialize"}\n')
        assert b"version" in parent.stdout.readline()
        parent.send_signal(number)
        parent.wait()
        # The worker shares this stdout: its end is the worker's end.
        ended: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=lambda: ended.put(parent.stdout.read() if parent.stdout else b""), daemon=True).start()
        assert ended.get(timeout=15) == b""
    finally:
        parent.kill()
        parent.wait()
        os.close(writing)
        parent.stdout.close()


def test_a_worker_that_was_killed_leaves_its_task_to_the_next_one(
    tmp_path: Path, account: dict[str, Any], runapi_server: tuple[str, Sandbox]
) -> None:
    """The picture is paid for, whoever dies; the equal call of the next worker gets it."""
    sandbox = runapi_server[1]
    made_before = len(sandbox.ledger.tasks)
    with running_worker(tmp_path, COMMAND) as first:
        first.begin({"prompt": "survivor"}, **account)
        wait_until(lambda: any(progress["state"] == "processing" for progress in first.progress))
        first.process.kill()
    with running_worker(tmp_path) as second:
        result = second.call({"prompt": "survivor"}, **account)

    assert result["task"]["state"] == "completed"
    assert result["task"]["joined"] is True
    assert len(sandbox.ledger.tasks) == made_before + 1


@pytest.mark.parametrize(
    ("ending", "is_joined"),
    [
        pytest.param("its pipes break", True, id="the gateway died"),
        pytest.param("shutdown", False, id="the gateway read it and said good-bye"),
    ],
)
def test_a_possibly_unread_answer_is_given_again_by_the_next_worker(
    tmp_path: Path, account: dict[str, Any], ending: str, is_joined: bool
) -> None:
    """A gateway that dies just after the worker has answered must not make its user pay for the picture again."""
    with running_worker(tmp_path) as first:
        made = first.call(FOX, **account)
        if ending == "shutdown":
            first.result(first.request("shutdown"))
            first.wait()
        else:
            first.end()
    with running_worker(tmp_path) as second:
        again = second.call(FOX, **account)

    assert again["task"]["joined"] is is_joined
    assert (again["task"]["id"] == made["task"]["id"]) is is_joined


# ---- settings --------------------------------------------------------------------------------------------------------


def test_the_configuration_of_initialize_holds(worker: WorkerProcess, account: dict[str, Any]) -> None:
    """Under OpenClaw the plugin's config is the only source of settings."""
    worker.result(worker.request("initialize", {"host": "native", "config": {"wait_s": 0}}))
    result = worker.call({"prompt": "a fox [slow]"}, **account)

    assert result["task"]["state"] == "processing"


def test_a_wrong_configuration_is_a_readable_failure_of_the_call(
    worker: WorkerProcess, account: dict[str, Any]
) -> None:
    """The agent can tell its user what to mend."""
    worker.result(worker.request("initialize", {"config": {"wait_s": -5}}))
    error = worker.call(FOX, **account)["error"]

    assert error["code"] == "configuration_error"
    assert "wait_s: -5 is not" in error["message"]
    assert error["hint"]


def test_a_key_that_is_no_setting_stops_images_only_if_it_may_be_a_cap(
    worker: WorkerProcess, account: dict[str, Any]
) -> None:
    """A misspelt cap limits nothing; any other misspelling costs nothing, and what was paid for is still fetched."""
    worker.result(worker.request("initialize", {"config": {"wait": 5, "dayly_cap_usd": 1}}))
    refused = worker.call(FOX, **account)["error"]
    question = worker.result(worker.request("question", {"tool": "text_to_image", "arguments": FOX, **account}))
    fetched = worker.call({"task_id": "tsk_unknown"}, tool="get_image_task", **account)["error"]

    assert refused["code"] == "configuration_error"
    assert "plugins.entries.flux2.config.dayly_cap_usd is not a setting (nearest: daily_cap_usd)" in refused["message"]
    assert "wait" not in refused["message"]
    assert "openclaw config unset plugins.entries.flux2.config.dayly_cap_usd" in refused["hint"]
    assert question == {"question": None}
    assert fetched["code"] == "task_not_found"


def test_a_misspelt_cap_in_its_environment_makes_no_image(tmp_path: Path, account: dict[str, Any]) -> None:
    """Outside OpenClaw it reads its settings there."""
    with running_worker(tmp_path, FLUX2_TOOL_DAYLY_CAP_USD="0.01") as worker:
        refused = worker.call(FOX, **account)["error"]
        fetched = worker.call({"task_id": "tsk_unknown"}, tool="get_image_task", **account)["error"]

    assert refused["code"] == "configuration_error"
    assert "rename FLUX2_TOOL_DAYLY_CAP_USD to FLUX2_TOOL_DAILY_CAP_USD" in refused["hint"]
    assert fetched["code"] == "task_not_found"


def test_the_account_is_asked_for_and_costs_nothing(worker: WorkerProcess, account: dict[str, Any]) -> None:
    """doctor judges the key and the address that the gateway has, and not those of a shell."""
    worker.result(worker.request("initialize", {"config": {"daily_cap_usd": 2}}))
    worker.call(FOX, **account)
    found = worker.result(worker.request("account", account))
    missing = worker.result(worker.request("account", {"base_url": account["base_url"]}))

    assert account["api_key"] not in repr((found, missing))
    assert found["service"]["base_url"] == account["base_url"]
    assert (found["service"]["status"], found["service"]["balance_usd"] > 0) == (200, True)
    assert (found["spending"]["spent_usd"], found["spending"]["cap_usd"]) == (0.05, 2)
    assert missing["error"]["code"] == "missing_api_key"


def test_a_webhook_is_accepted_when_it_is_signed_with_the_secret(worker: WorkerProcess) -> None:
    """The gateway's route is public: what the worker accepts decides what its sender is answered."""
    config = {"callback_public_url": "https://agent.example.com", "callback_secret": SECRET}
    worker.result(worker.request("initialize", {"config": config}))
    headers, body = signed_webhook("tsk_abc123", now=time.time())
    request = {"headers": headers, "body_base64": base64.b64encode(body).decode()}
    forged = {**request, "body_base64": base64.b64encode(body + b" ").decode()}

    assert worker.result(worker.request("webhook", request)) == {"accepted": True}
    assert worker.result(worker.request("webhook", forged)) == {"accepted": False}


def test_without_a_public_address_no_webhook_is_accepted(worker: WorkerProcess) -> None:
    """Nobody was told to send one, and there is no secret to check it with."""
    headers, body = signed_webhook("tsk_abc123", now=time.time())
    request = {"headers": headers, "body_base64": base64.b64encode(body).decode()}

    assert worker.result(worker.request("webhook", request)) == {"accepted": False}


def test_a_webhook_under_a_wrong_configuration_is_a_readable_fault(worker: WorkerProcess) -> None:
    """It has no result object to carry the error; the gateway's log must still say what to correct."""
    greeting = {"config": {"wait_s": -5}}
    worker.result(worker.request("initialize", greeting))
    error = worker.answer(worker.request("webhook", {"headers": {}, "body_base64": ""}))["error"]

    assert error["code"] == PARAMS
    assert "wait_s" in error["message"]
    assert "plugins.entries.flux2.config" in error["message"]
    assert "version" in worker.result(worker.request("initialize", greeting))


def test_the_calls_own_wait_is_obeyed(shared: WorkerProcess, account: dict[str, Any]) -> None:
    """The plugin knows the host's patience; the picture and the default wait would both take minutes."""
    result = shared.call({"prompt": "a wait of its own [slow]"}, wait_s=0.5, **account)

    assert result["task"]["state"] == "processing"


def test_a_host_may_lend_a_folder_for_sources_and_one_for_pictures(
    shared: WorkerProcess, account: dict[str, Any], tmp_path: Path
) -> None:
    """OpenClaw's own image tool deals in bytes; they travel as files of a folder that lives as long as the call."""
    lent = tmp_path / "lent"
    lent.mkdir()
    (lent / "source-1").write_bytes(picture())
    arguments = {"prompt": "as a drawing", "source_image_urls": [str(lent / "source-1")]}
    account = {**account, "workspace_dir": str(tmp_path / "workspace")}

    made = shared.call(arguments, tool="remix_image", source_dirs=[str(lent)], output_dir=str(lent), **account)
    refused = shared.call(arguments, tool="remix_image", **account)

    [image] = made["images"]
    path = Path(image["path"])
    assert path.parent == lent
    assert path.stat().st_mode & 0o077 == 0
    assert refused["error"]["code"] == "source_refused"


def test_what_a_killed_worker_left_is_told_by_the_next(tmp_path: Path, account: dict[str, Any]) -> None:
    """A gateway that is killed takes its memory along, and not the journal: the picture is paid and was never shown."""
    with running_worker(tmp_path) as first:
        first.begin({"prompt": "a picture nobody saw"}, **account)
        wait_until(lambda: [one for one in first.progress if one.get("task_ref")])
        ref = next(one["task_ref"] for one in first.progress if one.get("task_ref"))
        first.process.kill()
        first.process.wait(PATIENCE_S)
    with running_worker(tmp_path) as second:
        told = wait_until(lambda: second.call({"prompt": "another"}, **account)["warnings"])
        fetched = second.call({"task_id": ref}, tool="get_image_task", **account)
        after = second.call({"prompt": "a third"}, **account)

    assert [ref in text and "get_image_task" in text for text in told] == [True]
    assert fetched["task"]["state"] == "completed"
    assert after["warnings"] == []


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param('"method":"initialize","params":{}', id="initialize"),
        pytest.param('"method":"paint"', id="an unknown method"),
        pytest.param('"method":"call","params":[]', id="params that are none"),
        pytest.param('"method":"webhook","params":{}', id="webhook"),
        pytest.param('"method":"call","method":"call"', id="a key twice"),
    ],
)
def test_nothing_else_is_answered_under_a_calls_id(shared: WorkerProcess, account: dict[str, Any], rest: str) -> None:
    """The plugin would take it for the call's result, and nobody would see the picture."""
    request_id = shared.begin({"prompt": f"[slow] {rest}"}, **account)
    shared.send(f'{{"jsonrpc":"2.0","id":{request_id},{rest}}}'.encode())

    assert shared.answer(None)["error"]["code"] == -32600
    shared.notify("cancel", {"id": request_id})
    assert "error" not in shared.answer(request_id)
