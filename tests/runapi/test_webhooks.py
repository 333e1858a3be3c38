"""Checking a webhook: anybody can POST to a public address, so only what RunAPI has signed, lately, counts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flux2_tool
from flux2_tool.runapi.webhooks import WebhookRefusedError, verify_webhook

SECRET = base64.b64encode(b"the account's secret").decode()
NOW = 1_795_600_000.0
BODY = json.dumps(
    {"id": "tsk_abc123", "status": "completed", "images": [{"url": "https://cdn.example/a.png"}]}
).encode()


def signed(
    body: bytes = BODY, *, event_id: str = "evt_1", at: str = "1795600000", secret: str = SECRET
) -> dict[str, str]:
    """Return the headers RunAPI would send."""
    digest = hmac.new(base64.b64decode(secret), f"{event_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "X-Callback-Id": event_id,
        "X-Callback-Timestamp": at,
        "X-Callback-Signature": base64.b64encode(digest).decode(),
    }


def test_a_signed_webhook_says_what_became_of_its_task() -> None:
    """What a developer's own service needs to know."""
    webhook = flux2_tool.verify_webhook(signed(), BODY, secret=SECRET, now=NOW)

    assert (webhook.event_id, webhook.sent_at) == ("evt_1", NOW)
    assert (webhook.task.task_id, webhook.task.phase) == ("tsk_abc123", "completed")
    assert webhook.task.images[0].url == "https://cdn.example/a.png"


def test_header_names_may_come_in_any_case() -> None:
    """Every web framework has its own habit."""
    for change in (str.lower, str.upper):
        headers = {change(name): value for name, value in signed().items()}
        assert verify_webhook(headers, BODY, secret=SECRET, now=NOW).event_id == "evt_1"


@pytest.mark.parametrize("body", [b"", b"completed", b"\xff", b"[" * 100_000])
def test_a_signed_body_that_is_no_json_is_refused(body: bytes) -> None:
    """It is of RunAPI, and of a version nobody here can read; the poll finds out what became of the task."""
    with pytest.raises(WebhookRefusedError, match="its body is"):
        verify_webhook(signed(body), body, secret=SECRET, now=NOW)


@pytest.mark.parametrize("event_id", ["", "   ", "evt_\x07", "evt_\u202e1", "e" * 257])
def test_a_signed_id_that_is_none_is_refused(event_id: str) -> None:
    """Duplicates are known by it: an empty one would make every webhook a duplicate, and a long one fill the memory."""
    with pytest.raises(WebhookRefusedError, match="X-Callback-Id"):
        verify_webhook(signed(event_id=event_id), BODY, secret=SECRET, now=NOW)


@pytest.mark.parametrize("length", [1, 256])
def test_an_id_may_have_any_length_up_to_the_bound(length: int) -> None:
    """Nothing is said of an id's length, so the bound is generous, and it is no part of what is refused."""
    event_id = "7" * length

    assert verify_webhook(signed(event_id=event_id), BODY, secret=SECRET, now=NOW).event_id == event_id


@pytest.mark.parametrize("off_s", [-300, 300])
def test_the_window_is_five_minutes_either_way(off_s: int) -> None:
    """Clocks differ; a recorded delivery must not work for ever."""
    headers = signed(at=str(int(NOW) + off_s))
    assert verify_webhook(headers, BODY, secret=SECRET, now=NOW).event_id == "evt_1"

    headers = signed(at=str(int(NOW) + off_s + (1 if off_s > 0 else -1)))
    with pytest.raises(WebhookRefusedError, match="300 s"):
        verify_webhook(headers, BODY, secret=SECRET, now=NOW)


@pytest.mark.parametrize("times", [{"now": float("nan")}, {"now": NOW, "tolerance_s": float("nan")}])
def test_a_time_that_is_no_number_accepts_nothing(times: dict[str, float]) -> None:
    """Every comparison with it is false."""
    with pytest.raises(WebhookRefusedError, match="signed more than"):
        verify_webhook(signed(), BODY, secret=SECRET, **times)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_body_may_be_of_any_type_of_bytes(kind: Any) -> None:
    """As frameworks give it."""
    assert verify_webhook(signed(), kind(BODY), secret=SECRET, now=NOW).event_id == "evt_1"


