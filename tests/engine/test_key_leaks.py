"""The key stays out of everything that anybody may read: results, errors, logs, reprs, progress and files."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from flux2_tool._redaction import SecretStr, visible
from flux2_tool.engine.wait import Progress
from flux2_tool.runapi.client import RunapiClient
from flux2_tool.runapi.http_client import open_http
from flux2_tool.sandbox import Fault, SandboxOptions
from tests.chaos.world import records_of
from tests.support.harness import (
    BASE_URL,
    DONE,
    FOX,
    PICTURE_URL,
    Answer,
    MockService,
    SandboxTransport,
    Seen,
    credentials,
    json_answer,
    opened_tool,
    run_call,
    scripted,
)
from tests.support.virtual_time import run_virtual

# With characters that URLs, JSON and base64 write differently.
KEY = 'sk-canary/8f3aQz+7L0v="q\\w'


def forms_of(key: str) -> Iterator[bytes]:
    """Yield every way the key could be written: plain, quoted, hexadecimal, base64 at each alignment."""
    yield key.encode()
    # Messages write quotation marks and backslashes in their own way; what stands before those is enough to tell.
    yield key.partition('"')[0].encode()
    yield quote(key).encode()
    yield quote(key, safe="").encode()
    yield key.encode().hex().encode()
    yield key.encode().hex().upper().encode()
    yield repr(key)[1:-1].encode()
    yield key.replace("\\", "\\\\").replace('"', '\\"').encode()
    for padding in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # The first and last group depend on what stands around it.
            yield encode(b"x" * padding + key.encode())[4:-4]


def assert_clean(text: str | bytes, what: str) -> None:
    """Fail when any form of the key stands in a text."""
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    for form in forms_of(KEY):
        assert form not in data, f"the key stands in {what} as {form!r}"


def test_the_search_itself_finds_a_key() -> None:
    """A search that finds nothing anywhere would pass every test."""
    for text in (
        f"Bearer {KEY}",
        quote(KEY),
        KEY.encode().hex(),
        base64.b64encode(f"user:{KEY}".encode()).decode(),
        base64.b64encode(f"Bearer {KEY} and more".encode()).decode(),
        repr({"key": KEY}),
    ):
        with pytest.raises(AssertionError, match="stands in"):
            assert_clean(text, "a sample")


FAULTS = [
    *(
        Fault(kind=kind, on="create", accepted=accepted)
        for kind in ("drop_before", "drop_after", "truncated_body", "broken_json", "redirect", "no_images", "failed")
        for accepted in (False, True)
    ),
    *(Fault(kind="status", on="create", status=status) for status in (400, 401, 402, 409, 418, 422, 429, 500, 503)),
    *(Fault(kind="status", on="poll", status=status, times=3) for status in (401, 404, 429, 500)),
    Fault(kind="redirect", on="create", status=302, value=f"https://evil.test/?k={quote(KEY)}"),
    Fault(kind="redirect", on="create", status=307, value="http://[bad"),
    Fault(kind="redirect", on="poll", status=307, times=2),
    Fault(kind="oversized_body", on="poll", size_bytes=5 * 1024 * 1024),
    Fault(kind="unknown_status", on="poll", times=99),
    Fault(kind="broken_json", on="poll", times=3),
]


def test_a_whole_run_of_faults_leaks_no_key(
    home: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Everything a call can meet, at the most talkative log level."""
    caplog.set_level(logging.DEBUG)
    options = SandboxOptions(duration_s=3.0, seed=1, api_keys=frozenset({KEY}), drawn_images=False)
    runapi = SandboxTransport(options)
    told: list[Progress] = []

    async def main() -> list[dict[str, Any]]:
        results = []
        async with opened_tool(home, runapi, key=KEY) as tool:
            for number, fault in enumerate(FAULTS):
                runapi.sandbox.faults.clear()
                runapi.sandbox.faults.queue(fault)
                call = tool.call("text_to_image", {"prompt": f"fox {number}"}, wait_s=40, on_progress=told.append)
                results.append(await call)
            results.append(await tool.call("get_image_task", {"task_id": "tsk_nope"}))
            results.append(await tool.call("remix_image", {**FOX, "source_image_urls": ["task:tsk_nope"]}))
        return results

    results = run_virtual(main())
    outcomes = {result["error"]["code"] if "error" in result else "ok" for result in results}

    assert {"ok", "authentication", "insufficient_credits", "generation_failed", "unexpected_answer"} <= outcomes
    assert_clean(repr(results), "a result")
    assert_clean(repr(told), "progress")
    assert_clean(caplog.text, "the log")
    captured = capfd.readouterr()
    assert_clean(captured.out + captured.err, "stdout or stderr")
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) >= 2
    for path in files:
        assert_clean(path.read_bytes(), path.name)
    assert runapi.sandbox.ledger.authorization_leaks == []


