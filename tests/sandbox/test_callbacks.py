"""Webhooks: who is told how a task ended, how that is signed, and what can be made to go wrong on the way."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import httpx
import pytest

from flux2_tool.sandbox import Fault
from tests.sandbox.conftest import NOON
from tests.sandbox.receivers import BODY, HOOK, SECRET, Delivery, HandClock, Hooked


def test_a_finished_task_sends_a_signed_callback() -> None:
    """The receiver has nothing but the signature to believe it by."""
    hooked = Hooked()

    task_id = hooked.run()

    [delivery] = hooked.received
    assert delivery.content["id"] == task_id
    assert delivery.content["status"] == "completed"
    assert delivery.content["images"][0]["url"].startswith("http://sandbox.test/storage/img_")
    assert sorted(delivery.content) == ["id", "images", "status", "usage"]
    assert delivery.content["usage"]["cost"] == 0.05
    assert delivery.headers["content-type"] == "application/json"
    assert (delivery.at, delivery.timestamp) == (NOON + 10, str(int(NOON + 10)))
    assert delivery.is_signed_with(SECRET)
    assert hooked.sandbox.ledger.billed_cents == 5


def test_the_ledger_has_every_delivery_and_its_status() -> None:
    """A test in another process holds a receiver to them."""
    hooked = Hooked(503)
    task_id = hooked.run()

    async def read() -> Any:
        return (await hooked.client.get("/_sandbox/ledger")).json()

    ledger = asyncio.run(read())
    event_id = hooked.received[0].id
    common = {"task_id": task_id, "event_id": event_id, "url": HOOK, "forgery": "none", "error": None}
    assert ledger["summary"]["callbacks"] == 2
    assert ledger["callbacks"] == [
        {**common, "attempt": 1, "status": 503, "at": NOON + 10},
        {**common, "attempt": 2, "status": 204, "at": NOON + 11},
    ]


def test_a_failed_task_sends_its_error() -> None:
    """In the words a poll would use."""
    hooked = Hooked()

    task_id = hooked.run(prompt="a fox [fail]")

    [delivery] = hooked.received
    assert delivery.content == {
        "id": task_id,
        "status": "failed",
        "error": "Image generation failed, please try again",
    }


def test_an_early_failure_sends_its_callback_early() -> None:
    """A callback that waited for the first end would be minutes late."""

    async def play() -> tuple[str, list[Delivery], float]:
        clock = HandClock()
        hooked = Hooked(clock=clock)
        task_id = await hooked.create()
        await clock.slept_on.wait()
        clock.now += 4
        hooked.sandbox.faults.queue(Fault(kind="failed", on="poll", value="out of paint"))
        await hooked.client.get(f"/v1/text_to_image/{task_id}")
        await hooked.sandbox.callbacks_done()
        return task_id, hooked.received, hooked.clock.now

    task_id, [delivery], now = asyncio.run(play())

    assert delivery.content == {"id": task_id, "status": "failed", "error": "out of paint"}
    assert delivery.at == now == NOON + 4


def test_a_task_without_images_sends_none() -> None:
    """What the service withholds from a poll it does not give away here."""
    hooked = Hooked()
    hooked.sandbox.faults.queue(Fault(kind="no_images", on="create"))

    task_id = hooked.run()

    usage = {"cost": 0.05, "generated_images": 1}
    assert hooked.received[0].content == {"id": task_id, "status": "completed", "usage": usage}


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        pytest.param(500, 500, None, id="server error"),
        pytest.param(307, 307, None, id="redirect, which is not followed"),
        pytest.param(404, 404, None, id="not found"),
        pytest.param(httpx.ReadError("gone"), None, "ReadError: gone", id="lost connection"),
        pytest.param(httpx.ConnectError("refused"), None, "ConnectError: refused", id="nobody there"),
        pytest.param(None, None, "TimeoutError", id="silence"),
    ],
)
def test_an_unacknowledged_event_is_delivered_again(
    answer: int | Exception | None, status: int | None, error: str | None
) -> None:
    """The same event under the same id, so that a receiver can drop it; signed afresh, so that it is not stale."""
    hooked = Hooked(answer, callback_timeout_s=0.05)

    hooked.run()

    first, second = hooked.received
    assert (first.id, first.body) == (second.id, second.body)
    assert (int(first.timestamp), int(second.timestamp)) == (int(NOON) + 10, int(NOON) + 11)
    assert second.is_signed_with(SECRET)
    assert [(item.status, item.error) for item in hooked.sandbox.ledger.callbacks] == [(status, error), (204, None)]


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_pauses_double_until_the_event_is_abandoned(speed: float) -> None:
    """A receiver that is down for longer never hears of it."""
    hooked = Hooked(*[500] * 20, speed=speed)

    hooked.run()

    waits_s = [(delivery.at - NOON - 10) * speed for delivery in hooked.received]
    assert waits_s == [0, 1, 3, 7, 15, 31]


def test_an_acknowledged_event_can_be_repeated() -> None:
    """At least once is all that a webhook promises."""
    hooked = Hooked(500, 204, 409, callback_duplicates=2)

    hooked.run()

    assert hooked.booked == [(1, "none", 500), (2, "none", 204), (3, "none", 409), (4, "none", 204)]
    assert len({(delivery.id, delivery.body) for delivery in hooked.received}) == 1


def test_a_forged_signature_precedes_the_true_event() -> None:
    """It bears the event's id: a receiver that notes ids before it checks signatures loses the truth."""
    hooked = Hooked(401, callback_forgery="bad_signature")

    task_id = hooked.run()

    lie, truth = hooked.received
    assert (lie.id, lie.content["id"], lie.content["status"]) == (truth.id, task_id, "failed")
    assert len(base64.b64decode(lie.headers["X-Callback-Signature"])) == 32
    assert not lie.is_signed_with(SECRET)
    assert truth.is_signed_with(SECRET)
    assert hooked.booked == [(0, "bad_signature", 401), (1, "none", 204)]


