"""Following an accepted task: which paths are polled, and what never fails it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool._network_errors import UnusableConnectionError
from flux2_tool.engine.wait import Progress
from flux2_tool.sandbox import SandboxOptions
from tests.support.harness import (
    BASE_URL,
    CREATED,
    DONE,
    FOX,
    KEY,
    PICTURE_URL,
    Answer,
    MockService,
    SandboxTransport,
    Seen,
    again,
    json_answer,
    opened_tool,
    run_call,
    scripted,
)
from tests.support.virtual_time import run_virtual

PENDING = {"id": "tsk_abc123", "status": "processing"}
TASK_ID = "tsk_abc123"
PLACES = [
    f"/v1/text_to_image/{TASK_ID}",
    f"/api/v1/flux_2/text_to_image/{TASK_ID}",
    f"/v1/tasks/{TASK_ID}",
    f"/api/v1/tasks/{TASK_ID}",
    f"/api/v1/flux_2/{TASK_ID}",
]


def _at(
    place: str, answer: Callable[[Seen], Answer], *, elsewhere: Answer = (404, {"error": "Not found"})
) -> MockService:
    """A service that knows a task's status at one path only."""

    def handle(request: Seen) -> Answer:
        if request.method == "POST":
            return 200, CREATED
        return answer(request) if request.path == place else again(elsewhere)

    return MockService(handle)


# ---- where -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("elsewhere", "lateness_s"),
    [
        *(pytest.param((code, {"error": "no"}), 12.0, id=str(code)) for code in (404, 405, 410, 501)),
        *(pytest.param((code, {"error": "no"}), 40.0, id=str(code)) for code in (400, 401, 403, 422, 429, 500, 503)),
        pytest.param((200, {"error": "no such page"}), 40.0, id="200 with an error"),
        pytest.param((200, {}), 40.0, id="200 with nothing"),
        pytest.param((200, {"detail": "Not Found"}), 40.0, id="200 with a detail"),
        pytest.param(httpx.Response(200, content=b"<html><title>Docs</title></html>"), 40.0, id="200 with HTML"),
        pytest.param(httpx.Response(302, headers={"location": "https://docs.test/"}), 40.0, id="a redirect elsewhere"),
        pytest.param(httpx.ReadError("reset"), 40.0, id="a closed connection"),
    ],
)
def test_the_status_is_found_at_each_path_alone(home: Path, place: str, elsewhere: Any, lateness_s: float) -> None:
    """The guide only says "poll the task status endpoint"."""
    transport = _at(place, lambda _request: (200, DONE), elsewhere=elsewhere)
    result = run_call(home, transport)

    assert result["task"]["state"] == "completed"
    assert len(transport.posts) == 1
    assert transport.gets[0].path == PLACES[0]
    assert transport.gets[-1].at_s - transport.posts[0].at_s < lateness_s


@pytest.mark.parametrize("place", PLACES)
def test_the_path_that_worked_is_polled_first_by_the_next_process(home: Path, place: str) -> None:
    """Only the first image has to search for the path."""
    run_call(home, _at(place, lambda _request: (200, DONE)))
    same_place = place.replace(TASK_ID, "tsk_2")

    def answer(request: Seen) -> Answer:
        if request.method == "POST":
            return 200, {**CREATED, "task_id": "tsk_2"}
        return (200, {**DONE, "id": "tsk_2"}) if request.path == same_place else (404, {"error": "Not found"})

    second = MockService(answer)
    run_call(home, second)

    assert [poll.path for poll in second.gets] == [same_place]


@pytest.mark.parametrize("path", ["guide", "service", "service_plain", "v1_tasks", "api_tasks"])
@pytest.mark.parametrize("route", ["guide", "service"])
def test_the_sandbox_is_polled_at_each_of_its_paths(home: Path, path: Any, route: str) -> None:
    """Both routes, each with one poll path alone, both actions."""
    runapi = SandboxTransport(SandboxOptions(poll_paths=frozenset({path}), duration_s=3.0, seed=1))

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi, route=route) as tool:
            first = await tool.call("text_to_image", FOX)
            return [first, await tool.call("remix_image", {"prompt": "bluer", "source_image_urls": [PICTURE_URL]})]

    for result in run_virtual(main()):
        assert result["task"]["state"] == "completed"


