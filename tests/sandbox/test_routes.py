"""Both routes, every poll address, keys, request ids and error bodies."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

POLL_PREFIXES = {
    "guide": "/v1/text_to_image/",
    "service": "/api/v1/flux_2/text_to_image/",
    "service_plain": "/api/v1/flux_2/",
    "v1_tasks": "/v1/tasks/",
    "api_tasks": "/api/v1/tasks/",
}


def test_the_guide_route_responds_as_the_guide_shows(call: Any) -> None:
    """The guide's users read exactly these three fields."""
    answer = call.create("/v1/text_to_image")

    assert answer.status_code == 200
    assert set(answer.json()) == {"task_id", "status", "model"}
    assert re.fullmatch(r"tsk_[0-9a-f]+", answer.json()["task_id"])
    assert answer.json()["status"] == "pending"
    assert answer.json()["model"] == "flux-2-pro-text-to-image"


def test_the_service_route_responds_as_the_sdk_expects(call: Any, call_with: Any) -> None:
    """Its ids are UUIDs, and its status may be absent."""
    answer = call.create("/api/v1/flux_2/remix_image").json()
    terse = call_with(status_in_create=False).create("/api/v1/flux_2/text_to_image").json()

    assert re.fullmatch(UUID, answer["id"])
    assert answer == {
        "id": answer["id"],
        "status": "pending",
        "billing": {"reservation": {"amount_cents": 5}, "settlement": None, "refund": None},
    }
    assert list(terse) == ["id", "billing"]


def test_a_create_names_its_task_in_a_header_too(call: Any, call_with: Any) -> None:
    """A body may be lost on its way; the vendor's SDK reads the header."""
    made = call.create("/api/v1/flux_2/text_to_image", idempotency_key="k")
    again = call.create("/api/v1/flux_2/text_to_image", idempotency_key="k")
    of_the_guide = call.create("/v1/text_to_image")
    without = call_with(task_id_header=False).create("/v1/text_to_image")

    assert made.headers["x-runapi-task-id"] == made.json()["id"] == again.headers["x-runapi-task-id"]
    assert ("task_replayed" in made.json(), again.json()["task_replayed"]) == (False, True)
    assert of_the_guide.headers["x-runapi-task-id"] == of_the_guide.json()["task_id"]
    assert "x-runapi-task-id" not in without.headers


def test_klein_has_a_service_of_its_own(call: Any, call_with: Any) -> None:
    """Under the paths of the others there is no such model, and no task of it."""
    klein = {"model": "flux-2-klein"}
    made = call.create("/api/v1/flux/text_to_image", **klein)
    elsewhere = [call.create(path, **klein) for path in ("/v1/text_to_image", "/api/v1/flux_2/text_to_image")]
    pro = call.create("/api/v1/flux/text_to_image", model="flux-2-pro-text-to-image")
    task_id = made.json()["id"]
    polls = [
        call.request("GET", f"{path}/{task_id}").status_code
        for path in ("/api/v1/flux/text_to_image", "/api/v1/flux", "/v1/tasks", "/api/v1/tasks", "/api/v1/flux_2")
    ]
    switched_off = call_with(flux_service=False).create("/api/v1/flux/text_to_image", **klein)

    assert made.status_code == 200
    assert made.json()["billing"]["reservation"] == {"amount_cents": 3}
    assert [refused.status_code for refused in (*elsewhere, pro)] == [422, 422, 422]
    assert polls == [200, 200, 200, 200, 404]
    assert switched_off.status_code == 404


@pytest.mark.parametrize("is_text", [False, True])
def test_the_tasks_path_answers_with_an_envelope(call_with: Any, is_text: bool) -> None:
    """It belongs to endpoints of every kind; the stored response may be text."""
    call = call_with(envelope_text=is_text)
    task_id = call.task()

    running = call.request("GET", f"/api/v1/tasks/{task_id}").json()
    call.clock.now += 20
    ended = call.request("GET", f"/api/v1/tasks/{task_id}").json()
    body = json.loads(ended["response"]["body"]) if is_text else ended["response"]["body"]

    assert running["status"] in ("pending", "processing")
    assert "response" not in running
    assert (ended["id"], ended["status"], ended["response"]["status"]) == (task_id, "completed", 200)
    assert body["images"][0]["url"].startswith("http")