def test_a_stale_message_is_well_signed_but_too_old() -> None:
    """As one would be that somebody kept and sends again."""
    hooked = Hooked(callback_forgery="stale_timestamp")

    hooked.run()

    lie, truth = hooked.received
    assert lie.is_signed_with(SECRET)
    assert int(truth.timestamp) - int(lie.timestamp) == 600
    assert (lie.id, lie.content["status"], truth.content["status"]) == (truth.id, "failed", "completed")


def test_a_message_for_another_task_is_well_signed() -> None:
    """One secret signs for the whole account: the address a message comes to does not say which task it means."""
    hooked = Hooked(callback_forgery="wrong_task")

    task_id = hooked.run()

    lie, truth = hooked.received
    assert lie.is_signed_with(SECRET)
    assert lie.id != truth.id
    assert lie.content["id"] not in hooked.sandbox.ledger.tasks
    assert (lie.content["status"], truth.content["id"]) == ("failed", task_id)


def test_an_unsigned_message_lacks_only_the_signature() -> None:
    """Anybody who guesses the address can send one."""
    hooked = Hooked(callback_forgery="unsigned")

    hooked.run()

    lie, truth = hooked.received
    assert "X-Callback-Signature" not in lie.headers
    assert lie.id == truth.id
    assert truth.is_signed_with(SECRET)


def test_a_forgery_is_sent_once_however_it_is_received() -> None:
    """It is an attack and not a delivery."""
    hooked = Hooked(httpx.ReadError("gone"), 500, callback_forgery="unsigned")

    hooked.run()

    assert hooked.booked == [(0, "unsigned", None), (1, "none", 500), (2, "none", 204)]


def test_switched_off_callbacks_are_recorded_and_not_sent() -> None:
    """Callbacks get lost; a client that only waits for them waits for ever."""
    hooked = Hooked(callbacks=False, callback_forgery="unsigned", callback_duplicates=2)

    task_id = hooked.run()

    [record] = hooked.sandbox.ledger.callbacks
    assert hooked.received == []
    assert (record.task_id, record.attempt, record.status) == (task_id, 0, None)
    assert record.error == "callbacks are switched off"
    assert hooked.sandbox.ledger.tasks[task_id].state(hooked.clock.now) == "completed"


def test_options_changed_during_a_task_apply_at_its_end() -> None:
    """A test in another process loses one callback and forges the next."""

    async def play() -> Hooked:
        clock = HandClock()
        hooked = Hooked(clock=clock)
        for changes in ({"callbacks": False}, {"callbacks": True, "callback_forgery": "unsigned"}):
            await hooked.create()
            await clock.slept_on.wait()
            answer = await hooked.client.patch("/_sandbox/options", json=changes)
            assert answer.status_code == 200
            clock.move(10)
            await hooked.sandbox.callbacks_done()
        return hooked

    hooked = asyncio.run(play())

    assert hooked.booked == [(0, "none", None), (0, "unsigned", 204), (1, "none", 204)]
    assert len(hooked.received) == 2