def test_a_path_that_no_longer_has_the_task_is_left(home: Path) -> None:
    """A service that is brought up to date in mid-task: only the path that was right deserves patience."""
    seen = 0

    def answer(request: Seen) -> Answer:
        nonlocal seen
        if request.method == "POST":
            return 200, CREATED
        seen += 1
        if seen == 1:
            return 200, PENDING
        return (200, DONE) if seen > 1 and request.path == PLACES[-1] else (404, {"error": "Not found"})

    transport = MockService(answer)
    result = run_call(home, transport)

    assert result["task"]["state"] == "completed"
    paths = [poll.path for poll in transport.gets]
    assert [paths.count(place) for place in PLACES] == [6, 1, 1, 1, 1]


@pytest.mark.parametrize("route", ["guide", "service"])
def test_the_path_of_the_create_call_is_polled_first(home: Path, route: str) -> None:
    """The route that accepted the task is the likeliest to have its status, also when it was forced."""
    transport = scripted()
    run_call(home, transport, route=route)

    assert transport.gets[0].path == f"{transport.posts[0].path}/{TASK_ID}"


@pytest.mark.parametrize(
    "created",
    [
        pytest.param(json_answer({**CREATED, "status_url": "/v9/status/7?full=1"}), id="status_url, relative"),
        pytest.param(json_answer({**CREATED, "status_url": f"{BASE_URL}/v9/status/7?full=1"}), id="status_url"),
        pytest.param(json_answer({**CREATED, "urls": {"get": f"{BASE_URL}/v9/status/7?full=1"}}), id="urls.get"),
        pytest.param(json_answer({"data": {**CREATED, "urls": {"get": "/v9/status/7?full=1"}}}), id="inside data"),
        pytest.param(json_answer(CREATED, 202, location="/v9/status/7?full=1"), id="Location"),
        pytest.param(json_answer(CREATED, 202, location=f"{BASE_URL.upper()}/v9/status/7?full=1"), id="Location, caps"),
    ],
)
def test_a_status_url_in_the_response_is_polled_first(home: Path, created: httpx.Response) -> None:
    """The service knows best where its task is."""
    transport = MockService(lambda request: created if request.method == "POST" else (200, DONE))
    result = run_call(home, transport)

    assert result["task"]["state"] == "completed"
    assert [httpx.URL(poll.url).raw_path for poll in transport.gets] == [b"/v9/status/7?full=1"]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.test/v9/status/7",
        "//evil.test/v9/status/7",
        "http://runapi.test/v9/status/7",
        "https://runapi.test:444/v9/status/7",
        "https://runapi.test@evil.test/",
        "https://u:p@runapi.test/v9",
        "https://[::1",
        "javascript:alert(1)",
        "\x00",
        "x" * 9000,
    ],
)
@pytest.mark.parametrize("where", ["status_url", "urls", "location"])
def test_a_status_url_of_another_origin_is_never_polled(home: Path, url: str, where: str) -> None:
    """The key would be sent there with the poll."""
    if where == "location":
        created = json_answer(CREATED, location=url.replace("\x00", "")[:4000])
    else:
        created = json_answer({**CREATED, where: {"get": url} if where == "urls" else url})
    transport = MockService(lambda request: created if request.method == "POST" else (200, DONE))
    result = run_call(home, transport)

    assert result["task"]["state"] == "completed"
    for request in transport.seen:
        assert request.url.startswith(f"{BASE_URL}/")
        assert request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("link", ["location", "status_url", "urls_get"])
@pytest.mark.parametrize("envelope", [False, True])
@pytest.mark.parametrize("body_shape", ["flat", "data", "header"])
def test_the_sandbox_is_polled_through_its_status_links(home: Path, link: Any, envelope: bool, body_shape: Any) -> None:
    """With every other path off, the link is the only way to the picture."""
    options = SandboxOptions(
        poll_paths=frozenset(),
        status_link=link,
        status_link_envelope=envelope,
        body_shape=body_shape,
        duration_s=3.0,
        seed=1,
    )
    result = run_call(home, SandboxTransport(options))

    assert result["task"]["state"] == "completed"
    assert result["cost"] == {"usd": 0.05, "basis": "billed"}


@pytest.mark.parametrize("elsewhere", [404, 500, 401])
def test_a_broken_status_url_is_left_for_the_known_paths(home: Path, elsewhere: int) -> None:
    """A wrong link must not cost the picture."""

    def handle(request: Seen) -> Answer:
        if request.method == "POST":
            return 200, {**CREATED, "status_url": "/v9/nowhere"}
        return (200, DONE) if request.path == PLACES[0] else (elsewhere, {"error": "no"})

    assert run_call(home, MockService(handle))["task"]["state"] == "completed"


