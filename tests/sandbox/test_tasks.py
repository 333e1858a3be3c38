"""Idempotency, the way from pending to completed, and what it costs."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest

from flux2_tool.sandbox import SandboxOptions, create_app


def test_the_same_idempotency_key_gives_one_task_on_both_routes(call: Any) -> None:
    """A lost answer is asked for again, perhaps elsewhere, and must not cost twice."""
    first = call.create("/v1/text_to_image", idempotency_key="k1", aspect_ratio="1:1").json()["task_id"]
    again = call.create("/v1/text_to_image", idempotency_key="k1", aspect_ratio="1:1").json()["task_id"]
    elsewhere = call.create("/api/v1/flux_2/text_to_image", idempotency_key="k1", aspect_ratio="1:1").json()["id"]

    assert first == again == elsewhere
    assert len(call.sandbox.ledger.tasks) == 1
    assert [record.outcome for record in call.sandbox.ledger.creates] == ["created", "replayed", "replayed"]


def test_the_order_of_fields_does_not_matter(call: Any) -> None:
    """Equal JSON is equal input."""
    bodies = [
        b'{"model":"flux-2-pro-text-to-image","prompt":"a fox"}',
        b'{ "prompt": "a fox", "model": "flux-2-pro-text-to-image" }',
    ]
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}

    answers = [call.request("POST", "/v1/text_to_image", content=body, headers=headers).json() for body in bodies]

    assert answers[0]["task_id"] == answers[1]["task_id"]


def test_the_same_key_with_other_input_is_a_conflict(call: Any) -> None:
    """It is a mistake of the client's, and nothing is made."""
    call.create(idempotency_key="k1")

    answer = call.create(idempotency_key="k1", prompt="another prompt")

    assert answer.status_code == 409
    assert len(call.sandbox.ledger.tasks) == 1


def test_another_account_may_use_the_same_idempotency_key(call: Any) -> None:
    """Keys are an account's own."""
    call.create(idempotency_key="k1")

    answer = call.create(idempotency_key="k1", key="sk-other", prompt="another prompt")

    assert answer.status_code == 200


def test_an_idempotency_key_expires(call_with: Any) -> None:
    """How long the service remembers is not documented, so a client may not count on it."""
    call = call_with(idempotency_life_s=60.0)
    first = call.task(idempotency_key="k1")
    call.clock.now += 59
    second = call.task(idempotency_key="k1")
    call.clock.now += 1
    third = call.task(idempotency_key="k1")

    assert first == second != third


def test_an_overlong_idempotency_key_is_refused(call: Any) -> None:
    """The service takes at most 512 characters."""
    assert call.create(idempotency_key="k" * 512).status_code == 200
    assert call.create(idempotency_key="k" * 513).status_code == 400


def test_a_task_goes_from_pending_over_processing_to_completed(call: Any) -> None:
    """The state follows the clock alone."""
    task_id = call.task()
    seen = []
    for now in (0.0, 0.99, 1.0, 9.99, 10.0, 500.0):
        call.clock.now = call.sandbox.ledger.tasks[task_id].created_at + now
        seen.append(call.poll(task_id).json()["status"])

    assert seen == ["pending", "pending", "processing", "processing", "completed", "completed"]
    assert call.sandbox.ledger.tasks[task_id].first_seen_finished_at == call.clock.now - 490.0


def test_a_completed_response_has_the_image_and_the_cost(call: Any) -> None:
    """These are the SDK's field names."""
    task_id = call.create("/api/v1/flux_2/text_to_image").json()["id"]
    call.clock.now += 10

    answer = call.poll(task_id, "/api/v1/flux_2/text_to_image/").json()

    assert answer["id"] == task_id
    assert answer["status"] == "completed"
    assert answer["images"][0]["url"].startswith("http://sandbox.test/storage/")
    assert answer["usage"]["cost"] == 0.05


@pytest.mark.parametrize(
    ("tier", "resolution", "median_s", "sigma"),
    [("pro", "1k", 6.0, 0.2), ("flex", "1k", 10.0, 0.25), ("pro", "2k", 9.0, 0.2), ("max", "1k", 14.0, 0.25)],
)
def test_durations_are_log_normal_around_the_models_median(
    call_with: Any, tier: str, resolution: str, median_s: float, sigma: float
) -> None:
    """A client that learns when to poll is measured against these."""
    call = call_with(duration_s=None, balance_cents=1_000_000)
    for _ in range(300):
        call.create(model=f"flux-2-{tier}-text-to-image", output_resolution=resolution, aspect_ratio="1:1")

    tasks = call.sandbox.ledger.tasks.values()
    logs = [math.log(task.finish_at - task.created_at) for task in tasks]
    assert math.exp(statistics.fmean(logs)) == pytest.approx(median_s, rel=0.06)
    assert statistics.stdev(logs) == pytest.approx(sigma, rel=0.15)


