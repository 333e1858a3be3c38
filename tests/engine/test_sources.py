"""Source pictures of remix_image: web URLs as they are, and `task:ID` for a picture made earlier."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool.engine.wait import CancelToken
from tests.support.harness import (
    CREATED,
    DONE,
    FOX,
    PICTURE_URL,
    Answer,
    MockService,
    SandboxTransport,
    Seen,
    opened_tool,
    run_call,
    scripted,
)
from tests.support.virtual_time import run_virtual

REMIX = {"prompt": "make it blue"}


def _remix(*sources: str) -> dict[str, Any]:
    return {**REMIX, "source_image_urls": list(sources)}


def test_sources_are_sent_in_order_and_as_given(home: Path) -> None:
    """The prompt speaks of "the first picture"; signed links must not be touched."""
    urls = ["https://a.example/1.png?X-Amz-Signature=ab%2Fc&b=1", "http://b.example/2.jpg", "https://a.example/ü.png"]
    transport = scripted()
    run_call(home, transport, "remix_image", _remix(*urls))

    assert json.loads(transport.posts[0].body)["source_image_urls"] == urls


def test_a_task_stands_for_its_picture(home: Path, runapi: SandboxTransport) -> None:
    """A signed URL reaches a model masked, so the model can only name the task."""

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            first = await tool.call("text_to_image", FOX)
            return first, await tool.call("remix_image", _remix(first["task"]["ref"], PICTURE_URL))

    first, second = run_virtual(main())
    sent = runapi.sandbox.ledger.tasks[second["task"]["id"]].arguments["source_image_urls"]

    assert second["task"]["state"] == "completed"
    assert sent == [first["images"][0]["url"], PICTURE_URL]
    assert "X-Amz-Signature=" in sent[0]


def test_a_task_of_another_process_can_be_a_source(home: Path, tmp_path: Path, runapi: SandboxTransport) -> None:
    """The agent's gateway may have been restarted in between, or run elsewhere."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            first = await tool.call("text_to_image", FOX)
        async with opened_tool(tmp_path / "elsewhere", runapi) as other:
            return await other.call("remix_image", _remix(first["task"]["ref"]))

    assert run_virtual(main())["task"]["state"] == "completed"


def _with_task(answer: Answer) -> MockService:
    """The source task answers like this at its path; creates are accepted."""

    def handle(request: Seen) -> Answer:
        if request.method == "POST":
            return 200, CREATED
        if request.path.endswith("/tsk_src"):
            return answer
        return 200, DONE

    return MockService(handle)


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        pytest.param((404, {"error": "Not found"}), "source_refused", "knows no task", id="unknown"),
        pytest.param((200, {"status": "processing"}), "source_refused", "not finished", id="unfinished"),
        pytest.param((200, {"status": "failed", "error": "no GPU"}), "source_refused", "no GPU", id="failed"),
        pytest.param((200, {"status": "failed", "error": "nsfw"}), "source_refused", "nsfw", id="refused"),
        pytest.param((401, {"error": "bad key"}), "authentication", "bad key", id="key refused"),
        pytest.param(httpx.ConnectError("refused"), "service_unavailable", "tsk_src", id="service down"),
    ],
)
def test_a_source_task_without_a_picture_is_refused_before_paying(
    home: Path, answer: Any, code: str, said: str
) -> None:
    """The error says which source and why, and whose move it is."""
    transport = _with_task(answer)
    error = run_call(home, transport, "remix_image", _remix(PICTURE_URL, "task:tsk_src"))["error"]

    assert (error["code"], error["charged"]) == (code, "no")
    assert said in error["message"]
    assert error["hint"]
    assert transport.posts == []
    if code == "source_refused":
        assert "source_image_urls[1]" in error["message"]


def test_a_source_that_cannot_be_looked_up_in_time_says_why(home: Path) -> None:
    """ "Not ready" hides that RunAPI cannot be reached."""
    error = run_call(
        home, scripted(gets=[(503, {"error": "maintenance"})]), "remix_image", _remix("task:tsk_1"), wait_s=9
    )["error"]

    assert (error["code"], error["charged"]) == ("service_unavailable", "no")
    assert "RunAPI reported no status of task tsk_1: HTTP 503" in error["message"]
    assert "maintenance" in error["message"]


def test_an_unfinished_source_is_told_with_the_way_to_wait_for_it(home: Path, runapi: SandboxTransport) -> None:
    """The agent can do it: wait, then edit."""

    async def main() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            first = await tool.call("text_to_image", FOX, wait_s=1)
            refused = await tool.call("remix_image", _remix(first["task"]["ref"]))
            await tool.call("get_image_task", {"task_id": first["task"]["ref"]})
            return first, refused, await tool.call("remix_image", _remix(first["task"]["ref"]))

    first, refused, done = run_virtual(main())

    assert refused["error"]["code"] == "source_refused"
    assert f'get_image_task with task_id "{first["task"]["id"]}"' in refused["error"]["hint"]
    assert done["task"]["state"] == "completed"


def test_a_source_that_is_finished_by_now_is_not_taken_for_unfinished(home: Path, runapi: SandboxTransport) -> None:
    """What this process saw last may be seconds old."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            first = await tool.call("text_to_image", FOX, wait_s=5)
            await asyncio.sleep(1.5)
            return await tool.call("remix_image", _remix(first["task"]["ref"]))

    assert run_virtual(main())["task"]["state"] == "completed"


def test_a_cancel_while_a_source_is_looked_up_costs_nothing(home: Path) -> None:
    """Nothing was sent, and the source is not at fault."""
    transport = _with_task(httpx.ConnectError("refused"))

    async def main() -> dict[str, Any]:
        cancel = CancelToken()
        async with opened_tool(home, transport) as tool:
            call = asyncio.ensure_future(tool.call("remix_image", _remix("task:tsk_src"), cancel=cancel))
            await asyncio.sleep(1.0)
            cancel.set()
            return await call

    error = run_virtual(main())["error"]

    assert (error["code"], error["charged"]) == ("cancelled", "no")
    assert transport.posts == []


def test_another_accounts_task_is_no_source(home: Path, runapi: SandboxTransport) -> None:
    """A reference must not open somebody else's pictures."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            first = await tool.call("text_to_image", FOX)
        async with opened_tool(home, runapi, key="sk-somebody-else") as other:
            return await other.call("remix_image", _remix(first["task"]["ref"]))

    error = run_virtual(main())["error"]

    assert error["code"] == "source_refused"
    assert len(runapi.sandbox.ledger.tasks) == 1


@pytest.mark.parametrize(
    "source",
    [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://user:pass@a.example/1.png",
        "//a.example/1.png",
        "/etc/passwd",
        "task:",
        "task:../../v1/me",
        "task:a b",
        "",
        "https://a.example/\u202e1\n.png",
    ],
)
def test_a_source_that_is_neither_address_nor_task_is_refused(home: Path, source: str) -> None:
    """A prompt-injected agent must not make the service, or us, read something else."""
    transport = scripted()
    error = run_call(home, transport, "remix_image", _remix(source))["error"]

    assert error["code"] in ("invalid_arguments", "source_refused")
    assert transport.seen == []