@pytest.mark.parametrize("visible_after_s", [0.5, 2.5, 10.0, 30.0])
@pytest.mark.parametrize("place", [PLACES[0], PLACES[3]])
def test_a_task_that_is_not_visible_yet_is_polled_on(home: Path, visible_after_s: float, place: str) -> None:
    """A 404 soon after the create means "not yet"; later it means "not here" or "still not"."""

    def answer(request: Seen) -> Answer:
        return (200, DONE) if request.at_s >= visible_after_s else (404, {"error": "Not found"})

    transport = _at(place, answer)
    result = run_call(home, transport)

    assert result["task"]["state"] == "completed"
    assert transport.gets[-1].at_s < visible_after_s + 12.0
    assert len(transport.gets) < 80


@pytest.mark.parametrize("status", ["error", "failed", "success"])
@pytest.mark.parametrize("place", [PLACES[0], PLACES[2]])
def test_another_pages_error_never_ends_an_accepted_task(home: Path, status: str, place: str) -> None:
    """A guessed path may return 200 for anything; its status may be the request's and not the task's."""
    page = (200, {"status": status, "message": "Not found"})
    answers = {PLACES[3]: (200, DONE), place: page}
    transport = MockService(
        lambda request: (
            (200, CREATED) if request.method == "POST" else answers.get(request.path, (404, {"error": "no"}))
        )
    )
    result = run_call(home, transport)

    assert result["task"]["state"] == "completed"
    assert len(transport.posts) == 1


def test_a_failure_that_names_no_task_counts_at_a_known_path(home: Path) -> None:
    """A path that has had a task of this service is no guess: its word counts at once."""
    run_call(home, scripted())
    again = scripted([(200, {**CREATED, "task_id": "tsk_2"})], [(200, {"status": "failed", "error": "out of luck"})])
    result = run_call(home, again)

    assert result["error"]["code"] == "generation_failed"
    assert len(again.gets) == 1


def test_a_looked_up_failure_that_names_no_task_is_not_called_unknown(home: Path) -> None:
    """Every other path says 404: the one that knows something of the task is asked again before that counts."""
    transport = _at(PLACES[0], lambda _request: (200, {"status": "failed", "error": "out of luck"}))
    error = run_call(home, transport, "get_image_task", {"task_id": TASK_ID})["error"]

    assert error["code"] == "generation_failed"
    assert "out of luck" in error["message"]


def test_a_failure_that_names_no_task_counts_when_no_path_has_it(home: Path) -> None:
    """Otherwise a service with one odd path would let every failed task wait for its deadline."""
    failed = (200, {"status": "failed", "error": "out of luck"})
    transport = _at(PLACES[3], lambda _request: failed)
    result = run_call(home, transport)

    assert result["error"]["code"] == "generation_failed"


def test_searching_for_a_task_is_rate_limited(home: Path) -> None:
    """Five paths polled without success, for minutes, by every agent of an installation."""
    transport = _at("/nowhere", lambda _request: (404, {}))
    result = run_call(home, transport, wait_s=300)

    assert result["task"]["state"] == "processing"
    assert len(transport.gets) < 300


def test_a_404_with_retry_after_does_not_stop_the_search(home: Path) -> None:
    """A gateway may add Retry-After to every answer."""
    missing = json_answer({"error": "Not found"}, 404, retry_after="1")
    transport = _at(PLACES[2], lambda _request: (200, DONE), elsewhere=missing)

    assert run_call(home, transport)["task"]["state"] == "completed"


# ---- what never fails it ---------------------------------------------------------------------------------------------