def test_a_callback_can_be_late() -> None:
    """Polls then say first that the task is done."""
    hooked = Hooked(callback_delay_s=30.0)

    hooked.run()

    assert [delivery.at for delivery in hooked.received] == [NOON + 40]


def test_a_callback_can_be_early() -> None:
    """Polls then still say that the task runs."""

    async def play() -> tuple[Hooked, Any]:
        hooked = Hooked(clock=HandClock(), callback_early=True)
        task_id = await hooked.create()
        await hooked.sandbox.callbacks_done()
        return hooked, (await hooked.client.get(f"/v1/text_to_image/{task_id}")).json()

    hooked, polled = asyncio.run(play())

    [delivery] = hooked.received
    assert (delivery.at, delivery.content["status"], polled["status"]) == (NOON, "completed", "pending")
    assert delivery.is_signed_with(SECRET)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/x",
        "http://192.168.1.5:8787/",
        "http://127.0.0.1@example.com/",
        "http://0.0.0.0:8787/",
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1.example.com/",
        "http://[::2]/",
        "http://127.0.0.1\\@example.com/",
    ],
)
def test_nothing_but_loopback_is_contacted(url: str) -> None:
    """A test must not tell the world of its tasks; the create itself is fine, as with the service."""
    hooked = Hooked()

    task_id = hooked.run(callback_url=url)

    [record] = hooked.sandbox.ledger.callbacks
    assert hooked.received == []
    assert (record.task_id, record.url, record.attempt, record.status) == (task_id, url, 0, None)
    assert "not a loopback address" in (record.error or "")


def test_an_impossible_port_is_recorded_as_undeliverable() -> None:
    """It must not end in a traceback of the sandbox's."""
    hooked = Hooked()

    hooked.run(callback_url="http://127.0.0.1:99999/")

    [record] = hooked.sandbox.ledger.callbacks
    assert (record.attempt, record.error, hooked.received) == (0, "no such port", [])


def test_a_task_without_callback_url_sends_nothing() -> None:
    """Benchmarks count on a sandbox that does nothing between requests."""

    async def play() -> tuple[int, int]:
        clock = HandClock()
        hooked = Hooked(clock=clock)
        before = len(asyncio.all_tasks())
        await hooked.client.post("/v1/text_to_image", json=BODY)
        started = len(asyncio.all_tasks()) - before
        clock.move(100)
        await hooked.sandbox.callbacks_done()
        return started, len(hooked.sandbox.ledger.callbacks) + len(hooked.received)

    assert asyncio.run(play()) == (0, 0)


def test_a_repeated_create_makes_one_event() -> None:
    """The same idempotency key is the same task."""

    async def play() -> Hooked:
        hooked = Hooked()
        for _ in range(2):
            await hooked.client.post(
                "/v1/text_to_image", json={**BODY, "callback_url": HOOK}, headers={"Idempotency-Key": "k"}
            )
        await hooked.sandbox.callbacks_done()
        return hooked

    assert len(asyncio.run(play()).received) == 1


def test_each_sandbox_has_its_own_hidden_secret() -> None:
    """The control addresses are open to every program of the machine."""
    first, second = Hooked(callback_secret="", seed=1), Hooked(callback_secret="", seed=2)
    first.run()

    async def shown() -> str:
        return (await first.client.get("/_sandbox/options")).text

    assert first.received[0].is_signed_with(first.sandbox.callback_secret)
    assert len(base64.b64decode(first.sandbox.callback_secret)) == 32
    assert first.sandbox.callback_secret != second.sandbox.callback_secret
    assert first.sandbox.callback_secret not in asyncio.run(shown())
    assert SECRET not in repr(Hooked().sandbox.options)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"callback_forgery": "clever"}, "allowed: none, bad_signature"),
        ({"callback_duplicates": 1.5}, "0, 1, 2"),
        ({"callback_duplicates": -1}, "0, 1, 2"),
        ({"callback_delay_s": -1}, "must not be below 0"),
        ({"callback_timeout_s": 0}, "must be above 0"),
        ({"callback_secret": "not base64!"}, "must be base64"),
        ({"callbacks": "off"}, "must be a bool"),
    ],
)
def test_a_wrong_callback_option_is_refused(call: Any, change: dict[str, Any], complaint: str) -> None:
    """A misspelt one would make a test pass for nothing."""
    answer = call.request("PATCH", "/_sandbox/options", json=change)

    assert answer.status_code == 422
    assert complaint in answer.json()["error"]