def _echo(where: str) -> MockService:
    """A service, or a proxy before it, that says back what it was sent."""
    said = f"Invalid header Authorization: Bearer {KEY} ({quote(KEY)})"
    # What the reader of an answer drops, or undoes.
    unseen = KEY.replace("8", "8\u200b\ud800").replace("z", "\x00z")
    inner = json.dumps({"error": KEY.replace("8", "\u200b8")}).replace("f", "\\u0066")
    created: dict[str, Any] = {"task_id": "tsk_abc123", "status": "pending"}
    done: dict[str, Any] = {"id": "tsk_abc123", "status": "completed", "images": [PICTURE_URL]}
    creates: dict[str, Answer] = {
        "error text": (401, {"error": said}),
        "error object": (422, {"error": {"code": KEY, "message": said}}),
        "field errors": (422, {"error": "bad", "errors": {KEY: [said]}}),
        "html": httpx.Response(418, content=f"<html><title>{said}</title></html>".encode()),
        "request id": json_answer({"error": "x"}, 418, x_request_id=KEY),
        "unseen characters": (401, {"error": f"Bad key {unseen}", "code": unseen}),
        "another encoding": httpx.Response(401, content=json.dumps({"error": said}).encode("utf-16")),
        "html with tags, cut": httpx.Response(
            401, content=f"<html><title>{'x' * 50} {KEY[:9]}<b>{KEY[9:]}</b></title>".encode()
        ),
        "unseen marks": (401, {"error": f"Bad key {KEY.replace('8', '8' + chr(0x34F))}"}),
        "html with tags": httpx.Response(401, content=f"<html><title>Bad {KEY[:9]}<b>{KEY[9:]}</b></title>".encode()),
        "request id, unseen": httpx.Response(
            401, headers=[(b"x-request-id", KEY.replace("8", "8\xad").encode("latin-1"))]
        ),
        "redirect": httpx.Response(302, headers={"location": f"https://evil.test/{quote(KEY, safe='')}?k={KEY}"}),
        "unreadable": (200, {"echo": said, "message": said}),
        "task id": (200, {**created, "task_id": "sk-canary"}),
        # What a parser says of a response that it cannot read.
        "lost response": httpx.RemoteProtocolError(f"illegal header line: {said}"),
        "status url": (200, {**created, "status_url": f"/v9/{quote(KEY)}"}),
    }
    polls: dict[str, Answer] = {
        "status word": (200, {"id": "tsk_abc123", "status": said}),
        "failure": (200, {"id": "tsk_abc123", "status": "failed", "error": said}),
        "unseen in a failure": (200, {"id": "tsk_abc123", "status": "failed", "error": unseen, unseen: unseen}),
        "json in json": (200, {"id": "tsk_abc123", "status": "completed", "response": {"status": 500, "body": inner}}),
        "poll trouble": (503, {"error": said}),
        "picture": (200, {**done, "images": [f"{PICTURE_URL}?api_key={quote(KEY)}", f"{PICTURE_URL}?key={KEY[:20]}"]}),
        "model": (200, {**done, "model": said, "echo": {"headers": {"authorization": f"Bearer {KEY}"}}}),
        "expiry": (200, {**done, "images": [{"url": PICTURE_URL, "expires_at": KEY}]}),
        "key of a member": (200, {**done, KEY: KEY}),
    }

    def answer(request: Seen) -> Answer:
        found = creates.get(where, (200, created)) if request.method == "POST" else polls.get(where, (200, done))
        if isinstance(found, httpx.Response):
            return httpx.Response(found.status_code, content=found.content, headers=found.headers)
        return found

    return MockService(answer)