PASSING: list[Any] = [
    *(pytest.param((code, {"error": "down"}), id=str(code)) for code in (408, 425, 429, 455, 500, 502, 503, 504, 529)),
    pytest.param((400, {"error": "?"}), id="400"),
    pytest.param((401, {"error": "no key"}), id="401 in between"),
    pytest.param(httpx.Response(403, content=b"<html><title>Blocked</title></html>"), id="a firewall's page"),
    pytest.param((402, {"error": "?"}), id="402"),
    pytest.param((403, {"error": "?"}), id="403 in between"),
    pytest.param((404, {"error": "?"}), id="404 in between"),
    pytest.param((409, {"error": "?"}), id="409"),
    pytest.param((422, {"error": "moderation"}), id="422 about the question, not the task"),
    pytest.param((204, None), id="204"),
    pytest.param(httpx.Response(200, content=b""), id="empty"),
    pytest.param(httpx.Response(502, content=b"<html><h1>Bad Gateway</h1></html>"), id="an HTML page"),
    pytest.param(httpx.Response(200, content=b"<!doctype html><title>Login</title>"), id="200 with HTML"),
    pytest.param(httpx.Response(200, content=b'{"id": "tsk_abc123", "status": "fai'), id="cut JSON"),
    pytest.param(httpx.Response(200, content=b"[" * 50_000), id="deep nesting"),
    pytest.param(httpx.Response(200, content=b"\xff\xfe\x00"), id="no text"),
    pytest.param(httpx.Response(200, content=b" " * 100 + b'{"a":"' + b"x" * 4 * 1024 * 1024 + b'"}'), id="flood"),
    pytest.param((200, {"hello": "world"}), id="JSON of something else"),
    pytest.param((200, []), id="a list"),
    pytest.param((200, None), id="null"),
    pytest.param((200, {"status": "verifying"}), id="an unknown status"),
    pytest.param((200, {"id": TASK_ID}), id="no status"),
    pytest.param((200, {"id": TASK_ID, "status": None}), id="a null status"),
    pytest.param((200, {"id": TASK_ID, "status": 3}), id="a status that is a number"),
    pytest.param((200, {"id": TASK_ID, "status": "completed"}), id="completed without images, for now"),
    pytest.param((200, {"id": TASK_ID, "status": "completed", "images": [{"url": "file:///x"}]}), id="a bad link"),
    pytest.param(
        (200, {"id": TASK_ID, "status": "processing", "usage": {"cost": 10**400}}), id="a cost that is no number"
    ),
    pytest.param(httpx.ConnectError("refused"), id="connect error"),
    pytest.param(httpx.ReadError("reset"), id="read error"),
    pytest.param(httpx.ReadTimeout("slow"), id="time-out"),
    pytest.param(httpx.RemoteProtocolError("cut"), id="truncated"),
    pytest.param(httpx.DecodingError("gzip"), id="broken compression"),
    pytest.param(httpx.Response(302, headers={"location": "http://[bad"}), id="a redirect to nonsense"),
    pytest.param(httpx.Response(307, headers={"location": "https://evil.test/"}), id="a redirect elsewhere"),
]


@pytest.mark.parametrize("trouble", PASSING)
@pytest.mark.parametrize("times", [1, 4])
def test_a_transient_failure_never_fails_an_accepted_task(home: Path, trouble: Any, times: int) -> None:
    """The image is being made and will be paid; whatever one response says, the next may have it."""
    transport = scripted(gets=[(200, PENDING), *[trouble] * times, (200, DONE)])
    result = run_call(home, transport)

    assert result["task"]["state"] == "completed"
    assert result["images"][0]["url"] == PICTURE_URL
    assert len(transport.posts) == 1


@pytest.mark.parametrize("trouble", PASSING)
def test_failures_from_the_first_poll_on_never_fail_a_task(home: Path, trouble: Any) -> None:
    """No path is proven yet, so every path meets the trouble."""
    transport = scripted(gets=[*[trouble] * 6, (200, DONE)])
    result = run_call(home, transport)

    assert result["task"]["state"] == "completed"
    assert len(transport.posts) == 1


@pytest.mark.parametrize(
    "trouble",
    [one for one in PASSING if not any(part in one.id for part in ("completed without", "bad l", "401", "403"))],
)
def test_failures_until_the_deadline_end_as_processing(home: Path, trouble: Any) -> None:
    """The agent is told to ask later and not to generate again."""
    transport = scripted(gets=[trouble])
    result = run_call(home, transport, wait_s=60)

    assert result["task"]["state"] == "processing"
    assert "get_image_task" in result["next"]
    assert f"task:{TASK_ID}" in (result["task"]["ref"], f"task:{TASK_ID}")
    assert len(transport.posts) == 1
    assert 3 < len(transport.gets) < 120


@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "truncated_body", "broken_json", "oversized_body"])
def test_the_sandboxs_poll_faults_never_fail_a_task(home: Path, runapi: SandboxTransport, fault: str) -> None:
    """The same on the service's side of the wire."""
    runapi.fault(fault, on="poll", times=3, size_bytes=5 * 1024 * 1024)
    result = run_call(home, runapi)

    assert result["task"]["state"] == "completed"
    assert runapi.billed == 1


