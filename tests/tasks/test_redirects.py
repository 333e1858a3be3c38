"""Redirects: followed within the origin with body and key, and never to another one."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from flux2_tool.runapi.client import MAX_REDIRECTS
from flux2_tool.tasks.submit import MAX_UNREADABLE
from tests.support.harness import (
    BASE_URL,
    CREATED,
    DONE,
    PICTURE_URL,
    Answer,
    MockService,
    Seen,
    again,
    json_answer,
    run_call,
)
from tests.support.keys import KEY

HOST = "runapi.test"


def _redirecting(status: int, location: str, *, on: str = "POST") -> MockService:
    """Redirect the first address of a kind; everything else, on any host, answers well."""

    def answer(request: Seen) -> Answer:
        first = "/v1/text_to_image" if on == "POST" else "/v1/text_to_image/tsk_abc123"
        if request.method == on and request.path == first and HOST in request.url:
            return httpx.Response(status, headers={"location": location.encode()})
        return (200, CREATED) if request.method == "POST" else (200, DONE)

    return MockService(answer)


def _hosts_with_key(transport: MockService) -> set[str]:
    return {
        httpx.URL(request.url).host
        for request in transport.seen
        if any(KEY in value for value in request.headers.values()) or KEY.encode() in request.body
    }


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize(
    "location", ["/v2/text_to_image", f"{BASE_URL}/v2/text_to_image", "//runapi.test/v2/text_to_image"]
)
def test_a_redirect_within_the_origin_keeps_body_and_keys(home: Path, status: int, location: str) -> None:
    """A POST that became a GET would make no image."""
    transport = _redirecting(status, location)
    result = run_call(home, transport)
    first, second = transport.posts

    assert result["task"]["state"] == "completed"
    assert second.url == f"{BASE_URL}/v2/text_to_image"
    assert second.body == first.body
    for name in ("authorization", "idempotency-key", "content-type"):
        assert second.headers[name] == first.headers[name]


# No URL can be made of these, or none that httpx takes; the last one's name is no host name.
UNREADABLE = [
    "https://[::1/",
    "http://[bad",
    "javascript:alert(1)",
    "foo:bar",
    "https://\u2603.com/",
    f"https://evil.test/{'a' * 70_000}",
    "https://xn--n3h.com/",
]
ELSEWHERE = [
    *UNREADABLE,
    "https://evil.test/v1/text_to_image",
    "//evil.test/v1/text_to_image",
    "http://runapi.test/v1/text_to_image",
    "https://runapi.test:8443/v1/text_to_image",
    "https://runapi.test.evil.test/",
    "https://runapi.test@evil.test/",
    "https://user:pass@runapi.test/",
    "https://runapi.test:99999/",
    "file:///etc/passwd",
    "https://runapi.test\\@evil.test/",
    "",
]


@pytest.mark.parametrize("location", ELSEWHERE)
@pytest.mark.parametrize("status", [301, 307])
def test_a_create_redirected_to_another_origin_never_sends_the_key(home: Path, location: str, status: int) -> None:
    """Whoever can make the service redirect must not get the key."""
    transport = _redirecting(status, location)
    error = run_call(home, transport)["error"]

    assert (error["code"], error["charged"]) == ("unexpected_answer", "unknown")
    assert len({(post.body, post.headers["idempotency-key"]) for post in transport.posts}) == 1
    # An empty one leads back to the same page.
    assert len(transport.posts) == (MAX_UNREADABLE if location or status == 301 else 1 + MAX_REDIRECTS)
    assert _hosts_with_key(transport) == {HOST}
    assert {httpx.URL(request.url).host for request in transport.seen} == {HOST}


@pytest.mark.parametrize("location", ELSEWHERE)
def test_a_poll_redirected_to_another_origin_tries_the_next_path(home: Path, location: str) -> None:
    """A redirected poll never fails an accepted task, and the key is never sent to another origin."""
    transport = _redirecting(302, location, on="GET")
    result = run_call(home, transport)

    assert result["task"]["state"] == "completed"
    assert result["images"][0]["url"] == PICTURE_URL
    assert _hosts_with_key(transport) == {HOST}
    assert len(transport.posts) == 1


def test_a_redirect_loop_ends(home: Path) -> None:
    """It would hang the call."""
    transport = _redirecting(307, "/v1/text_to_image")
    error = run_call(home, transport)["error"]

    assert error["code"] == "unexpected_answer"
    assert len(transport.posts) <= 5


def test_a_polls_redirect_within_the_origin_is_followed(home: Path) -> None:
    """A moved status page is still this task's."""
    transport = _redirecting(301, "/v3/status/tsk_abc123", on="GET")
    result = run_call(home, transport)

    assert result["task"]["state"] == "completed"
    assert [poll.path for poll in transport.gets] == ["/v1/text_to_image/tsk_abc123", "/v3/status/tsk_abc123"]


@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize("location", ["/v1/results/tsk_abc123", f"{BASE_URL}/v1/results/tsk_abc123?full=1"])
@pytest.mark.parametrize("body", [b"", b"<html>Moved</html>", json.dumps(CREATED).encode()])
def test_a_link_to_the_task_is_polled_and_never_posted_to(home: Path, status: int, location: str, body: bytes) -> None:
    """See Other means: accepted, ask there. Posting there again could make a second image."""

    def answer(request: Seen) -> Answer:
        if request.method == "POST":
            return httpx.Response(status, headers={"location": location.encode()}, content=body)
        return (200, DONE) if request.path == "/v1/results/tsk_abc123" else (404, {})

    transport = MockService(answer)
    result = run_call(home, transport)

    assert result["task"]["id"] == "tsk_abc123"
    assert result["task"]["state"] == "completed"
    assert len(transport.posts) == 1
    assert transport.gets[0].url.startswith(f"{BASE_URL}/v1/results/tsk_abc123")