@pytest.mark.parametrize(("refunds", "charged_cents"), [(True, 0), (False, 5)])
def test_a_failed_task_says_what_became_of_its_money(call_with: Any, refunds: bool, charged_cents: int) -> None:
    """What was reserved is given back, or charged."""
    call = call_with(refunds=refunds)
    task_id = call.create("/api/v1/flux_2/text_to_image", prompt="a fox [fail]").json()["id"]
    call.clock.now += 20

    billing = call.request("GET", f"/api/v1/flux_2/text_to_image/{task_id}").json()["billing"]

    assert billing["reservation"] == {"amount_cents": 5}
    assert bool(billing["refund"]) is refunds
    assert bool(billing["settlement"]) is not refunds
    assert call.sandbox.ledger.billed_cents == charged_cents


def test_the_key_may_come_as_x_api_key(call: Any) -> None:
    """A bearer token wins; storage must see neither."""
    own = call.request("GET", "/api/v1/me/balance", key=None, headers={"X-API-Key": "sk-test"})
    bad = call.request("GET", "/api/v1/me/balance", key="wrong", headers={"X-API-Key": "sk-test"})
    none = call.request("GET", "/api/v1/me/balance", key=None)
    stored = call.request("GET", call.image(), key=None, headers={"X-API-Key": "sk-test"})

    assert [answer.status_code for answer in (own, bad, none, stored)] == [200, 401, 401, 400]
    assert len(call.sandbox.ledger.authorization_leaks) == 1


def test_the_models_are_listed_without_a_key(call: Any) -> None:
    """In the form of OpenAI's list."""
    listed = call.request("GET", "/v1/models", key=None).json()

    assert listed["object"] == "list"
    assert {"flux-2-pro-text-to-image", "flux-2-max-remix-image", "flux-2-klein"} <= {m["id"] for m in listed["data"]}


@pytest.mark.parametrize("status", [404, 405, 410, 501])
def test_a_route_that_is_switched_off_creates_nothing(call_with: Any, status: int) -> None:
    """A client may only try the other route because nothing was created here."""
    call = call_with(guide_route=False, route_off_status=status)

    refused, accepted = call.create("/v1/text_to_image"), call.create("/api/v1/flux_2/text_to_image")

    assert refused.status_code == status
    assert accepted.status_code == 200
    assert [record.outcome for record in call.sandbox.ledger.creates] == ["route_off", "created"]
    assert len(call.sandbox.ledger.tasks) == 1


@pytest.mark.parametrize("name", list(POLL_PREFIXES))
def test_each_poll_address_can_be_the_only_one(call_with: Any, name: str) -> None:
    """Where the live service answers polls is not certain, so a client has to find it."""
    call = call_with(poll_paths=frozenset({name}))
    task_id = call.task()

    statuses = {other: call.poll(task_id, prefix).status_code for other, prefix in POLL_PREFIXES.items()}

    assert statuses == {other: 200 if other == name else 404 for other in POLL_PREFIXES}


def test_a_task_can_be_polled_on_both_routes_of_its_action(call: Any) -> None:
    """The id alone names the task; the action in the path must be its own."""
    task_id = call.task(path="/v1/remix_image")

    assert call.poll(task_id, "/api/v1/flux_2/remix_image/").json()["id"] == task_id
    assert call.poll(task_id, "/v1/text_to_image/").status_code == 404


def test_a_new_task_may_stay_invisible_for_a_while(call_with: Any) -> None:
    """A 404 right after the create must not fail a paid task."""
    call = call_with(visible_after_s=3.0)
    task_id = call.task()

    early = call.poll(task_id)
    call.clock.now += 3.0
    later = call.poll(task_id)

    assert (early.status_code, later.status_code) == (404, 200)


@pytest.mark.parametrize(
    ("key", "good_keys", "status"),
    [
        pytest.param(None, [], 401, id="no key"),
        pytest.param("pk-other", [], 401, id="a key of another kind"),
        pytest.param("sk-anything", [], 200, id="any sk- key by default"),
        pytest.param("sk-anything", ["secret"], 401, id="not one of the named keys"),
        pytest.param("secret", ["secret"], 200, id="a named key"),
    ],
)
def test_a_request_needs_a_good_key(call_with: Any, key: str | None, good_keys: list[str], status: int) -> None:
    """A wrong key must look like the service's 401, not like a sandbox that takes anything."""
    call = call_with(api_keys=frozenset(good_keys))

    answer = call.create(key=key)

    assert answer.status_code == status
    if status == 401:
        assert answer.json() == {"error": "Invalid or missing API key"}
        assert call.sandbox.ledger.creates[-1].outcome == "unauthorized"


def test_a_task_is_invisible_to_another_key(call: Any) -> None:
    """Accounts are apart."""
    task_id = call.task()

    assert call.poll(task_id, key="sk-stranger").status_code == 404


