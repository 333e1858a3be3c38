"""Lines that no SDK sends: each gets an answer, and the server goes on."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.hosts.mcp_transport import MAX_LINE_BYTES
from flux2_tool.sandbox import Sandbox
from tests.hosts.mcp.test_process import handshake
from tests.hosts.mcp.wrong_params import WRONG_PARAMS
from tests.support.forked_commands import relayed
from tests.support.waiting import PATIENCE_S, wait_until

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602


class RawClient:
    """A client that sends any bytes as lines and reads the answers."""

    def __init__(self, environ: dict[str, str], **options: Any) -> None:
        self.process = subprocess.Popen(
            relayed("mcp", environ=environ), env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
        )
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        for message in handshake():
            self.send(json.dumps(message).encode())
        assert self.answer()["id"] == 1

    def send(self, line: bytes) -> None:
        """Send one line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Return the next answer."""
        return self.answers.get(timeout=PATIENCE_S)

    def is_alive(self) -> bool:
        """Whether it still answers, and had no other answer to give."""
        self.send(b'{"jsonrpc":"2.0","id":"alive","method":"ping"}')
        return self.answer() == {"jsonrpc": "2.0", "id": "alive", "result": {}}

    def close(self) -> None:
        """End the server and leave nothing behind."""
        self.process.kill()
        self.process.wait()
        self.thread.join(PATIENCE_S)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            if "id" in message:
                self.answers.put(message)


@pytest.fixture
def client(environ: dict[str, str]) -> Iterator[RawClient]:
    """A client and a server of the test's own."""
    found = RawClient(environ)
    yield found
    found.close()


def called(prompt: bytes) -> bytes:
    """Return a call of a tool with this JSON as its prompt."""
    arguments = b'{"name":"text_to_image","arguments":{"prompt":' + prompt + b"}}"
    return b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":' + arguments + b"}"


@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param(rb'"a fox \ud83e"', id="half an emoji"),
        pytest.param(rb'"a fox \udd8a"', id="its other half"),
        pytest.param(b'"a fox \xf0\x9f\xa6"', id="bytes cut in the middle of one"),
        pytest.param(b'"a fox \xff"', id="bytes that are no UTF-8"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b"-Infinity", id="infinity"),
        pytest.param(b"1e999", id="a float that is too large"),
        pytest.param(b"9" * 5000, id="a number of 5000 digits"),
        pytest.param(b"[" * 100 + b"]" * 100, id="100 levels"),
        pytest.param(b"null", id="nothing"),
    ],
)
def test_a_call_that_no_tool_can_take_is_refused_by_its_id(client: RawClient, sandbox: Sandbox, prompt: bytes) -> None:
    """A host that gets no answer waits for minutes; the model can correct what it reads about."""
    client.send(called(prompt))
    answer = client.answer()

    assert answer["id"] == 7
    assert answer["result"]["structuredContent"]["error"]["code"] == "invalid_arguments"
    assert client.is_alive()
    assert not sandbox.ledger.tasks


@pytest.mark.parametrize("method", [b"ping", b"tools/list", b"nope"])
@pytest.mark.parametrize(
    ("written", "request_id"),
    [
        pytest.param(rb'"a\ud83e"', "a\ud83e", id="half an emoji"),
        pytest.param(rb'"\udd8a"', "\udd8a", id="its other half"),
        pytest.param(b'"\xff"', "\udcff", id="a byte that is no UTF-8"),
    ],
)
def test_a_request_whose_id_is_no_text_is_refused_by_it(
    client: RawClient, method: bytes, written: bytes, request_id: str
) -> None:
    """The SDK would answer another id, and the host wait for ever."""
    client.send(b'{"jsonrpc":"2.0","id":' + written + b',"method":"' + method + b'"}')
    answer = client.answer()

    assert (answer["id"], answer["error"]["code"]) == (request_id, INVALID_REQUEST)
    assert "half a character" in answer["error"]["message"]
    assert client.is_alive()