@pytest.mark.parametrize(
    ("location", "task_id"),
    [
        pytest.param("/v1/results/tsk_abc123/", "tsk_abc123", id="a slash at the end"),
        pytest.param("/v1/text_to_image/tsk_abc123//", "tsk_abc123", id="slashes"),
        pytest.param("/api/v1/flux_2/text_to_image/tsk_abc123", "tsk_abc123", id="deeper"),
        pytest.param("/api/v1/jobs/abc-123", "abc-123", id="another collection, an id with digits"),
        pytest.param("/api/v1/jobs/signin", None, id="another collection, a word"),
        pytest.param("/v1/tsk_abc123", None, id="no collection"),
        pytest.param("/v2/tasks/tsk_abc123", None, id="another version"),
    ],
)
def test_the_last_segment_of_a_link_is_the_task(home: Path, location: str, task_id: str | None) -> None:
    """An id that is misread is polled for in vain, and the paid image is lost."""

    def answer(request: Seen) -> Answer:
        if request.method == "POST":
            return httpx.Response(303, headers={"location": location})
        return (200, {**DONE, "id": task_id}) if request.path.rstrip("/").endswith(f"/{task_id}") else (404, {})

    result = run_call(home, MockService(answer))

    assert ("task" in result) == (task_id is not None)
    if task_id is not None:
        assert (result["task"]["id"], result["task"]["state"]) == (task_id, "completed")


PAGES = ["/signin", "/", "/home?from=/v1/x", "/v1/login", "/v1/users/sign_in", "/v1/text_to_image/"]


@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize("location", [*ELSEWHERE, "https://sso.test/v1/signin", *PAGES])
def test_a_link_to_another_page_names_no_task(home: Path, location: str, status: int) -> None:
    """A sign-in page must not become a task "signin" that is then polled for a quarter of an hour."""

    def answer(request: Seen) -> Answer:
        if request.method == "POST":
            return httpx.Response(status, headers={"location": location.encode()})
        return 200, DONE

    transport = MockService(answer)
    error = run_call(home, transport)["error"]

    assert (error["code"], error["charged"], error["task_ref"]) == ("unexpected_answer", "unknown", None)
    assert "elsewhere" in error["message"]
    assert "base URL" in error["hint"]
    assert (len(transport.posts), len(transport.seen)) == (MAX_UNREADABLE, MAX_UNREADABLE)


@pytest.mark.parametrize("location", ELSEWHERE)
def test_a_303_with_the_task_in_its_body_is_accepted_whatever_its_location(home: Path, location: str) -> None:
    """The response says what was made and paid for; its Location only says where to look."""

    def answer(request: Seen) -> Answer:
        if request.method == "POST":
            return json_answer(CREATED, 303, location=location)
        return 200, DONE

    transport = MockService(answer)
    result = run_call(home, transport)

    assert (result["task"]["id"], result["task"]["state"]) == ("tsk_abc123", "completed")
    assert len(transport.posts) == 1
    assert _hosts_with_key(transport) == {HOST}


def test_a_303_to_another_origin_accepts_its_task_but_is_not_polled(home: Path) -> None:
    """The task is paid for; its status is polled at RunAPI's own paths."""

    def answer(request: Seen) -> Answer:
        if request.method == "POST":
            return json_answer(CREATED, 303, location="https://evil.test/results/tsk_abc123")
        return 200, DONE

    transport = MockService(answer)
    result = run_call(home, transport)

    assert result["task"]["state"] == "completed"
    assert _hosts_with_key(transport) == {HOST}


def test_a_page_with_a_location_header_names_no_task(home: Path) -> None:
    """A captive portal responds with 200 and the location of its page."""
    page = httpx.Response(200, headers={"location": "/home", "content-type": "text/html"}, content=b"<html>Hi</html>")
    transport = MockService(lambda request: page if request.method == "POST" else (404, {}))
    error = run_call(home, transport, wait_s=30)["error"]

    assert (error["code"], error["charged"], error["task_ref"]) == ("unexpected_answer", "unknown", None)
    assert transport.gets == []


@pytest.mark.parametrize("code", [400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 501])
def test_what_follows_a_redirect_proves_nothing(home: Path, code: int) -> None:
    """The task may be made by what redirected; where that leads knows nothing of it, and may refuse any POST."""

    def answer(request: Seen) -> Answer:
        if request.path == "/v1/text_to_image":
            return httpx.Response(307, headers={"location": "/v1/tasks/tsk_abc123"})
        return code, {"error": "no"}

    transport = MockService(answer)
    error = run_call(home, transport)["error"]

    assert error["charged"] == "unknown"
    assert "Nothing was" not in error["message"]
    assert {post.path for post in transport.posts} == {"/v1/text_to_image", "/v1/tasks/tsk_abc123"}


@pytest.mark.transport_only("over sockets a request that has arrived cannot count as never sent")
def test_a_connection_refused_after_a_redirect_proves_nothing(home: Path) -> None:
    """The first address has had the request."""
    redirect = httpx.Response(307, headers={"location": "/v2/text_to_image"})
    answers: dict[str, Answer] = {"/v1/text_to_image": redirect, "/v2/text_to_image": httpx.ConnectError("refused")}
    error = run_call(home, MockService(lambda request: again(answers[request.path])))["error"]

    assert (error["code"], error["charged"]) == ("service_unavailable", "unknown")
