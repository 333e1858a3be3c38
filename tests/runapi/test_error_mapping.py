"""Which error an HTTP status means, for each kind of request, and what of the service's words it quotes."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from flux2_tool.exceptions import Charged, InvalidArgumentsError, SourceRefusedError
from flux2_tool.runapi.client import HttpResponse
from flux2_tool.runapi.error_mapping import error_from_response, quoted_status

SAME_AGAIN = "exactly the same arguments"


def _response(status_code: int, body: Any = None) -> HttpResponse:
    data = body if isinstance(body, bytes) else json.dumps({"error": "no"} if body is None else body).encode()
    return HttpResponse(status_code=status_code, headers=httpx.Headers({"x-request-id": "req_1"}), body=data)


@pytest.mark.parametrize(
    ("status_code", "create", "upload", "balance"),
    [
        (400, "invalid_arguments", "source_refused", "unexpected_answer"),
        (401, "authentication", "authentication", "authentication"),
        (402, "insufficient_credits", "insufficient_credits", "unexpected_answer"),
        (403, "authentication", "authentication", "authentication"),
        (404, "unexpected_answer", "unexpected_answer", "unexpected_answer"),
        (408, "service_unavailable", "service_unavailable", "service_unavailable"),
        (409, "unexpected_answer", "unexpected_answer", "unexpected_answer"),
        (413, "invalid_arguments", "source_refused", "unexpected_answer"),
        (418, "unexpected_answer", "unexpected_answer", "unexpected_answer"),
        (422, "invalid_arguments", "source_refused", "unexpected_answer"),
        (429, "rate_limited", "rate_limited", "rate_limited"),
        (451, "content_refused", "unexpected_answer", "unexpected_answer"),
        (500, "service_unavailable", "service_unavailable", "service_unavailable"),
        (529, "service_unavailable", "service_unavailable", "service_unavailable"),
    ],
)
def test_a_status_means_one_error_for_each_kind_of_request(
    status_code: int, create: str, upload: str, balance: str
) -> None:
    """What a caller does next depends on the class alone."""
    response = _response(status_code)
    errors = [
        error_from_response(response, request="POST /v1/text_to_image", refused=InvalidArgumentsError),
        error_from_response(response, request="the upload of cat.png", refused=SourceRefusedError),
        error_from_response(response, request="GET /api/v1/me/balance"),
    ]

    assert [error.code for error in errors] == [create, upload, balance]
    for error in errors:
        assert f'HTTP {status_code}, it says: "no"' in error.message
        assert error.hint
        assert (error.request_id, error.charged) == ("req_1", "no")


@pytest.mark.parametrize(
    ("charged", "status_code", "told", "hint"),
    [
        ("no", 422, "Nothing was charged.", "Correct the arguments"),
        ("unknown", 422, "An earlier attempt's response was lost", SAME_AGAIN),
        ("no", 451, "Nothing was charged.", "do not reword it yourself"),
        ("unknown", 451, "Whether the image was made all the same is not known.", SAME_AGAIN),
        ("unknown", 503, "Whether the image was accepted is not known.", SAME_AGAIN),
        ("unknown", 409, "whether the image was accepted is not known", SAME_AGAIN),
        ("unknown", 418, "Whether the image was accepted is not known.", SAME_AGAIN),
    ],
)
def test_an_unresolved_attempt_is_never_called_free(charged: Charged, status_code: int, told: str, hint: str) -> None:
    """Whoever believes it asks for a second image, and pays for both."""
    error = error_from_response(
        _response(status_code), request="POST /v1/x", charged=charged, refused=InvalidArgumentsError
    )

    assert told in error.message
    assert hint in error.hint
    assert error.charged == charged


@pytest.mark.parametrize(("charged", "again"), [("no", False), ("unknown", True)])
def test_a_page_that_forbids_is_of_something_on_the_way(charged: Charged, again: bool) -> None:
    """A company's firewall refuses like that; another key is refused as well."""
    response = _response(403, b"<html><title>Attention Required!</title></html>")

    error = error_from_response(response, request="POST /v1/x", charged=charged, outcome="Nothing was charged.")

    assert error.code == "unexpected_answer"
    assert 'POST /v1/x with HTTP 403, an HTML page ("Attention Required!")' in error.message
    assert "Replace RUNAPI_API_KEY" not in error.hint
    assert error.hint.startswith("Ask whoever runs this network")
    assert (SAME_AGAIN in error.hint) == again
    assert error.charged == charged


@pytest.mark.parametrize("body", [{"error": "no"}, {}, b"", b"Forbidden"])
def test_whatever_else_forbids_refuses_the_key(body: Any) -> None:
    """The service's gateway may say so without a word."""
    assert error_from_response(_response(403, body), request="POST /v1/x").code == "authentication"


@pytest.mark.parametrize(
    ("retry_after_s", "hint"),
    [(None, "Wait a little, then call again."), (90.0, "Wait 90 s, then call again."), (1e9, "Wait 86400 s")],
)
def test_a_rate_limit_says_how_long_to_wait(retry_after_s: float | None, hint: str) -> None:
    """As long as it is a time that anybody waits for."""
    error = error_from_response(_response(429), request="POST /v1/x", retry_after_s=retry_after_s)

    assert error.hint.startswith(hint)


def test_moderation_is_told_by_its_words() -> None:
    """A 422 may be either; changing the arguments does not help against moderation."""
    response = _response(422, {"error": {"code": "content_policy_violation", "message": "flagged"}})

    assert error_from_response(response, request="POST /v1/x", refused=InvalidArgumentsError).code == "content_refused"
    assert error_from_response(response, request="the upload", refused=SourceRefusedError).code == "source_refused"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": "slow down"}, 'HTTP 502, it says: "slow down"'),
        ({"code": "E1"}, 'HTTP 502, it says: "E1"'),
        ({}, "HTTP 502"),
        (b"", "HTTP 502, an empty body"),
        (b"<html><title>Bad Gateway</title>", 'HTTP 502, an HTML page ("Bad Gateway")'),
    ],
)
def test_only_the_services_own_words_are_quoted(body: Any, status: str) -> None:
    """A quotation is neither ours nor an instruction; a proxy's page is not the service's words."""
    assert quoted_status(_response(502, body)) == status