def test_an_unknown_status_counts_as_active_and_is_reported(home: Path) -> None:
    """A status that the service adds later must not look like a failure."""
    transport = scripted(gets=[(200, {"id": TASK_ID, "status": "Being\x1b[31m dreamed"})])
    result = run_call(home, transport, wait_s=20)

    assert result["task"]["state"] == "processing"
    assert any('"Being[31m dreamed"' in warning for warning in result["warnings"])


def test_an_image_under_an_unknown_status_does_not_end_the_task(home: Path) -> None:
    """The status may mean "preview" or "done"; only the service knows."""
    transport = scripted(gets=[(200, {"id": TASK_ID, "status": "ready", "images": [PICTURE_URL]})])
    result = run_call(home, transport, wait_s=20)

    assert result["task"]["state"] == "processing"
    assert result["images"][0]["url"] == PICTURE_URL


def test_the_last_failure_is_reported_at_the_deadline(home: Path) -> None:
    """Else "processing" hides an outage."""
    result = run_call(home, scripted(gets=[(503, {"error": "maintenance until noon"})]), wait_s=20)

    assert any("maintenance until noon" in warning for warning in result["warnings"])


def test_a_status_that_may_not_be_asked_for_is_named_as_the_reason(home: Path) -> None:
    """Another request's 429 stops every request of the account; "being made" would hide that nobody looks."""

    def answer(request: Seen) -> Answer:
        if request.method == "GET":
            return 200, DONE
        is_first = len({post.headers["idempotency-key"] for post in transport.posts}) == 1
        return (200, CREATED) if is_first else json_answer({"error": "slow"}, 429, retry_after="3600")

    transport, told = MockService(answer), list[Progress]()
    result = run_call(home, transport, arguments={**FOX, "count": 2}, wait_s=20, on_progress=told.append)

    assert transport.gets == []
    assert result["task"]["state"] == "processing"
    assert any(warning.startswith("rate_limited: RunAPI limits the rate") for warning in result["warnings"])
    assert any("waiting for a turn: RunAPI limits the rate" in progress.message for progress in told)


# ---- completed without a picture -------------------------------------------------------------------------------------


@pytest.mark.parametrize("polls", [1, 3, 8])
def test_images_that_follow_completed_shortly_are_waited_for(home: Path, runapi: SandboxTransport, polls: int) -> None:
    """Storage may lag behind the status."""
    runapi.fault("late_images", polls=polls)
    result = run_call(home, runapi)

    assert result["task"]["state"] == "completed"
    assert len(result["images"]) == 1


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([], "has named no picture so far"),
        (["http://10.0.0.1/fox.png"], "has named only picture links that are refused"),
        ([{"url": "/pictures/fox.png"}], "has named only picture links that are refused"),
    ],
)
def test_a_wait_that_ends_on_such_a_status_says_so(home: Path, images: list[str], said: str) -> None:
    """Else "still being made" hides a service that is done, and that may have charged."""
    transport = scripted(gets=[(200, {"id": TASK_ID, "status": "completed", "images": images})])
    result = run_call(home, transport, wait_s=8)

    assert result["task"]["state"] == "processing"
    [warning] = result["warnings"]
    assert warning.startswith("no_picture_yet: ")
    assert said in warning


def test_completed_without_images_for_good_may_have_been_charged(home: Path, runapi: SandboxTransport) -> None:
    """Neither "no charge" nor "try again" would be true."""
    runapi.fault("no_images")

    async def main() -> tuple[dict[str, Any], float]:
        async with opened_tool(home, runapi) as tool:
            return await tool.call("text_to_image", FOX), asyncio.get_running_loop().time()

    result, took_s = run_virtual(main())
    error = result["error"]

    assert (error["code"], error["charged"], error["retryable"]) == ("unexpected_answer", "unknown", False)
    assert error["task_ref"].startswith("task:tsk_")
    assert "get_image_task" in error["hint"]
    assert 15.0 < took_s < 40.0


def test_the_image_of_such_a_task_is_found_by_a_later_call(home: Path) -> None:
    """The id is kept, and the next call polls again."""
    empty = {"id": TASK_ID, "status": "completed"}
    transport = scripted(gets=[*[(200, empty)] * 60, (200, DONE)])

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, transport) as tool:
            results = [await tool.call("text_to_image", FOX)]
            while "error" in results[-1] and len(results) < 20:
                results.append(await tool.call("get_image_task", {"task_id": TASK_ID}))
            return results

    results = run_virtual(main())

    assert results[0]["error"]["code"] == "unexpected_answer"
    assert results[-1]["images"][0]["url"] == PICTURE_URL
    assert len(transport.posts) == 1