def test_a_line_that_is_too_long_is_refused_by_its_id(client: RawClient) -> None:
    """Also by one that comes last, as the TypeScript SDK has it."""
    client.send(b'{"method":"ping","params":{"_meta":{"a":"' + b"a" * MAX_LINE_BYTES + b'"}},"jsonrpc":"2.0","id":7}')
    answer = client.answer()

    assert (answer["id"], answer["error"]["code"]) == (7, INVALID_REQUEST)
    assert f"at most {MAX_LINE_BYTES} bytes" in answer["error"]["message"]
    assert client.is_alive()


@pytest.mark.parametrize("levels", [300, 5000, 100_000])
def test_a_message_nested_too_deep_is_refused_by_its_id(client: RawClient, levels: int) -> None:
    """Whichever parser gives up first."""
    client.send(called(b"[" * levels + b"]" * levels))
    answer = client.answer()

    assert (answer["id"], answer["error"]["code"] in (INVALID_PARAMS, PARSE_ERROR)) == (7, True)
    assert "nested too deep" in answer["error"]["message"]
    assert client.is_alive()


@pytest.mark.parametrize(
    ("line", "request_id", "code"),
    [
        pytest.param(b"", None, PARSE_ERROR, id="an empty line"),
        pytest.param(b"hello", None, PARSE_ERROR, id="no JSON"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"method":"pi', None, PARSE_ERROR, id="half a line"),
        pytest.param(b"\x00\x01\xfe", None, PARSE_ERROR, id="bytes"),
        pytest.param(b"[]", None, INVALID_REQUEST, id="an empty batch"),
        pytest.param(b'[{"jsonrpc":"2.0","id":7,"method":"ping"}]', None, INVALID_REQUEST, id="a batch"),
        pytest.param(b"7", None, INVALID_REQUEST, id="a number"),
        pytest.param(b'{"jsonrpc":"1.0","id":7,"method":"ping"}', 7, INVALID_REQUEST, id="another version"),
        pytest.param(called(b'"a","count":1,"count":2'), 7, INVALID_REQUEST, id="an argument twice"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}', None, INVALID_REQUEST, id="two ids"),
        pytest.param(b'{"id":7,"method":"ping"}', 7, INVALID_REQUEST, id="no version"),
        pytest.param(b'{"jsonrpc":"2.0","id":null,"method":"ping"}', None, INVALID_REQUEST, id="a null id"),
        pytest.param(b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', None, INVALID_REQUEST, id="a fraction as id"),
        pytest.param(b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}', None, INVALID_REQUEST, id="NaN as id"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"method":5}', 7, INVALID_REQUEST, id="a method that is a number"),
        pytest.param(
            b'{"jsonrpc":"2.0","id":7,"method":"ping","params":[1]}', 7, INVALID_REQUEST, id="a list of params"
        ),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"method":"no/such"}', 7, METHOD_NOT_FOUND, id="an unknown method"),
        pytest.param(rb'{"jsonrpc":"2.0","id":7,"method":"no\ud83e"}', 7, METHOD_NOT_FOUND, id="half a method"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"method":"tools/call"}', 7, INVALID_PARAMS, id="a call of nothing"),
    ],
)
def test_a_fault_is_answered_as_one(client: RawClient, line: bytes, request_id: Any, code: int) -> None:
    """JSON-RPC: with the id where it can be told, else with null."""
    client.send(line)
    answer = client.answer()

    assert (answer["id"], answer["error"]["code"]) == (request_id, code)
    assert client.is_alive()


