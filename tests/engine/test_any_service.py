"""Whatever a service answers, in whatever order: what must hold of every call all the same."""

from __future__ import annotations

import json
import tempfile
from itertools import takewhile
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from flux2_tool.schema.manifest import load_manifest
from tests.support import network
from tests.support.harness import CREATED, DONE, PICTURE_URL, Answer, MockService, Seen, again, run_call

_RESULTS = Draft202012Validator(load_manifest().tools["text_to_image"].output_schema)
_NAMES = ["id", "task_id", "status", "state", "data", "images", "url", "output", "error", "message", "usage", "cost"]
_NAMES += ["response", "body", "status_url", "urls", "get", "errors", "code", "result", "expires_at", "model"]
_WORDS = ["tsk_abc123", "pending", "processing", "completed", "failed", "verifying", PICTURE_URL, "/v1/tasks/x"]
_WORDS += ["https://evil.test/x", "http://[bad", "\x1b[31m", "\ud800", "../..", "moderation"]
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(_WORDS)
    | st.text(max_size=8)
    | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=5),
    max_leaves=12,
)
_codes = st.sampled_from([200, 200, 200, 201, 202, 204, 301, 302, 303, 304, 307, 400, 401, 402, 404, 405, 408, 409])
_codes |= st.sampled_from([410, 413, 422, 425, 429, 451, 455, 500, 501, 502, 503, 504, 599])
_headers = st.fixed_dictionaries(
    {},
    optional={
        "location": st.sampled_from(["/v1/tasks/x", "https://evil.test/", "http://[bad", "", "/v1/text_to_image"]),
        "retry-after": st.sampled_from(["0", "1", "30", "soon", "-1", "nan", "Mon, 23 Nov 2026 00:00:09 GMT", "1e9"]),
        "x-request-id": st.sampled_from(["req_1", "\x07bell", "x" * 500]),
        "x-runapi-task-id": st.sampled_from(["tsk_header", "../x", ""]),
        "content-type": st.sampled_from(["application/json", "text/html", "", "nonsense"]),
    },
)
_answers = (
    st.sampled_from([(200, CREATED), (200, DONE)])
    | st.builds(
        lambda code, body, headers: httpx.Response(code, content=json.dumps(body).encode(), headers=headers),
        _codes,
        _json,
        _headers,
    )
    | st.builds(lambda code, body: httpx.Response(code, content=body), _codes, st.binary(max_size=30))
    | st.sampled_from([httpx.ReadError("reset"), httpx.ConnectError("refused"), httpx.ReadTimeout("slow")])
)
# Over sockets each takes four times as long, and what differs there is found by few.
_EXAMPLES = 100 if network.chosen() == "transport" else 40
_few = settings(max_examples=_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _service(posts: list[Any], gets: list[Any]) -> MockService:
    left = {"POST": list(posts), "GET": list(gets)}

    def answer(request: Seen) -> Answer:
        mine = left[request.method]
        return again(mine.pop(0) if len(mine) > 1 else mine[0])

    return MockService(answer)


def _called(transport: MockService, **options: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        return run_call(Path(home), transport, wait_s=60, **options)


@given(st.lists(_answers, min_size=1, max_size=5), st.lists(_answers, min_size=1, max_size=8))
@_few
def test_every_call_ends_in_a_valid_result_after_one_request(posts: list[Any], gets: list[Any]) -> None:
    """No crash, no second image, no key elsewhere, no flood, whatever the service is."""
    transport = _service(posts, gets)
    result = _called(transport)

    _RESULTS.validate(json.loads(json.dumps(result, allow_nan=False)))
    assert result.get("error", {}).get("code") != "internal_error"
    assert len({(post.body, post.headers["idempotency-key"]) for post in transport.posts}) == 1
    assert all(request.url.startswith("https://runapi.test/") for request in transport.seen)
    assert len(transport.posts) <= 12
    # A redirect in circles makes four requests of one poll.
    assert len(transport.gets) <= 400


@given(st.lists(_answers, min_size=1, max_size=5))
@_few
def test_the_other_route_is_tried_only_after_nothing_but_missing_routes(posts: list[Any]) -> None:
    """An answer that was lost, or is not understood, may have made the image."""
    answers = iter([*posts, *[posts[-1]] * 20])
    given_to: list[tuple[str, Any]] = []

    def answer(request: Seen) -> Answer:
        if request.method == "GET":
            return 200, DONE
        mine = next(answers)
        given_to.append((request.path, mine))
        return again(mine)

    _called(MockService(answer))
    # The service's route may redirect to any path.
    on_guide = [mine for _, mine in takewhile(lambda one: not one[0].startswith("/api/"), given_to)]
    if len(on_guide) < len(given_to):
        harmless = (404, 405, 410, 501, 429, 301, 302, 307, 308)
        assert all(
            isinstance(mine, httpx.ConnectError) or (isinstance(mine, httpx.Response) and mine.status_code in harmless)
            for mine in on_guide
        )


@given(st.lists(_answers, min_size=1, max_size=8))
@_few
def test_a_lookup_of_an_unknown_task_never_creates_anything(gets: list[Any]) -> None:
    """get_image_task is free."""
    transport = _service([(200, CREATED)], gets)
    result = _called(transport, tool="get_image_task", arguments={"task_id": "tsk_abc123"})

    _RESULTS.validate(result)
    assert result.get("error", {}).get("code") != "internal_error"
    assert transport.posts == []
