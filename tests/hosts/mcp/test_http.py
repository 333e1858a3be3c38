"""The tools over HTTP: sessions, delivery, questions, files. One server for all of them, as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.hosts.mcp.host import TALK_S, result_of
from tests.hosts.mcp.http_host import ByHand, Served, served
from tests.hosts.mcp.sdk_client import MAJOR, PROTOCOL_ERROR, named, opened, user
from tests.hosts.mcp.test_process import call
from tests.support.command import SandboxClock
from tests.support.environ import base_environ
from tests.support.keys import KEY
from tests.support.pictures import picture

MODES = pytest.mark.parametrize("mode", ["legacy", "auto"] if MAJOR == 2 else ["legacy"])
FLEX = "flux-2-flex-text-to-image"


@pytest.fixture(scope="module")
def clock() -> SandboxClock:
    """The sandbox's time."""
    return SandboxClock()


@pytest.fixture(scope="module")
def service(clock: SandboxClock) -> Iterator[tuple[str, Sandbox]]:
    """One sandbox for the whole module, whose prompts differ."""
    with running_sandbox(SandboxOptions(duration_s=0.1, drawn_images=False), clock=clock) as running:
        yield running


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory, service: tuple[str, Sandbox]) -> dict[str, str]:
    """What an operator gives the server."""
    home = tmp_path_factory.mktemp("http")
    return {
        **base_environ(),
        "HOME": str(home),
        "FLUX2_TOOL_HOME": str(home / "data"),
        "FLUX2_TOOL_SAVE_DIR": str(home / "pictures"),
        "FLUX2_TOOL_ASK_ABOVE_USD": "0.10",
        "RUNAPI_API_KEY": KEY,
        "RUNAPI_BASE_URL": f"{service[0]}/v1",
    }