def test_the_same_seed_gives_the_same_durations_and_ids(call_with: Any) -> None:
    """A chaos run that failed must be repeatable."""
    runs = [call_with(duration_s=None, seed=seed) for seed in (7, 7, 8)]
    made = []
    for call in runs:
        task = call.sandbox.ledger.tasks[call.task()]
        made.append((task.id, task.finish_at))

    assert made[0] == made[1]
    assert made[0] != made[2]


def test_speed_divides_drawn_durations(call_with: Any) -> None:
    """Tests run at 50 times the speed."""
    calls = [call_with(duration_s=None, speed=speed) for speed in (1.0, 50.0)]

    slow_s, fast_s = (call.sandbox.ledger.tasks[call.task()].finish_at - call.clock.now for call in calls)

    assert slow_s == pytest.approx(50 * fast_s, rel=1e-3)


def test_markers_in_a_prompt_steer_its_task(call: Any) -> None:
    """A demo or an end-to-end test has nothing but the prompt to ask for a failure with."""
    ids = {word: call.task(prompt=f"a fox [{word}]") for word in ("fail", "moderated", "slow")}
    call.clock.now += 119

    answers = {word: call.poll(task_id).json() for word, task_id in ids.items()}

    assert answers["fail"]["status"] == "failed"
    assert answers["fail"]["error"] == "Image generation failed, please try again"
    assert answers["moderated"]["status"] == "failed"
    assert "content policy" in answers["moderated"]["error"]
    assert answers["slow"]["status"] == "processing"


def test_a_failure_can_be_an_object_with_a_code(call_with: Any) -> None:
    """Both forms have been seen."""
    call = call_with(error_shape="object")
    task_id = call.task(prompt="a fox [moderated]")
    call.clock.now += 10

    assert call.poll(task_id).json()["error"]["code"] == "content_policy_violation"


def test_money_is_reserved_at_once_and_spent_on_completion(call: Any) -> None:
    """The balance moves when a task completes, also when nobody polls it."""
    call.create(output_resolution="2k")
    call.create(prompt="a fox [fail]")
    before = call.request("GET", "/api/v1/me/balance").json()
    call.clock.now += 10
    after = call.request("GET", "/api/v1/me/balance").json()

    assert before["balance_cents"] == 10_000
    assert after == {
        "balance_cents": 9_993,
        "paid_balance_cents": 9_993,
        "bonus_balance_cents": 0,
        "spent_cents_today": 7,
        "spent_cents_total": 7,
    }
    assert call.sandbox.ledger.billed_cents == 7


def test_an_account_that_cannot_pay_gets_402_and_never_goes_negative(call_with: Any) -> None:
    """What is reserved for tasks in flight cannot be promised again."""
    call = call_with(balance_cents=12)
    statuses = [call.create().status_code for _ in range(4)]
    call.clock.now += 10

    assert statuses == [200, 200, 402, 402]
    assert call.request("GET", "/api/v1/me/balance").json()["balance_cents"] == 2


def test_a_failed_task_releases_its_reservation(call_with: Any) -> None:
    """A failed generation is not charged."""
    call = call_with(balance_cents=5)
    call.create(prompt="a fox [fail]")
    refused = call.create()
    call.clock.now += 10
    accepted = call.create()

    assert (refused.status_code, accepted.status_code) == (402, 200)


def test_spending_is_counted_per_day(call: Any) -> None:
    """`spent_cents_today` is by the UTC day."""
    call.create()
    call.clock.now += 24 * 3600

    balance = call.request("GET", "/api/v1/me/balance").json()

    assert (balance["spent_cents_today"], balance["spent_cents_total"]) == (0, 5)


@pytest.mark.parametrize(
    ("field", "read"),
    [
        ("usage", lambda answer: answer["usage"]["cost"] * 100),
        ("settlement", lambda answer: answer["billing"]["settlement"]["charged_amount_cents"]),
        ("cost_cents", lambda answer: answer["cost_cents"]),
        ("none", lambda answer: 5 if not {"usage", "billing", "cost_cents"} & set(answer) else 0),
    ],
)
def test_the_cost_can_be_in_older_fields_or_missing(call_with: Any, field: str, read: Any) -> None:
    """A client must say "unknown" rather than zero."""
    call = call_with(cost_field=field)
    task_id = call.task()
    call.clock.now += 10

    assert read(call.poll(task_id).json()) == 5


def test_a_sandbox_without_a_seed_reports_its_own() -> None:
    """Otherwise a run could not be repeated."""
    seeds = {create_app(SandboxOptions()).state.sandbox.ledger.seed for _ in range(3)}

    assert len(seeds) == 3
