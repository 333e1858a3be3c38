"""The account's balance: read leniently, refused clearly."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux2_tool._redaction import SecretStr
from flux2_tool.exceptions import PROBE_HINT, Flux2Error, UnexpectedAnswerError
from flux2_tool.runapi.balance import Balance, balance_of, read_balance
from flux2_tool.runapi.client import HttpResponse, RunapiClient
from flux2_tool.runapi.contract import BALANCE_PATH
from flux2_tool.runapi.http_client import open_http
from tests.support.harness import BASE_URL, Answer, MockService, again
from tests.support.keys import KEY

FULL = {
    "balance_cents": 1234,
    "paid_balance_cents": 1000,
    "bonus_balance_cents": 234,
    "spent_cents_today": 35,
    "spent_cents_total": 420.5,
}


def _response(body: Any, status: int = 200, **headers: str) -> HttpResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status_code=status, headers=httpx.Headers(named), body=data)


@pytest.mark.parametrize("body", [FULL, {"data": FULL}])
def test_cents_become_dollars(body: Any) -> None:
    """Everything here speaks of dollars."""
    assert balance_of(_response(body)) == Balance(
        balance_usd=12.34, paid_usd=10.0, bonus_usd=2.34, spent_today_usd=0.35, spent_total_usd=4.205
    )


def test_an_account_may_be_empty_or_in_debt() -> None:
    """Zero is a balance, unlike a price."""
    assert balance_of(_response({"balance_cents": 0})).balance_usd == 0.0
    assert balance_of(_response({"balance_cents": -250})).balance_usd == -2.5


def test_what_is_missing_is_unknown() -> None:
    """Not zero: that would be a lie about somebody's money."""
    assert balance_of(_response({"balance_cents": 5})).paid_usd is None


@pytest.mark.parametrize(
    ("response", "code", "message"),
    [
        (_response({"error": "bad key"}, 401), "authentication", 'HTTP 401, it says: "bad key"'),
        (_response({"error": "no"}, 403), "authentication", "HTTP 403"),
        (_response({"error": "slow"}, 429), "rate_limited", "HTTP 429"),
        (_response(b"<html><title>502 Bad Gateway</title></html>", 502), "service_unavailable", "502 Bad Gateway"),
        (_response({"error": "no"}, 404), "unexpected_answer", "HTTP 404"),
        (_response({"hello": 1}), "unexpected_answer", "no balance"),
        (_response([]), "unexpected_answer", "with HTTP 200 but no balance"),
        (_response(b"<html>login</html>"), "unexpected_answer", "HTTP 200 and an HTML page (no title), so no balance"),
        (_response(b""), "unexpected_answer", "HTTP 200 and an empty body, so no balance"),
        *((_response({"balance_cents": odd}), "unexpected_answer", "no balance") for odd in (
            None, "5", True, [1], math.nan, math.inf, -math.inf, 10**400, -(10**400)
        )),
    ],
)  # fmt: skip
def test_every_other_response_is_an_error_that_says_what_came(response: HttpResponse, code: str, message: str) -> None:
    """ "It does not work" sends people looking in the wrong place."""
    with pytest.raises(Flux2Error) as caught:
        balance_of(response)

    assert caught.value.code == code
    assert message in caught.value.message
    assert caught.value.hint
    assert ("flux2-tool probe" in caught.value.hint) == (code == "unexpected_answer")


def test_every_unexpected_response_suggests_the_probe_once() -> None:
    """It is how an operator finds out which row of the table is wrong."""
    hints = [UnexpectedAnswerError("odd", hint=hint).hint for hint in ("", "Wait.", f"Wait. {PROBE_HINT}")]

    assert hints == [PROBE_HINT, f"Wait. {PROBE_HINT}", f"Wait. {PROBE_HINT}"]


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        pytest.param(httpx.ConnectError("refused"), "service_unavailable", "could not be reached", id="no connection"),
        pytest.param(httpx.ReadTimeout("late"), "service_unavailable", "could not be reached", id="no response"),
        pytest.param(
            httpx.Response(302, headers={"location": "https://login.example/"}),
            "unexpected_answer",
            "The key was not sent there.",
            id="a redirect elsewhere",
        ),
        pytest.param(
            httpx.Response(302, headers={"location": BALANCE_PATH}),
            "unexpected_answer",
            "in a circle: more than 3 redirects.",
            id="redirects in a circle",
        ),
    ],
)
def test_a_balance_that_cannot_be_fetched_says_why(answer: Answer, code: str, said: str) -> None:
    """A network, a proxy and a wrong address are put right by different people."""
    service = MockService(lambda _: again(answer))

    async def main() -> Balance:
        async with open_http(BASE_URL, transport=service) as http:
            return await read_balance(
                RunapiClient(http, base_url=BASE_URL, api_key=SecretStr(KEY), user_agent="test/1")
            )

    with pytest.raises(Flux2Error) as caught:
        asyncio.run(main())

    assert caught.value.code == code
    assert said in caught.value.message
    assert {request.url for request in service.seen} == {f"{BASE_URL}{BALANCE_PATH}"}


@given(body=st.binary(max_size=300) | st.dictionaries(st.sampled_from([*FULL, "data"]), st.floats() | st.none()))
def test_no_response_crashes_the_reader(body: Any) -> None:
    """Only the package's own errors come out."""
    codes = {"ok"}
    try:
        found = balance_of(_response(body))
    except Flux2Error as exc:
        codes = {exc.code}
    else:
        assert found.balance_usd is not None

    assert codes <= {"ok", "unexpected_answer"}