def test_every_response_has_request_ids(call: Any) -> None:
    """Support needs both, on errors most of all."""
    answers = [
        call.create(),
        call.request("GET", "/nowhere"),
        call.request("GET", "/v1/text_to_image"),
        call.request("POST", "/v1/text_to_image", headers={"X-Client-Request-Id": "call-7"}, content=b"{"),
    ]

    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == len(answers)
    assert [answer.headers.get("x-client-request-id") for answer in answers] == [None, None, None, "call-7"]
    assert [answer.status_code for answer in answers] == [200, 404, 405, 415]


def test_an_invalid_client_request_id_is_refused(call: Any) -> None:
    """The service takes printable ASCII of at most 512 characters."""
    answers = [call.request("GET", "/api/v1/me", headers={"X-Client-Request-Id": bad}) for bad in ("a\tb", "a" * 513)]

    assert [answer.status_code for answer in answers] == [400, 400]
    assert all("x-request-id" in answer.headers for answer in answers)


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("text", {"error": "Validation failed", "errors": {"prompt": ["is required"]}}),
        (
            "object",
            {
                "error": {"code": "validation_failed", "message": "Validation failed"},
                "errors": {"prompt": ["is required"]},
            },
        ),
        ("message", {"message": "Validation failed", "errors": {"prompt": ["is required"]}}),
        ("detail", {"detail": "Validation failed", "errors": {"prompt": ["is required"]}}),
        ("errorMessage", {"errorMessage": "Validation failed", "errors": {"prompt": ["is required"]}}),
        ("msg", {"msg": "Validation failed", "errors": {"prompt": ["is required"]}}),
    ],
)
def test_each_known_error_body_can_be_chosen(call_with: Any, shape: str, body: dict[str, Any]) -> None:
    """The service's error bodies differ by age and by endpoint."""
    answer = call_with(error_shape=shape).create(prompt=None)

    assert answer.status_code == 422
    assert answer.json() == body


def test_errors_can_be_html_pages(call_with: Any) -> None:
    """A proxy in front of the service writes those."""
    answer = call_with(error_shape="html").request("GET", "/v1/tasks/none")

    assert answer.headers["content-type"].startswith("text/html")
    assert answer.text.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("link", "read"),
    [
        ("location", lambda answer: answer.headers["location"]),
        ("status_url", lambda answer: answer.json()["status_url"]),
        ("urls_get", lambda answer: answer.json()["urls"]["get"]),
    ],
)
def test_a_create_response_can_link_to_its_status(call_with: Any, link: str, read: Any) -> None:
    """Such a link outranks every guessed poll address; the task answers at it."""
    call = call_with(status_link=link, poll_paths=frozenset())
    answer = call.create()

    told = call.request("GET", read(answer)).json()

    assert told["id"] == answer.json()["task_id"]
    assert told["status"] == "pending"


def test_a_status_link_can_return_envelopes(call_with: Any) -> None:
    """The answer at Location wraps the stored response."""
    call = call_with(status_link="location", status_link_envelope=True)
    answer = call.create()
    url = answer.headers["location"]

    early = call.request("GET", url).json()
    call.clock.now += 10
    done = call.request("GET", url).json()

    assert set(early) == {"id", "status"}
    assert done["status"] == "completed"
    assert done["response"]["status"] == 200
    assert done["response"]["content_type"] == "application/json"
    assert done["response"]["body"]["images"][0]["url"].startswith("http://")


def test_a_status_link_can_point_to_another_origin(call_with: Any) -> None:
    """A client has to refuse that one."""
    call = call_with(status_link="location", status_link_origin="http://evil.test")

    assert call.create().headers["location"].startswith("http://evil.test/")


def test_responses_can_be_in_data_or_have_the_id_in_a_header(call_with: Any) -> None:
    """All of these places for the id have been seen."""
    wrapped = call_with(body_shape="data")
    task_id = wrapped.create().json()["data"]["task_id"]
    bare = call_with(body_shape="header").create()

    assert wrapped.poll(task_id).json()["data"]["status"] == "pending"
    assert bare.headers["x-runapi-task-id"].startswith("tsk_")
    assert "task_id" not in bare.json()


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("images", list),
        ("image_urls", list),
        ("image_url", str),
        ("url", str),
        ("output", str),
        ("outputs", list),
        ("result", list),
        ("data", list),
    ],
)
def test_the_image_can_be_in_any_known_field(call_with: Any, field: str, kind: type) -> None:
    """The guide names no result field at all."""
    call = call_with(result_field=field)
    task_id = call.task()
    call.clock.now += 10

    value = call.poll(task_id).json()[field]

    assert isinstance(value, kind)
    assert "http://sandbox.test/storage/" in str(value)