@pytest.mark.parametrize(
    "where",
    [
        "error text",
        "error object",
        "field errors",
        "html",
        "html with tags",
        "html with tags, cut",
        "unseen marks",
        "unseen characters",
        "another encoding",
        "request id",
        "request id, unseen",
        "redirect",
        "unreadable",
        "lost response",
        "status url",
        "status word",
        "failure",
        "unseen in a failure",
        "json in json",
        "poll trouble",
        "picture",
        "model",
        "expiry",
        "key of a member",
    ],
)
def test_a_service_that_echoes_the_key_does_not_make_us_repeat_it(
    home: Path, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """A gateway's "invalid header: Bearer sk-…" would otherwise stand in the chat, in the log and in the journal."""
    caplog.set_level(logging.DEBUG)
    told: list[Progress] = []
    result = run_call(home, _echo(where), key=KEY, wait_s=20, on_progress=told.append)

    assert_clean(repr(result), "the result")
    assert_clean(repr(told), "progress")
    assert_clean(caplog.text, "the log")
    for path in home.rglob("*"):
        if path.is_file():
            assert_clean(path.read_bytes(), path.name)


UNSEEN = KEY.replace("8", "8\u200b").replace("z", "\x00z")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(json.dumps({"error": UNSEEN}).encode(), id="escaped"),
        pytest.param(json.dumps({"error": KEY.replace("8", "8\u200b")}, ensure_ascii=False).encode(), id="unseen"),
        pytest.param(json.dumps({"list": [{UNSEEN: 1}]}).encode(), id="a name in a list"),
        pytest.param(json.dumps({"body": json.dumps({"error": UNSEEN})}).encode(), id="json in json"),
    ],
)
def test_a_body_has_no_key_once_it_is_read(body: bytes) -> None:
    """It is masked where it arrives, so that no reader has to think of it."""
    service = MockService(lambda _: httpx.Response(418, content=body))

    async def main() -> bytes:
        async with open_http(BASE_URL, transport=service) as http:
            client = RunapiClient(http, base_url=BASE_URL, api_key=SecretStr(KEY), user_agent="a test")
            return (await client.send("GET", "/v1/x")).body

    received = run_virtual(main())

    assert_clean(visible(received.decode()), "the body")
    for text in _texts(received.decode()):
        assert_clean(visible(text), "its JSON")


def _texts(text: str) -> Iterator[str]:
    """Yield every text of JSON, also of JSON in it."""
    with contextlib.suppress(ValueError):
        left = [json.loads(text)]
        while left:
            one = left.pop()
            if isinstance(one, dict):
                left += [*one, *one.values()]
            elif isinstance(one, list):
                left += one
            elif isinstance(one, str):
                yield one
                yield from _texts(one)


def test_what_is_kept_of_a_response_has_no_key_of_any_length(home: Path) -> None:
    """A word of seven letters is not masked in what is read; but a record is only shown."""
    echo = {"headers": {"Authorization": "Bearer sk-1234"}, "text": "sk-1234", "sk-1234": [["sk-1234"]]}
    transport = scripted(gets=[(200, {**DONE, "echo": echo})])

    async def main() -> tuple[str | dict[str, Any], str | None]:
        async with opened_tool(home, transport, key="sk-1234") as tool:
            result = await tool.call("text_to_image", FOX)
            live = await tool.raw_response(result["task"]["id"])
            return live, records_of(home)[0].raw

    live, recorded = run_virtual(main())

    for text in (live, recorded):
        assert isinstance(text, str)
        assert "sk-1234" not in text
        assert '"text": "[key]"' in text


def test_no_object_shows_the_key_when_it_is_printed() -> None:
    """A traceback with local variables, or a debugger's log, prints everything."""
    account = credentials(KEY)

    async def main() -> str:
        async with open_http(BASE_URL, transport=MockService(lambda _: (200, {}))) as http:
            client = RunapiClient(http, base_url=BASE_URL, api_key=account.api_key, user_agent="x")
            return f"{client!r} {client} {account!r} {account} {http!r}"

    assert_clean(asyncio.run(main()), "a repr")


@pytest.mark.parametrize("seed", range(5))
def test_random_faults_leak_no_key_either(home: Path, caplog: pytest.LogCaptureFixture, seed: int) -> None:
    """The combinations nobody thought of."""
    caplog.set_level(logging.DEBUG)
    dice = random.Random(seed)  # noqa: S311 - a choice of faults
    runapi = SandboxTransport(SandboxOptions(duration_s=3.0, seed=seed, api_keys=frozenset({KEY}), drawn_images=False))

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi, key=KEY) as tool:
            results = []
            for number in range(20):
                runapi.sandbox.faults.queue(*dice.choices(FAULTS, k=3))
                results.append(await tool.call("text_to_image", {"prompt": f"fox {number}"}, wait_s=30))
            return results

    results = run_virtual(main())

    assert len(results) == 20
    assert_clean(repr(results), "a result")
    assert_clean(caplog.text, "the log")
    for path in home.rglob("*"):
        if path.is_file():
            assert_clean(path.read_bytes(), path.name)