@pytest.fixture(scope="module")
def server(environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server, which works in a folder with a picture."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "photo.png").write_bytes(picture())
    with served(environ, cwd=folder) as running:
        yield running


def billed(sandbox: Sandbox, prompt: str) -> int:
    """Return how many pictures of a prompt were paid."""
    return len([task for task in sandbox.ledger.billed_tasks if task.arguments["prompt"] == prompt])


@MODES
def test_a_call_brings_the_result_and_rising_progress(server: Served, sandbox: Sandbox, mode: str) -> None:
    """The same object as over stdio; progress comes with the call's own answer."""
    told: list[float] = []
    prompt = f"a fox by {mode}"

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async def make(client: Any) -> dict[str, Any]:
        assert len((await client.list_tools()).tools) == 3
        return result_of(await client.call_tool("text_to_image", {"prompt": prompt}, progress_callback=on_progress))

    result = server.talk(make, mode=mode)

    assert result["task"]["state"] == "completed"
    assert told == sorted(set(told))
    assert told
    assert billed(sandbox, prompt) == 1


@MODES
def test_paths_of_the_server_are_not_told(server: Served, environ: dict[str, str], mode: str) -> None:
    """The client may be on another machine; the copy is saved all the same."""
    prompt = f"an owl by {mode}"

    async def make(client: Any) -> dict[str, Any]:
        return result_of(await client.call_tool("text_to_image", {"prompt": prompt}))

    result = server.talk(make, mode=mode)

    assert result["images"][0]["path"] is None
    assert "path" not in result["next"]
    assert list(Path(environ["FLUX2_TOOL_SAVE_DIR"]).glob(f"*owl-by-{mode}*"))


def test_files_of_the_server_are_no_sources(server: Served) -> None:
    """Not even those of the folder that it was started in: that is nobody's project."""

    async def edit(client: Any) -> dict[str, Any]:
        arguments = {"prompt": "at night", "source_image_urls": ["photo.png"]}
        return result_of(await client.call_tool("remix_image", arguments))

    error = server.talk(edit)["error"]

    assert error["code"] == "source_refused"
    assert "workspace" in error["message"]


def test_sessions_at_once_are_conversations_of_their_own(server: Served, sandbox: Sandbox) -> None:
    """Twenty people who ask for the same thing get a picture each, from one process."""
    prompt = "one of many"

    async def main() -> list[dict[str, Any]]:
        async def ask() -> dict[str, Any]:
            async with opened(server.url, mode="legacy") as client:
                await everybody.wait()
                return result_of(await client.call_tool("text_to_image", {"prompt": prompt}))

        everybody = asyncio.Barrier(20)
        async with asyncio.timeout(TALK_S):
            return await asyncio.gather(*(ask() for _ in range(20)))

    results = asyncio.run(main())

    assert not any(result["task"]["joined"] for result in results)
    assert billed(sandbox, prompt) == 20


def test_a_session_for_each_call_goes_on_with_the_conversation(server: Served, sandbox: Sandbox) -> None:
    """LangChain's adapters work so: each call is new, and `task:last` is what the last one made."""
    fox = ByHand(url=server.url, name="by the call").open()
    first = fox.call(2, {"prompt": "a lynx"})
    assert fox.post(b"", **{"x": "y"}).status_code == 400
    assert httpx.delete(server.url, headers=fox.headers).status_code == 200

    again = ByHand(url=server.url, name="by the call").open()
    second = again.call(2, {"prompt": "a lynx"})
    edited = again.call(3, {"prompt": "at night", "source_image_urls": ["task:last"]}, "remix_image")

    assert not second["task"]["joined"]
    assert edited["task"]["state"] == "completed"
    assert second["images"][0]["url"].encode() in sandbox.ledger.creates[-1].body
    assert first["task"]["id"] != second["task"]["id"]
    assert fox.post(call(4, "text_to_image", {"prompt": "too late"})).status_code == 404


@pytest.mark.parametrize("returns", ["in the same session", "in a new one"])
def test_who_leaves_before_the_answer_gets_that_picture(
    server: Served, sandbox: Sandbox, clock: SandboxClock, returns: str
) -> None:
    """A broken connection is no reason to pay twice; the wait ends with it."""
    prompt = f"[slow] a tower, asked again {returns}"
    host = ByHand(url=server.url, name=f"leaves, {returns}").open()
    with host.begin(call(2, "text_to_image", {"prompt": prompt})) as leaving, leaving.makefile("rb") as answer:
        while b"waiting" not in answer.readline():
            pass
    clock.offset_s += 200

    if returns == "in a new one":
        host = ByHand(url=server.url, name=host.name).open()
    joined = host.call(3, {"prompt": prompt})

    assert (joined["task"]["state"], joined["task"]["joined"]) == ("completed", True)
    assert billed(sandbox, prompt) == 1


def test_the_id_of_a_running_request_is_refused(server: Served, sandbox: Sandbox, clock: SandboxClock) -> None:
    """Its answer would go to the other one, whose picture would be paid for nobody; then the id is free again."""
    host = ByHand(url=server.url, name="one id for all").open()
    first = call(2, "text_to_image", {"prompt": "[slow] the first of an id"})
    second = call(2, "text_to_image", {"prompt": "the second of an id"})
    with host.begin(first) as waiting, waiting.makefile("rb") as answer:
        while b"waiting" not in answer.readline():
            pass
        refused = [host.post({**second, "id": request_id}) for request_id in (2, "2")]
        clock.offset_s += 200
        lines = (line.removeprefix(b"data: ") for line in answer if line.startswith(b"data: {"))
        # Not read to its end: the server keeps the connection for a while.
        result = next(message["result"] for line in lines if "result" in (message := json.loads(line)))

    for one in refused:
        assert (one.status_code, one.json()["id"], one.json()["error"]["code"]) == (400, None, -32600)
        assert "in use" in one.json()["error"]["message"]
    assert result["structuredContent"]["task"]["state"] == "completed"
    assert (billed(sandbox, "[slow] the first of an id"), billed(sandbox, "the second of an id")) == (1, 0)
    assert host.call(2, {"prompt": "the third of an id"})["task"]["state"] == "completed"


def test_an_id_is_free_when_the_request_left_is_over(server: Served, sandbox: Sandbox, clock: SandboxClock) -> None:
    """Its late answer does not go to the next request of that id."""
    prompt = "[slow] left, and asked again under the same id"
    host = ByHand(url=server.url, name="the same id again").open()
    asking = call(2, "text_to_image", {"prompt": prompt})
    with host.begin(asking) as leaving, leaving.makefile("rb") as answer:
        while b"waiting" not in answer.readline():
            pass
    clock.offset_s += 200

    assert host.call(2, {"prompt": prompt})["task"]["state"] == "completed"
    assert billed(sandbox, prompt) == 1


def test_an_unknown_tool_is_an_error_of_the_protocol(server: Served) -> None:
    """As the specification has it, with the names there are and the nearest."""

    async def misspelt(client: Any) -> str:
        with pytest.raises(PROTOCOL_ERROR) as caught:
            await client.call_tool("text_to_imag", {"prompt": "a fox"})
        return str(caught.value)

    known = "text_to_image, remix_image, get_image_task"
    assert server.talk(misspelt) == f'Unknown tool: "text_to_imag"; tools are {known} (nearest: text_to_image)'


@MODES
@pytest.mark.parametrize("action", ["accept", "decline"])
def test_a_user_is_asked_over_http(server: Served, sandbox: Sandbox, mode: str, action: str) -> None:
    """By a request on the call's own stream, or by the answer."""
    prompt = f"a palace to {action} by {mode}"
    asked: list[str] = []

    async def make(client: Any) -> dict[str, Any]:
        return result_of(await client.call_tool("text_to_image", {"prompt": prompt, "model": FLEX}))

    result = server.talk(make, mode=mode, elicitation_callback=user(action, asked))

    assert len(asked) == 1
    assert billed(sandbox, prompt) == (1 if action == "accept" else 0)
    assert ("error" in result) is (action == "decline")


def test_who_leaves_while_being_asked_pays_nothing(server: Served, sandbox: Sandbox) -> None:
    """The question is dropped with the connection, and the session goes on."""
    host = ByHand(url=server.url, name="asked by hand").open(elicitation={})
    prompt = "a castle that nobody agreed to"
    asking = host.begin(call(2, "text_to_image", {"prompt": prompt, "model": FLEX}))
    read = b""
    while b"elicitation/create" not in read:
        read += asking.recv(4096)
    asking.close()

    assert host.call(3, {"prompt": "a cottage"})["task"]["state"] == "completed"
    assert billed(sandbox, prompt) == 0


def test_small_copies_are_for_hosts_that_show_them(server: Served) -> None:
    """They come from the saved file, and count for nothing else."""

    async def make(client: Any) -> list[str]:
        answer = await client.call_tool("text_to_image", {"prompt": "a small fox"})
        return [content.type for content in answer.content]

    assert server.talk(make, client_info=named("inspector-client")) == ["text", "image"]
    assert server.talk(make, client_info=named("claude-code")) == ["text"]


def test_a_client_that_would_resume_a_stream_gets_a_new_one(server: Served) -> None:
    """No stream is resumed, and one that reconnects so must not be told that the server has failed."""
    host = ByHand(url=server.url, name="resumes").open()
    host.headers["last-event-id"] = "7"

    with host.begin(None) as stream:
        assert stream.recv(1000).startswith(b"HTTP/1.1 200")
    assert host.post({"jsonrpc": "2.0", "id": 2, "method": "ping"}).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_answers_who_waits_and_the_next_process_goes_on(
    environ: dict[str, str], sandbox: Sandbox, clock: SandboxClock, tmp_path: Path, number: int
) -> None:
    """Nothing is lost by a restart: the client opens a new session, and its conversation goes on."""
    log = tmp_path / "log"
    prompt = f"[slow] a bridge until {number}"
    with log.open("w") as stderr, served(environ, stderr=stderr) as first:
        host = ByHand(url=first.url, name=f"stays until {number}").open()
        waiting = host.begin(call(2, "text_to_image", {"prompt": prompt}))
        with host.begin(None) as stream, waiting, waiting.makefile("rb") as answer:
            assert stream.recv(1000).startswith(b"HTTP/1.1 200")
            while b"waiting" not in answer.readline():
                pass
            first.process.send_signal(number)
            read = answer.read()
    clock.offset_s += 200

    with served(environ) as second:
        joined = ByHand(url=second.url, name=host.name).open().call(2, {"prompt": prompt})

    answers = [json.loads(line.removeprefix(b"data: ")) for line in read.splitlines() if line.startswith(b"data: {")]
    [result] = [message["result"]["structuredContent"] for message in answers if message.get("id") == 2]
    assert result["error"]["code"] == "cancelled"
    assert log.read_text() == ""
    assert result["error"]["task_ref"] == joined["task"]["ref"]
    assert (joined["task"]["state"], joined["task"]["joined"]) == ("completed", True)
    assert billed(sandbox, prompt) == 1
