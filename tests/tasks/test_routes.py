"""Which of RunAPI's two create routes is used, and how the choice is remembered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool.sandbox import SandboxOptions
from tests.support.harness import (
    CREATED,
    DONE,
    FOX,
    Answer,
    MockService,
    SandboxTransport,
    Seen,
    numbered,
    opened_tool,
    run_call,
)
from tests.support.virtual_time import run_virtual

GUIDE, SERVICE = "/v1/text_to_image", "/api/v1/flux_2/text_to_image"


def _routes(guide: Answer, service: Answer, *, images: MockService | None = None) -> MockService:
    images = images or numbered()

    def answer(request: Seen) -> Answer:
        if request.method == "GET":
            return images.handler(request)
        answer = guide if request.path == GUIDE else service
        return images.handler(request) if answer == (200, CREATED) else answer

    return MockService(answer)


def test_the_guides_route_comes_first(home: Path) -> None:
    """It is the documented one."""
    transport = _routes((200, CREATED), (200, CREATED))
    run_call(home, transport)

    assert [post.path for post in transport.posts] == [GUIDE]


@pytest.mark.parametrize(("route", "path"), [("guide", GUIDE), ("service", SERVICE)])
def test_a_forced_route_is_the_only_one(home: Path, route: str, path: str) -> None:
    """An operator who names a route knows why."""
    good = _routes((200, CREATED), (200, CREATED))
    bad = _routes((404, {"error": "nope"}), (404, {"error": "nope"}))
    done = run_call(home, good, route=route)
    refused = run_call(home, bad, route=route)

    assert done["task"]["state"] == "completed"
    assert refused["error"]["code"] == "unexpected_answer"
    assert [post.path for post in good.posts + bad.posts] == [path, path]


@pytest.mark.parametrize("code", [404, 405, 410, 501])
def test_a_missing_route_leads_to_the_other_under_the_same_key(home: Path, code: int) -> None:
    """These codes alone say that nothing was created."""
    transport = _routes((code, {"error": "no such route"}), (200, CREATED))
    result = run_call(home, transport)
    first, second = transport.posts

    assert result["task"]["state"] == "completed"
    assert (first.path, second.path) == (GUIDE, SERVICE)
    assert first.body == second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_the_route_that_worked_is_remembered_by_the_next_process(home: Path) -> None:
    """Else every command would pay one failing request."""
    transport = _routes((404, {}), (200, CREATED))
    run_call(home, transport)
    run_call(home, transport)

    assert [post.path for post in transport.posts] == [GUIDE, SERVICE, SERVICE]


def test_a_remembered_route_holds_for_its_base_url_only(home: Path) -> None:
    """A sandbox may have other routes than the service."""
    transport = _routes((404, {}), (200, CREATED))
    run_call(home, transport)
    run_call(home, transport, base_url="https://other.test")

    assert [post.path for post in transport.posts] == [GUIDE, SERVICE, GUIDE, SERVICE]


def test_a_remembered_route_that_no_longer_exists_leads_to_the_other(home: Path) -> None:
    """The cache only saves time; a stale entry must never stop a call."""
    images = numbered()
    run_call(home, _routes((404, {}), (200, CREATED), images=images))
    transport = _routes((200, CREATED), (410, {}), images=images)
    run_call(home, transport)
    run_call(home, transport)

    assert [post.path for post in transport.posts] == [SERVICE, GUIDE, GUIDE]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "[1]",
        '"x"',
        '{"https://runapi.test": 7}',
        '{"https://runapi.test": {"create": "ftp"}}',
        json.dumps({"https://runapi.test": {"create": ["service"], "poll": {"x": 1}}}),
        "[" * 9999,
        "\x00\xff",
    ],
)
def test_a_corrupted_route_cache_is_ignored(home: Path, content: str) -> None:
    """A file that was edited by hand or cut off must not stop a call."""
    home.mkdir()
    (home / "routes.json").write_text(content, encoding="latin-1")
    transport = _routes((200, CREATED), (404, {}))

    assert run_call(home, transport)["task"]["state"] == "completed"
    assert transport.posts[0].path == GUIDE


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ReadError("reset"),
        httpx.ReadTimeout("slow"),
        httpx.ConnectError("refused"),
        (500, {"error": "x"}),
        (503, {"error": "x"}),
        (429, {"error": "x"}),
        (408, {"error": "x"}),
        (400, {"error": "x"}),
        (401, {"error": "x"}),
        (402, {"error": "x"}),
        (409, {"error": "x"}),
        (422, {"error": "x"}),
        (200, {"hello": 1}),
        (307, None),
    ],
)
def test_only_a_missing_route_leads_to_the_other_one(home: Path, trouble: Any) -> None:
    """On another route the same key may not be known: the image could be made, and paid, twice."""
    transport = _routes(trouble, (200, CREATED))
    result = run_call(home, transport)

    assert "error" in result
    assert {post.path for post in transport.posts} == {GUIDE}


@pytest.mark.parametrize("trouble", [httpx.ReadError("reset"), (502, {"error": "x"}), (200, {"hello": 1})])
def test_a_missing_route_after_a_lost_response_does_not_try_the_other(home: Path, trouble: Any) -> None:
    """Behind a balancer one machine may know the route and another not; the first may have made the image."""
    answers: list[Answer] = [trouble, (404, {"error": "no such route"})]
    transport = MockService(lambda request: answers.pop(0) if request.path == GUIDE else (200, CREATED))
    error = run_call(home, transport)["error"]

    assert error["charged"] == "unknown"
    assert [post.path for post in transport.posts] == [GUIDE, GUIDE]


@pytest.mark.transport_only("over sockets a request that has arrived cannot count as never sent")
def test_a_missing_route_after_a_refused_connection_leads_to_the_other(home: Path) -> None:
    """Nothing was sent, so nothing is unresolved."""
    answers: list[Answer] = [httpx.ConnectError("refused"), (404, {}), (200, CREATED), (200, DONE)]
    transport = MockService(lambda _request: answers.pop(0))

    assert run_call(home, transport)["task"]["state"] == "completed"
    assert [post.path for post in transport.posts] == [GUIDE, GUIDE, SERVICE]


def test_when_both_routes_refuse_the_error_quotes_both(home: Path) -> None:
    """The reader can tell a wrong base URL from a missing feature only by what both said."""
    transport = _routes((404, {"error": "no such page"}), (501, {"message": "not here yet"}))
    error = run_call(home, transport)["error"]

    assert (error["code"], error["charged"]) == ("unexpected_answer", "no")
    for part in (GUIDE, SERVICE, "404", "501", '"no such page"', '"not here yet"'):
        assert part in error["message"]
    assert "base URL" in error["hint"]


def test_a_lost_response_on_the_other_route_is_repeated_there(home: Path) -> None:
    """From then on only that route may know the key."""
    answers: list[Answer] = [(404, {}), httpx.ReadError("reset"), (200, CREATED), (200, DONE)]
    transport = MockService(lambda _request: answers.pop(0))

    assert run_call(home, transport)["task"]["state"] == "completed"
    assert [post.path for post in transport.posts] == [GUIDE, SERVICE, SERVICE]


@pytest.mark.parametrize(("guide", "service"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("code", [404, 405, 410, 501])
def test_the_sandbox_serves_an_image_by_whichever_route_it_has(
    home: Path, guide: bool, service: bool, code: int
) -> None:
    """End to end, with both actions."""
    options = SandboxOptions(guide_route=guide, service_route=service, route_off_status=code, duration_s=3.0, seed=1)
    runapi = SandboxTransport(options)

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            first = await tool.call("text_to_image", FOX)
            arguments = {"prompt": "make it blue", "source_image_urls": [first["task"]["ref"]]}
            return [first, await tool.call("remix_image", arguments)]

    results = run_virtual(main())

    assert [result["task"]["state"] for result in results] == ["completed", "completed"]
    assert len(runapi.sandbox.ledger.tasks) == 2
