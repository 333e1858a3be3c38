"""Every fault does what its name says, and the ledger tells what really happened."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from flux2_tool.sandbox import ConnectionDropped, Fault, FaultRate, SandboxOptions, running_sandbox

KEY = {"Authorization": "Bearer sk-test"}
BODY = {"model": "flux-2-pro-text-to-image", "prompt": "a red fox in the snow"}


def test_a_scripted_fault_hits_the_next_matching_requests_only(call: Any) -> None:
    """A test scripts exactly what goes wrong."""
    task_id = call.task()
    call.sandbox.faults.queue(Fault(kind="status", on="poll", times=2, status=502))

    created = call.create().status_code
    polled = [call.poll(task_id).status_code for _ in range(3)]

    assert created == 200
    assert polled == [502, 502, 200]
    assert call.sandbox.faults.pending() == []


@pytest.mark.parametrize(
    ("retry_after", "header"),
    [
        pytest.param(7, "7", id="seconds"),
        pytest.param(0.5, "0.5", id="part of a second"),
        pytest.param("date:30", "Mon, 23 Nov 2026 12:00:30 GMT", id="HTTP date"),
        pytest.param("soon", "soon", id="nonsense"),
        pytest.param(None, None, id="none"),
    ],
)
def test_a_429_has_a_retry_after(call: Any, retry_after: Any, header: str | None) -> None:
    """In either form of the header, or in none."""
    call.sandbox.faults.queue(Fault(kind="status", on="create", status=429, retry_after=retry_after))

    answer = call.create()

    assert answer.status_code == 429
    assert answer.json() == {"error": "Too many requests"}
    assert answer.headers.get("retry-after") == header
    assert call.sandbox.ledger.tasks == {}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [("json", "application/json"), ("html", "text/html"), ("text", "text/plain"), ("empty", "")],
)
def test_a_server_error_has_the_requested_body(call: Any, body: Any, content_type: str) -> None:
    """Proxies answer in HTML, in text, or in nothing."""
    call.sandbox.faults.queue(Fault(kind="status", status=503, body=body))

    answer = call.create()

    assert answer.status_code == 503
    assert answer.headers.get("content-type", "").startswith(content_type)


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_that_has_no_body_gets_none(call: Any, status: int) -> None:
    """HTTP says so, and a server breaks the connection over one."""
    call.sandbox.faults.queue(Fault(kind="status", status=status, body="json"))

    answer = call.create()

    assert (answer.status_code, answer.content) == (status, b"")


def test_a_latency_fault_delays_the_response(call: Any) -> None:
    """Latency is waited out on the sandbox's clock."""
    task_id = call.task()
    before = call.clock.now
    call.sandbox.faults.queue(Fault(kind="latency", on="poll", delay_s=12.0))

    answer = call.poll(task_id).json()

    assert call.clock.now - before == 12.0
    assert answer["status"] == "completed"


def test_latency_can_come_before_or_after_acceptance(call: Any) -> None:
    """A client that gives up waiting has a task in the second case long before."""
    begun = call.clock.now
    call.sandbox.faults.queue(
        Fault(kind="latency", on="create", delay_s=5.0), Fault(kind="latency", on="create", delay_s=5.0, accepted=True)
    )

    created = [call.sandbox.ledger.tasks[call.task()].created_at - begun for _ in range(2)]

    assert created == [5.0, 5.0]
    assert call.clock.now - begun == 10.0


def test_a_drop_before_acceptance_creates_nothing(call: Any) -> None:
    """The request is booked all the same."""
    call.sandbox.faults.queue(Fault(kind="drop_before", on="create"))

    with pytest.raises(ConnectionDropped):
        call.create(idempotency_key="k")

    assert call.sandbox.ledger.tasks == {}
    assert [(record.outcome, record.status) for record in call.sandbox.ledger.creates] == [("dropped_before", None)]


@pytest.mark.parametrize("kind", ["drop_after", "truncated_body"])
def test_a_lost_response_leaves_a_task_for_the_same_key(call: Any, kind: Any) -> None:
    """The case that costs money: accepted, but the client does not know."""
    call.sandbox.faults.queue(Fault(kind=kind, on="create"))
    with pytest.raises(ConnectionDropped):
        call.create(idempotency_key="k")

    again = call.create(idempotency_key="k").json()["task_id"]

    assert list(call.sandbox.ledger.tasks) == [again]
    assert [record.task_id for record in call.sandbox.ledger.creates] == [again, again]
    assert call.sandbox.ledger.creates[0].fault == kind


