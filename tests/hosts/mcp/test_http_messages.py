"""Messages over HTTP that the SDK's own parser would refuse, or never answer: each is answered as over stdio."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.mcp.http_host import ACCEPT
from tests.hosts.mcp.test_http_access import Moved, application, client_of
from tests.hosts.mcp.test_process import handshake
from tests.hosts.mcp.wrong_params import WRONG_PARAMS
from tests.support.keys import KEY

from flux2_tool.hosts.mcp_http.sessions import Sessions  # isort: skip - after http_host.py, which skips without mcp

# Version 1.24 of the SDK leaves streams of its own open when the application ends: see `collected`.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"text_to_image","arguments":{%s}}}'


def answers_to(home: Path, bodies: Sequence[bytes]) -> list[tuple[int, dict[str, Any]]]:
    """Send bodies in one session, and return of each answer the status and the message."""

    async def main() -> list[tuple[int, dict[str, Any]]]:
        environ = {"HOME": str(home), "FLUX2_TOOL_HOME": str(home / "data"), "RUNAPI_API_KEY": KEY}
        async with application(Sessions(Moved()), environ) as app, client_of(app) as client:
            hello, told = handshake()
            opened = await client.post("/mcp", json=hello, headers=ACCEPT)
            headers = {**ACCEPT, "mcp-session-id": opened.headers["mcp-session-id"]}
            assert (await client.post("/mcp", json=told, headers=headers)).status_code == 202
            answers = [await client.post("/mcp", content=body, headers=headers) for body in bodies]
            return [(answer.status_code, message_of(answer.text)) for answer in answers]

    return asyncio.run(main())


def message_of(text: str) -> dict[str, Any]:
    """Return the one message of an answer, which is JSON or a stream of events; {} for none."""
    lines = [line.removeprefix("data: ") for line in text.splitlines()]
    [message] = [json.loads(line) for line in lines if line.startswith("{")] or [{}]
    return dict(message)


def test_arguments_that_are_no_text_and_no_number_are_refused_by_name(tmp_path: Path) -> None:
    """The model reads which argument is wrong, as over stdio; nothing is sent to RunAPI."""
    endless = b"1" * 5000
    wrong = [
        (rb'"prompt":"\ud800 fox"', "prompt"),
        (b'"prompt":"\xff fox"', "prompt"),
        (b'"prompt":"a fox","count":1e400', "count"),
        (b'"prompt":"a fox","count":NaN', "count"),
        (b'"prompt":"a fox","count":' + endless, "count"),
        (rb'"prompt":"a fox","source_image_urls":[{"\udfff":1}]', "source_image_urls"),
    ]

    answers = answers_to(tmp_path, [CALL % arguments for arguments, _name in wrong])

    for (arguments, name), (status, message) in zip(wrong, answers, strict=True):
        assert (status, message["id"]) == (200, 7), arguments
        error = message["result"]["structuredContent"]["error"]
        assert error["code"] == "invalid_arguments", arguments
        assert name in error["message"]


def test_a_lone_surrogate_elsewhere_does_not_hide_the_answer(tmp_path: Path) -> None:
    """It becomes a question mark, also where a tool's name or a host's own fact has it."""
    listing = rb'{"jsonrpc":"2.0","id":"x","method":"tools/list","params":{"_meta":{"arguments":"\ud800"}}}'
    unknown = rb'{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"\ud800","arguments":{}}}'
    odd = rb'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"\ud800","arguments":[]}}'

    (_, listed), (_, named), (_, refused) = answers_to(tmp_path, [listing, unknown, odd])

    assert listed["id"] == "x"
    assert listed["result"]["tools"]
    known = "text_to_image, remix_image, get_image_task"
    assert (named["id"], named["error"]["message"]) == (8, f'Unknown tool: "?"; tools are {known}')
    assert (refused["id"], "error" in refused) == (9, True)


def test_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    """As in a line over stdio: some programs' text writers begin with one."""
    [(status, message)] = answers_to(tmp_path, [b'\xef\xbb\xbf{"jsonrpc":"2.0","id":7,"method":"tools/list"}'])

    assert (status, message["id"]) == (200, 7)
    assert message["result"]["tools"]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param({"jsonrpc": "1.0", "method": "tools/list"}, id="another version"),
        pytest.param({"method": "tools/list"}, id="no version"),
        pytest.param({"jsonrpc": "2.0"}, id="no method"),
        pytest.param({"jsonrpc": "2.0", "method": 1}, id="a method that is no text"),
    ],
)
def test_what_is_no_message_is_refused_in_words_and_by_its_id(tmp_path: Path, message: dict[str, Any]) -> None:
    """Whoever writes a client learns what a message is, and which of theirs it was."""
    [(status, answer)] = answers_to(tmp_path, [json.dumps({**message, "id": 7}).encode()])

    assert (status, answer["id"], answer["error"]["code"]) == (400, 7, -32600)
    assert answer["error"]["message"].startswith('a message is a JSON object with "jsonrpc": "2.0"')


def test_an_id_that_no_answer_can_bring_back_is_refused_by_it(tmp_path: Path) -> None:
    """A client that matches answers by their ids would wait for ever for the one it gave."""
    [(status, message)] = answers_to(tmp_path, [rb'{"jsonrpc":"2.0","id":"\ud800","method":"tools/list"}'])

    assert (status, message["id"], message["error"]["code"]) == (400, "\ud800", -32600)


def test_a_request_whose_id_is_none_is_refused_and_not_left_open(tmp_path: Path) -> None:
    """Its sender would wait for ever."""
    ids = [b"true", b"NaN", b"1e400", b"1.5", b"null", b"[]", b"{}", b"1" * 5000]
    requests = [b'{"jsonrpc":"2.0","id":%s,"method":"tools/list"}' % one for one in ids]
    unknown = b'{"jsonrpc":"2.0","id":true,"method":"nope"}'
    response = b'{"jsonrpc":"2.0","id":true,"result":{}}'
    bodies = [*requests, unknown, response]

    for body, (status, message) in zip(bodies, answers_to(tmp_path, bodies), strict=True):
        assert (status, message["id"], message["error"]["code"]) == (400, None, -32600), body
        assert "id must be a string or a whole number" in message["error"]["message"]


@pytest.mark.parametrize(("params", "said"), WRONG_PARAMS)
def test_wrong_parameters_are_refused_by_name(tmp_path: Path, params: bytes, said: str) -> None:
    """As over stdio, and the id is free again."""
    body = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":%s}' % params

    for status, message in answers_to(tmp_path, [body, body]):
        assert (status, message["id"], message["error"]["code"]) == (200, 7, -32602)
        assert said in message["error"]["message"]


def test_facts_of_the_host_that_are_null_are_absent(tmp_path: Path) -> None:
    """As over stdio; the arguments are still those that were sent."""
    bodies = [
        (CALL % b'"prompt":7').replace(b'"name"', b'"_meta":%s,"name"' % meta)
        for meta in (b"null", b'{"progressToken":null}')
    ]

    for status, message in answers_to(tmp_path, bodies):
        assert (status, message["id"]) == (200, 7)
        assert "prompt" in message["result"]["structuredContent"]["error"]["message"]