# ---- failed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ({"status": "failed", "error": "no GPU"}, "generation_failed", "no GPU"),
        ({"status": "failed", "error": {"code": "E7", "message": "no GPU"}}, "generation_failed", "no GPU"),
        ({"status": "error", "message": "no GPU"}, "generation_failed", "no GPU"),
        ({"status": "FAILED", "detail": "no GPU"}, "generation_failed", "no GPU"),
        ({"state": "failed", "errorMessage": "no GPU"}, "generation_failed", "no GPU"),
        ({"status": "timeout", "msg": "no GPU"}, "generation_failed", "no GPU"),
        ({"status": "cancelled"}, "generation_failed", ""),
        ({"status": "canceled", "error": None}, "generation_failed", ""),
        ({"data": {"status": "failed", "error": "no GPU"}}, "generation_failed", "no GPU"),
        ({"status": "failed", "error": {"code": "content_policy_violation"}}, "content_refused", "content_policy"),
        ({"status": "failed", "error": "Flagged by moderation"}, "content_refused", "Flagged by moderation"),
        ({"status": "failed", "error": {"type": "nsfw", "message": "sorry"}}, "content_refused", "sorry"),
        (
            {"status": "failed", "response": {"status": 422, "body": {"error": "safety checker"}}},
            "content_refused",
            "safety checker",
        ),
    ],
)
def test_a_failed_task_quotes_the_services_error(home: Path, body: Any, code: str, said: str) -> None:
    """Moderation and a fault need different reactions; neither is charged."""
    transport = scripted(gets=[json_answer({"id": TASK_ID, **body}, x_request_id="req_9")])
    error = run_call(home, transport)["error"]

    assert (error["code"], error["charged"]) == (code, "no")
    assert error["task_ref"] == (None if code == "content_refused" else f"task:{TASK_ID}")
    assert error["request_id"] == "req_9"
    assert error["retryable"] is (code == "generation_failed")
    assert said in error["message"]
    assert not said or '"' in error["message"]
    assert len(transport.posts) == 1


@pytest.mark.parametrize(
    ("prompt", "code"), [("a fox [fail]", "generation_failed"), ("a fox [moderated]", "content_refused")]
)
@pytest.mark.parametrize("shape", ["text", "object"])
def test_the_sandboxs_failures_are_reported_and_not_billed(home: Path, prompt: str, code: str, shape: Any) -> None:
    """The same with the sandbox's own error shapes and ledger."""
    runapi = SandboxTransport(SandboxOptions(error_shape=shape, duration_s=3.0, seed=1))
    error = run_call(home, runapi, arguments={"prompt": prompt})["error"]

    assert (error["code"], error["charged"]) == (code, "no")
    assert runapi.billed == 0


def test_a_failure_that_was_billed_says_so(home: Path) -> None:
    """A user must see every charge."""
    transport = scripted(gets=[(200, {"status": "failed", "usage": {"cost": 0.05}})])
    error = run_call(home, transport)["error"]
    from_the_journal = run_call(home, transport, "get_image_task", {"task_id": "tsk_abc123"})["error"]

    assert error["charged"] == from_the_journal["charged"] == "yes"
    assert "$0.05" in error["message"]


# ---- how often -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("retry_after", "gap_s"), [("5", 5.0), ("20", 20.0), ("3600", 60.0), ("1e9", 60.0)])
def test_retry_after_on_a_poll_response_is_obeyed_and_capped(home: Path, retry_after: str, gap_s: float) -> None:
    """It may come with a 200; an absurd one must not put the task to sleep."""
    transport = scripted(gets=[json_answer(PENDING, retry_after=retry_after), (200, DONE)])
    run_call(home, transport, wait_s=300)
    first, second = transport.gets

    assert second.at_s - first.at_s == pytest.approx(gap_s, abs=0.2)


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_on_a_refused_poll_is_obeyed(home: Path, code: int) -> None:
    """The service is in trouble; a client that keeps asking prolongs it."""
    date = "Mon, 23 Nov 2026 00:00:15 GMT"
    transport = scripted(gets=[(200, PENDING), json_answer({"error": "x"}, code, retry_after=date), (200, DONE)])
    run_call(home, transport, wait_s=300)

    assert 14.5 <= transport.gets[2].at_s <= 16.0