@pytest.mark.parametrize(("params", "said"), WRONG_PARAMS)
def test_wrong_parameters_are_refused_by_name(client: RawClient, params: bytes, said: str) -> None:
    """Who only reads that they are invalid sends the same again."""
    client.send(b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":%s}' % params)
    answer = client.answer()

    assert (answer["id"], answer["error"]["code"]) == (7, INVALID_PARAMS)
    assert said in answer["error"]["message"]
    assert client.is_alive()


@pytest.mark.parametrize("meta", [b"null", b'{"progressToken":null}'])
def test_facts_of_the_host_that_are_null_are_absent(client: RawClient, meta: bytes) -> None:
    """Serializers write them so."""
    client.send(called(b'"a fox"').replace(b'"name"', b'"_meta":%s,"name"' % meta))

    assert client.answer()["result"]["structuredContent"]["task"]["state"] == "completed"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b'{"jsonrpc":"2.0","method":"notifications/no-such"}', id="an unknown notification"),
        pytest.param(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":[]}', id="wrong params"),
        pytest.param(
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":[]}}', id="a wrong id"
        ),
        pytest.param(b'{"jsonrpc":"2.0","id":99,"result":{}}', id="a response to nothing"),
    ],
)
def test_a_notification_is_never_answered(client: RawClient, line: bytes) -> None:
    """JSON-RPC: who sends no id awaits no answer."""
    client.send(line)

    assert client.is_alive()


def test_a_byte_order_mark_is_no_part_of_a_message(client: RawClient) -> None:
    """Some shells put one before the first line that they pass on."""
    client.send(b'\xef\xbb\xbf{"jsonrpc":"2.0","id":7,"method":"ping"}\r')

    assert client.answer() == {"jsonrpc": "2.0", "id": 7, "result": {}}


def test_a_line_without_an_end_is_refused_and_passed_over(client: RawClient) -> None:
    """A host that sends a whole file must not fill the memory."""
    client.send(b'"' + b"x" * (64 * 1024 * 1024) + b'"')

    assert client.answer()["error"]["code"] == INVALID_REQUEST
    assert client.is_alive()


def test_what_was_asked_before_the_input_ended_is_answered(environ: dict[str, str]) -> None:
    """A script may pipe a file of requests in, and reads what comes out."""
    asked = [b'{"jsonrpc":"2.0","id":7,"method":"ping"}', called(rb'"a fox \ud83d"').replace(b":7,", b":8,")]
    lines = [*(json.dumps(message).encode() for message in handshake()), *asked]

    done = subprocess.run(
        relayed("mcp", environ=environ), env=environ, input=b"\n".join([*lines, b""]), capture_output=True, check=True
    )

    assert {json.loads(line)["id"] for line in done.stdout.splitlines()} == {1, 7, 8}


def test_the_id_of_a_running_request_is_refused(client: RawClient, sandbox: Sandbox) -> None:
    """Two answers under one id cannot be told apart, and the SDK cancels 7 for "7"."""
    client.send(called(b'"[slow] a glacier"'))
    wait_until(lambda: sandbox.ledger.tasks)
    client.send(called(b'"[slow] another glacier"'))

    client.send(called(b'"[slow] a third glacier"').replace(b":7,", b':"7",'))

    for _ in range(2):
        assert (answer := client.answer())["id"] is None
        assert answer["error"]["code"] == INVALID_REQUEST
    assert len(sandbox.ledger.tasks) == 1
    client.send(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}')
    assert client.is_alive()


@pytest.fixture
def unread(environ: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., RawClient]]:
    """Start a server whose stderr is a full pipe that nobody reads."""

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    clients = []

    def start(**variables: str) -> RawClient:
        clients.append(RawClient({**environ, **variables}, stderr=writing))
        return clients[-1]

    yield start
    for client in clients:
        client.close()
    os.close(reading)
    os.close(writing)


def test_calls_are_answered_while_nobody_reads_stderr(unread: Callable[..., RawClient], tmp_path: Path) -> None:
    """Hosts open the pipe and forget it; each of these calls logs a warning."""
    (tmp_path / "data").write_text("not a folder")
    client = unread(FLUX2_TOOL_JOURNAL="best_effort")
    asked = b'{"name":"get_image_task","arguments":{"task_id":"tsk_none","timeoutSeconds":0}}'
    for number in range(20):
        client.send(b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":%s}' % (number + 10, asked))

    assert {client.answer()["id"] for _ in range(20)} == set(range(10, 30))
    assert client.process.stdin is not None
    client.process.stdin.close()
    assert client.process.wait(PATIENCE_S) == 0