def test_an_error_can_follow_acceptance(call: Any) -> None:
    """A gateway's 504 says nothing about whether the task was made."""
    call.sandbox.faults.queue(Fault(kind="status", on="create", status=504, accepted=True))

    answer = call.create(idempotency_key="k")

    assert answer.status_code == 504
    assert len(call.sandbox.ledger.tasks) == 1
    assert call.sandbox.ledger.creates[0].outcome == "created"
    assert call.sandbox.ledger.creates[0].status == 504


def test_a_409_can_be_injected(call: Any) -> None:
    """The conflict a client meets when its key was used by somebody else."""
    call.sandbox.faults.queue(Fault(kind="status", on="create", status=409))

    answer = call.create(idempotency_key="k")

    assert (answer.status_code, answer.json()["error"]) == (409, "Idempotency-Key conflict")


def test_broken_json_is_complete_but_does_not_parse(call: Any) -> None:
    """Unlike a cut connection, nothing else gives it away."""
    task_id = call.task()
    call.sandbox.faults.queue(Fault(kind="broken_json", on="poll"))

    answer = call.poll(task_id)

    assert answer.status_code == 200
    with pytest.raises(ValueError, match=r"."):
        answer.json()


def test_an_oversized_response_is_valid(call: Any) -> None:
    """A client must stop reading, or be eaten."""
    task_id = call.task()
    call.sandbox.faults.queue(Fault(kind="oversized_body", on="poll", size_bytes=3_000_000))

    answer = call.poll(task_id)

    assert len(answer.content) >= 3_000_000
    assert answer.json()["task_id"] == task_id


def test_a_good_response_can_have_a_retry_after(call: Any) -> None:
    """It is obeyed on a 200 as well."""
    task_id = call.task()
    call.sandbox.faults.queue(Fault(kind="retry_after", on="poll", retry_after=4))

    answer = call.poll(task_id)

    assert (answer.status_code, answer.headers["retry-after"]) == (200, "4")


def test_a_redirect_leads_to_another_origin(call: Any) -> None:
    """The key must not follow."""
    call.sandbox.faults.queue(
        Fault(kind="redirect", on="create"), Fault(kind="redirect", on="create", status=302, value="http://evil.test/x")
    )

    first, second = call.create(), call.create()

    assert first.status_code == 307
    assert not first.headers["location"].startswith(call.base_url)
    assert (second.status_code, second.headers["location"]) == (302, "http://evil.test/x")
    assert call.sandbox.ledger.tasks == {}


@pytest.mark.parametrize("status", [301, 302, 303, 307])
def test_a_redirect_can_follow_acceptance(call: Any, status: int) -> None:
    """Post, redirect, get: the task is made, and its page is named."""
    call.sandbox.faults.queue(Fault(kind="redirect", on="create", accepted=True, status=status))

    answer = call.create(idempotency_key="k")
    [task_id] = call.sandbox.ledger.tasks

    assert (answer.status_code, answer.headers["location"].endswith(task_id)) == (status, True)


def test_a_repeat_meets_409_while_the_first_is_in_progress(call: Any) -> None:
    """The connection of the first POST breaks, and its repeat comes too soon."""
    call.sandbox.faults.queue(Fault(kind="in_progress", on="create", delay_s=3600))
    with pytest.raises(ConnectionDropped):
        call.create(idempotency_key="k")
    soon = call.create(idempotency_key="k")
    [task] = call.sandbox.ledger.tasks.values()
    task.busy_until = 0.0
    later = call.create(idempotency_key="k").json()

    assert (soon.status_code, "in progress" in soon.json()["error"]) == (409, True)
    assert (later["task_id"], later["task_replayed"]) == (task.id, True)


def test_a_stray_response_is_about_another_task(call: Any) -> None:
    """As from a proxy that mixes up responses; the work is done all the same."""
    other = call.task()
    call.poll(other)
    call.sandbox.faults.queue(Fault(kind="stray", on="create"))

    created = call.create(idempotency_key="k").json()["task_id"]
    mine = call.create(idempotency_key="k").json()["task_id"]
    call.sandbox.faults.queue(Fault(kind="stray", on="poll"))

    assert (created, mine != other) == (other, True)
    assert call.poll(mine).json()["task_id"] == other
    assert call.poll(mine).json()["task_id"] == mine


def test_an_unknown_status_appears_once(call: Any) -> None:
    """It must count as still running."""
    task_id = call.task()
    call.sandbox.faults.queue(Fault(kind="unknown_status", on="poll", value="upscaling"))

    assert [call.poll(task_id).json()["status"] for _ in range(2)] == ["upscaling", "pending"]