@pytest.mark.parametrize("retry_after", ["30", "3600"])
def test_retry_after_on_the_create_response_is_obeyed_and_capped(home: Path, retry_after: str) -> None:
    """It says when the first poll is worth its request."""
    transport = scripted([json_answer(CREATED, retry_after=retry_after)])
    run_call(home, transport, wait_s=300)

    assert transport.gets[0].at_s - transport.posts[0].at_s == pytest.approx(min(60.0, float(retry_after)), abs=0.2)


@pytest.mark.parametrize("answer", [(200, PENDING), (429, {"error": "x"}), (503, {"error": "x"})])
def test_a_retry_after_of_zero_is_not_taken_literally(home: Path, answer: Any) -> None:
    """ "Retry-After: 0" on every answer is common; ten polls a second would not be welcome."""
    transport = scripted(gets=[json_answer(answer[1], answer[0], retry_after="0")])
    run_call(home, transport, wait_s=60)

    assert len(transport.gets) <= 130


def test_a_slow_task_is_polled_less_and_less(home: Path) -> None:
    """A task of ten minutes is not worth six hundred polls."""
    transport = scripted(gets=[(200, PENDING)])
    run_call(home, transport, wait_s=900)
    early = [poll for poll in transport.gets if poll.at_s <= 30]
    late = [poll for poll in transport.gets if poll.at_s > 600]

    assert 20 <= len(early) <= 40
    assert len(late) <= 90


def test_the_image_is_returned_soon_after_the_service_has_it(home: Path, runapi: SandboxTransport) -> None:
    """A task of six seconds must not take ten."""

    async def main() -> float:
        async with opened_tool(home, runapi) as tool:
            await tool.call("text_to_image", FOX)
            return asyncio.get_running_loop().time()

    assert 6.0 <= run_virtual(main()) <= 7.3
    # Nor be polled more often than every second on average.
    assert runapi.sandbox.ledger.polls <= 6


def test_the_key_goes_with_every_poll_and_nowhere_else(home: Path) -> None:
    """Polls are authorised; nothing of the key stands in a path."""
    transport = scripted(gets=[(404, {}), (200, PENDING), (200, DONE)])
    run_call(home, transport)

    for poll in transport.gets:
        assert poll.headers["authorization"] == f"Bearer {KEY}"
        assert KEY not in poll.url
        assert "idempotency-key" not in poll.headers
        assert json.dumps(poll.headers).count(KEY) == 1


# ---- a key that stays refused, a task that is denied -----------------------------------------------------------------


@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize("before", [[], [(200, PENDING)]], ids=["from the first poll on", "after a status"])
def test_a_key_that_stays_refused_ends_the_wait(home: Path, code: int, before: list[Any]) -> None:
    """Nothing but another key helps, and the image is being made: whoever waits can replace it meanwhile."""
    told: list[Progress] = []
    refusing = scripted(gets=[*before, (code, {"error": "key revoked"})])
    error = run_call(home, refusing, wait_s=300, on_progress=told.append, session="s")["error"]
    fetched = run_call(home, scripted(), session="s")

    assert (error["code"], error["charged"], error["task_ref"]) == ("authentication", "unknown", f"task:{TASK_ID}")
    assert refusing.gets[-1].at_s - refusing.posts[0].at_s < 20.0
    [first_told, *_] = [one for one in told if "refuses the key" in one.message]
    assert "key revoked" in first_told.message
    assert first_told.elapsed_s < 5.0
    assert (fetched["task"]["id"], fetched["task"]["joined"]) == (TASK_ID, True)
    assert fetched["task"]["state"] == "completed"


def test_a_refused_key_is_asked_about_less_and_less(home: Path) -> None:
    """A replaced key works at once, and a revoked one never: the first question is soon, and the last is late."""
    refusing = scripted(gets=[(200, PENDING), (401, {"error": "key revoked"})])
    run_call(home, refusing, wait_s=300)
    gaps_s = [later.at_s - earlier.at_s for earlier, later in pairwise(refusing.gets[1:])]

    assert gaps_s == sorted(gaps_s)
    # Jitter takes away half at most.
    assert gaps_s[-1] >= 2.0 ** (len(gaps_s) - 2) * gaps_s[0]