@pytest.mark.parametrize(
    ("headers", "body", "said"),
    [
        pytest.param(signed(), BODY.decode(), "body must be the request's bytes, unchanged, not str", id="text"),
        pytest.param({name: [text] for name, text in signed().items()}, BODY, "headers must be", id="lists"),
        pytest.param({name.encode(): text for name, text in signed().items()}, BODY, "headers must be", id="bytes"),
        pytest.param(list(signed().items()), BODY, "headers must be", id="a list of pairs"),
    ],
)
def test_a_program_that_passes_something_else_is_told(headers: Any, body: Any, said: str) -> None:
    """It is no forgery, and would fail for every webhook."""
    with pytest.raises(TypeError, match=said):
        verify_webhook(headers, body, secret=SECRET, now=NOW)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        pytest.param({"secret": None}, "secret must be the account's webhook secret as text, not NoneType", id="unset"),
        pytest.param({"secret": SECRET.encode()}, "secret must be .* not bytes", id="bytes"),
        pytest.param({"now": datetime.fromtimestamp(NOW, tz=UTC)}, "now must be .* not datetime", id="a date"),
        pytest.param({"now": None}, "now must be .* not NoneType", id="no time"),
    ],
)
def test_a_secret_or_time_of_another_type_is_named(wrong: dict[str, Any], said: str) -> None:
    """A variable that is not set is the usual case, and must not look like a defect of this package."""
    with pytest.raises(TypeError, match=said):
        verify_webhook(signed(), BODY, **({"secret": SECRET, "now": NOW} | wrong))


@pytest.mark.parametrize("secret", ["", "###"])
def test_a_secret_that_is_not_base64_is_named(secret: str) -> None:
    """With the parameter's name, and without its value."""
    with pytest.raises(ValueError, match=r"^secret is not a webhook secret: base64 text, as RunAPI shows it$"):
        verify_webhook(signed(), BODY, secret=secret, now=NOW)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no headers"),
        pytest.param(signed() | {"X-Callback-Signature": ""}, id="unsigned"),
        pytest.param(signed(secret=base64.b64encode(b"another").decode()), id="another secret"),
        pytest.param(signed() | {"X-Callback-Id": "evt_2"}, id="another event's id"),
        pytest.param(signed() | {"X-Callback-Timestamp": "1795600001"}, id="another time"),
        pytest.param(signed(body=BODY + b" "), id="another body"),
        pytest.param(signed(at="nan"), id="a time that is none"),
        pytest.param(signed(at="1795600000.5"), id="a time with fractions"),
        pytest.param(signed(at="٣"), id="digits of another script"),
        pytest.param(signed() | {"X-Callback-Signature": "\udcff"}, id="a signature that is no text"),
    ],
)
def test_anything_else_is_refused(headers: dict[str, str]) -> None:
    """One forged message that passes tells a stranger's lie to every waiting call."""
    with pytest.raises(WebhookRefusedError):
        verify_webhook(headers, BODY, secret=SECRET, now=NOW)


@pytest.mark.parametrize("secret", ["", "not base64!", "   "])
def test_a_wrong_secret_is_the_operators_fault_and_is_not_quoted(secret: str) -> None:
    """An empty key would sign what anybody can sign."""
    with pytest.raises(ValueError, match="webhook secret") as caught:
        verify_webhook(signed(), BODY, secret=secret, now=NOW)

    assert not isinstance(caught.value, WebhookRefusedError)


@given(
    headers=st.dictionaries(
        st.sampled_from(["X-Callback-Id", "x-callback-timestamp", "X-Callback-Signature", "other"]), st.text()
    ),
    body=st.binary(max_size=200),
)
def test_nothing_unsigned_passes_and_nothing_breaks(headers: dict[str, str], body: bytes) -> None:
    """The route is open to the internet."""
    with pytest.raises(WebhookRefusedError):
        verify_webhook(headers, body, secret=SECRET, now=NOW)