def test_images_can_be_missing_from_one_some_or_all_responses(call: Any) -> None:
    """Charged, completed, and nothing to show."""
    call.sandbox.faults.queue(
        Fault(kind="late_images", on="create", polls=2),
        Fault(kind="no_images", on="create"),
    )
    late, never, normal = (call.task() for _ in range(3))
    call.clock.now += 10
    call.sandbox.faults.queue(Fault(kind="no_images", on="poll"))
    once = ["images" in call.poll(normal).json() for _ in range(2)]
    some = ["images" in call.poll(late).json() for _ in range(3)]
    none = ["images" in call.poll(never).json() for _ in range(5)]

    assert once == [False, True]
    assert some == [False, False, True]
    assert none == [False] * 5
    assert call.sandbox.ledger.billed_cents == 15


def test_a_task_can_be_failed_until_it_ends(call: Any) -> None:
    """The ledger stays true: what was charged was completed."""
    call.sandbox.faults.queue(Fault(kind="failed", on="create", value="out of GPUs"))
    doomed, running, finished = (call.task() for _ in range(3))
    call.clock.now += 5
    call.sandbox.faults.queue(Fault(kind="failed", on="poll"))
    stopped = call.poll(running).json()
    call.clock.now += 5
    call.sandbox.faults.queue(Fault(kind="failed", on="poll"))
    kept = call.poll(finished).json()

    assert call.poll(doomed).json()["error"] == "out of GPUs"
    assert (stopped["status"], kept["status"]) == ("failed", "completed")
    assert call.sandbox.ledger.billed_cents == 5
    assert call.request("GET", "/api/v1/me/balance").json()["balance_cents"] == 9_995


def test_a_create_can_return_a_location_with_envelopes(call: Any) -> None:
    """The form the vendor's SDK follows for accepted tasks."""
    call.sandbox.faults.queue(Fault(kind="envelope", on="create"))
    url = call.create().headers["location"]
    call.clock.now += 10

    assert call.request("GET", url).json()["response"]["body"]["status"] == "completed"


def test_storage_and_uploads_have_faults_of_their_own(call: Any) -> None:
    """A failed download must not fail a result."""
    url = call.image()
    call.sandbox.faults.queue(
        Fault(kind="status", on="storage", status=500), Fault(kind="status", on="files", status=503)
    )

    assert call.request("GET", url, key=None).status_code == 500
    assert call.request("GET", url, key=None).status_code == 200
    assert call.request("POST", "/api/v1/files/prepare", json={}).status_code == 503


def test_rates_are_drawn_from_a_seed(call_with: Any) -> None:
    """The same seed gives the same schedule of faults, about as many as the rate says."""
    schedules = []
    for seed in (3, 3, 4):
        call = call_with(balance_cents=1_000_000)
        call.sandbox.faults.set_rates([FaultRate(rate=0.3, fault=Fault(kind="status", on="create"))], seed=seed)
        schedules.append([call.create().status_code for _ in range(200)])

    assert schedules[0] == schedules[1] != schedules[2]
    assert 40 <= schedules[0].count(503) <= 80


def test_injected_faults_are_counted(call: Any) -> None:
    """A chaos run reports them."""
    call.sandbox.faults.queue(Fault(kind="status", times=2), Fault(kind="retry_after", retry_after=1))

    for _ in range(4):
        call.create()

    assert call.sandbox.faults.committed == {"status": 2, "retry_after": 1}


@pytest.mark.parametrize("field", ["kind", "on", "body"])
def test_a_misspelt_fault_is_refused(field: str) -> None:
    """A fault that silently does nothing would make a test pass for nothing."""
    with pytest.raises(ValueError, match="allowed"):
        Fault(**{"kind": "status", field: "nonsense"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("drop_before", "Server disconnected without sending a response"),
        ("drop_after", "Server disconnected without sending a response"),
        ("truncated_body", "peer closed connection without sending complete message body"),
    ],
)
def test_over_sockets_the_connection_is_really_closed(kind: Any, message: str) -> None:
    """No HTTP answer at all, or half of one, as a client meets it in the wild."""
    with running_sandbox(SandboxOptions(speed=50)) as (base_url, sandbox), httpx.Client(base_url=base_url) as client:
        client.post("/v1/text_to_image", json=BODY, headers=KEY)
        sandbox.faults.queue(Fault(kind=kind, on="create"))
        with pytest.raises(httpx.RemoteProtocolError, match=message):
            client.post("/v1/text_to_image", json=BODY, headers=KEY)

        after = client.post("/v1/text_to_image", json=BODY, headers=KEY)

        assert after.status_code == 200
        assert len(sandbox.ledger.tasks) == (2 if kind == "drop_before" else 3)