@pytest.mark.transport_only("the fault is the network's own")
def test_a_network_that_stays_unusable_ends_the_wait(home: Path) -> None:
    """Only whoever runs the machine can help; the image is being made, and is fetched when the network is right."""
    told: list[Progress] = []
    fault = UnusableConnectionError("http://proxy:3128 of HTTPS_PROXY refuses: 407", "give HTTPS_PROXY the password")
    unusable = scripted(gets=[(200, PENDING), fault])
    error = run_call(home, unusable, wait_s=300, on_progress=told.append, session="s")["error"]
    fetched = run_call(home, scripted(), session="s")

    assert (error["code"], error["charged"], error["task_ref"]) == ("configuration_error", "unknown", f"task:{TASK_ID}")
    assert "of HTTPS_PROXY refuses: 407" in error["message"]
    assert "Give HTTPS_PROXY the password." in error["hint"]
    assert unusable.gets[-1].at_s - unusable.posts[0].at_s < 20.0
    assert any("RunAPI cannot be reached" in one.message for one in told)
    assert (fetched["task"]["state"], fetched["task"]["joined"]) == ("completed", True)


@pytest.mark.parametrize("status", ["Request Moderated", "Content Moderated", "request_moderated", "CONTENT-MODERATED"])
def test_a_moderated_task_has_ended(home: Path, status: str) -> None:
    """The model maker's own word for it; taken as unknown, it would be waited for until the deadline."""
    error = run_call(home, scripted(gets=[(200, {"id": TASK_ID, "status": status})]))["error"]

    assert (error["code"], error["charged"]) == ("content_refused", "no")
    assert status in error["message"]


def test_a_task_that_is_denied_where_it_was_seen_has_ended(home: Path) -> None:
    """It may have been charged, so it stays in the journal."""
    gone = (200, {"id": TASK_ID, "status": "Task not found"})
    transport = scripted(gets=[*[(200, PENDING)] * 4, gone])
    error = run_call(home, transport, wait_s=300)["error"]

    assert (error["code"], error["charged"], error["task_ref"]) == ("task_not_found", "unknown", f"task:{TASK_ID}")
    assert len(transport.gets) < 12


@pytest.mark.parametrize("place", PLACES[1:])
def test_a_task_that_is_denied_at_a_guessed_path_may_be_at_another(home: Path, place: str) -> None:
    """Only where it was seen is the word certain."""
    transport = _at(place, lambda _request: (200, DONE), elsewhere=(200, {"status": "Task not found"}))

    assert run_call(home, transport)["task"]["state"] == "completed"


def test_a_task_not_found_once_is_polled_on(home: Path) -> None:
    """A replica may lag behind."""
    gone = (200, {"id": TASK_ID, "status": "task_not_found"})
    transport = scripted(gets=[gone, (200, PENDING), gone, gone, (200, DONE)])

    assert run_call(home, transport)["task"]["state"] == "completed"


@pytest.mark.parametrize(
    "stray",
    [
        {"id": "tsk_other", "status": "completed", "images": [{"url": "https://cdn.example/other.png"}]},
        {"task_id": "tsk_other", "status": "failed", "error": "no GPU"},
        {"data": {"id": "tsk_other", "status": "completed", "images": ["https://cdn.example/other.png"]}},
    ],
)
@pytest.mark.parametrize("times", [1, 4])
def test_a_response_about_another_task_is_not_this_ones(home: Path, stray: Any, times: int) -> None:
    """A proxy that mixes up responses must not hand over somebody else's picture."""
    transport = scripted(gets=[*[(200, stray)] * times, (200, DONE)])
    result = run_call(home, transport)

    assert [image["url"] for image in result["images"]] == [PICTURE_URL]


@pytest.mark.parametrize(
    ("billing", "charged"),
    [
        ({"refund": {"refunded_at": "2026-11-23T00:00:00Z"}, "settlement": {"amount_micro_cents": 5_000_000}}, "no"),
        ({"refund": {"refunded_at": None}, "settlement": {"amount_micro_cents": 5_000_000}}, "yes"),
        ({"refund": None, "settlement": {"amount_micro_cents": 0}}, "no"),
        ({"reservation": {"amount_cents": 5}}, "no"),
    ],
)
def test_a_failed_task_is_charged_unless_it_was_refunded(home: Path, billing: Any, charged: str) -> None:
    """The bill decides, and not the rule that failures are free."""
    failed = {"id": TASK_ID, "status": "failed", "error": "no GPU", "billing": billing}
    error = run_call(home, scripted(gets=[(200, failed)]))["error"]

    assert (error["code"], error["charged"]) == ("generation_failed", charged)
