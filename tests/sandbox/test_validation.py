"""The sandbox refuses what the service refuses, field by field."""

from __future__ import annotations

from typing import Any

import pytest

PRO, FLEX, MAX = (f"flux-2-{tier}-text-to-image" for tier in ("pro", "flex", "max"))
REMIX_MAX = "flux-2-max-remix-image"
URL = "https://example.com/a.png"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({}, id="only model and prompt"),
        pytest.param({"prompt": "x" * 5000}, id="the longest prompt"),
        pytest.param({"prompt": "一只狐狸"}, id="Chinese"),
        pytest.param({"model": FLEX, "aspect_ratio": "16:9", "output_resolution": "2k"}, id="flex at 2k"),
        pytest.param({"model": MAX, "aspect_ratio": "2:3", "output_count": 1}, id="max with its count"),
        pytest.param({"enable_safety_checker": False}, id="safety checker off"),
        pytest.param({"callback_url": "https://example.com/hook"}, id="callback"),
    ],
)
def test_valid_requests_are_accepted(call: Any, arguments: dict[str, Any]) -> None:
    """A mock stricter than the service would hide what works."""
    assert call.create(**arguments).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "field", "complaint"),
    [
        pytest.param({"prompt": None}, "prompt", "is required", id="no prompt"),
        pytest.param({"prompt": "ab"}, "prompt", "too short", id="two characters"),
        pytest.param({"prompt": "x" * 5001}, "prompt", "too long", id="5001 characters"),
        pytest.param({"prompt": 7}, "prompt", "must be a string", id="a number as prompt"),
        pytest.param({"model": None}, "model", "is required", id="no model"),
        pytest.param({"model": "flux-2-pro-remix-image"}, "model", PRO, id="the other action's model"),
        pytest.param({"aspect_ratio": "2:1"}, "aspect_ratio", "16:9", id="unknown ratio"),
        pytest.param({"aspect_ratio": "auto"}, "aspect_ratio", "must be one of", id="auto without a source"),
        pytest.param({"output_resolution": "4k"}, "output_resolution", "1k, 2k", id="unknown resolution"),
        pytest.param({"model": MAX}, "aspect_ratio", "is required", id="max needs a ratio"),
        pytest.param(
            {"model": MAX, "aspect_ratio": "1:1", "output_resolution": "2k"}, "output_resolution", "1k", id="max at 2k"
        ),
        pytest.param(
            {"model": MAX, "aspect_ratio": "1:1", "enable_safety_checker": True},
            "enable_safety_checker",
            "not supported",
            id="max with safety checker",
        ),
        pytest.param({"enable_safety_checker": "yes"}, "enable_safety_checker", "boolean", id="safety as text"),
        pytest.param({"output_count": 1}, "output_count", "not supported", id="count with pro"),
        pytest.param(
            {"model": MAX, "aspect_ratio": "1:1", "output_count": 2}, "output_count", "must be 1", id="max twice"
        ),
        pytest.param({"callback_url": "ftp://x/y"}, "callback_url", "http(s)", id="callback over ftp"),
        pytest.param({"seed": 7}, "seed", "not a known parameter", id="unknown field"),
        pytest.param({"source_image_urls": [URL]}, "source_image_urls", "not a known", id="a source for text"),
    ],
)
def test_invalid_text_requests_name_the_field(call: Any, arguments: dict[str, Any], field: str, complaint: str) -> None:
    """A client that trusts its own checks alone would never see these."""
    body = {"model": PRO, "prompt": "a red fox", **arguments}
    sent = {name: value for name, value in body.items() if value is not None}

    answer = call.request("POST", "/v1/text_to_image", json=sent)

    assert answer.status_code == 422
    assert answer.json()["error"] == "Validation failed"
    assert list(answer.json()["errors"]) == [field]
    assert complaint in answer.json()["errors"][field][0]
    assert call.sandbox.ledger.tasks == {}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param({"source_image_urls": []}, "1 to 8", id="none"),
        pytest.param({"source_image_urls": [URL] * 9}, "1 to 8", id="nine"),
        pytest.param({"source_image_urls": URL}, "array", id="not a list"),
        pytest.param({"source_image_urls": ["/etc/passwd"]}, "http(s)", id="a path"),
        pytest.param({"source_image_urls": ["http://a b"]}, "http(s)", id="a space"),
        pytest.param(
            {"model": REMIX_MAX, "aspect_ratio": "1:1", "source_image_urls": [URL] * 2}, "exactly 1", id="two for max"
        ),
    ],
)
def test_invalid_sources_are_refused(call: Any, arguments: dict[str, Any], complaint: str) -> None:
    """Pro and flex take 1 to 8 sources, max exactly one."""
    answer = call.create("/v1/remix_image", **arguments)

    assert answer.status_code == 422
    assert complaint in answer.json()["errors"]["source_image_urls"][0]


def test_auto_is_for_remixes_with_pro_and_flex_only(call: Any) -> None:
    """Max wants a ratio of its own."""
    pro = call.create("/v1/remix_image", aspect_ratio="auto")
    maximum = call.create("/v1/remix_image", aspect_ratio="auto", model=REMIX_MAX)

    assert (pro.status_code, maximum.status_code) == (200, 422)


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        pytest.param(b"{", "application/json", 400, id="broken JSON"),
        pytest.param(b"[]", "application/json", 422, id="a list"),
        pytest.param(b"prompt=x", "application/x-www-form-urlencoded", 415, id="a form"),
        pytest.param(b'{"prompt":"' + b"x" * 1_100_000 + b'"}', "application/json", 413, id="too large"),
    ],
)
def test_a_body_of_the_wrong_form_is_refused(call: Any, content: bytes, content_type: str, status: int) -> None:
    """Each has a status of its own."""
    answer = call.request("POST", "/v1/text_to_image", content=content, headers={"Content-Type": content_type})

    assert answer.status_code == status
    assert call.sandbox.ledger.creates[-1].body == content
