"""What an account that cannot pay is told: its balance, the price, who tops up, and what the balance still pays for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool.engine.refusals import BALANCE_TIMEOUT_S
from flux2_tool.runapi.contract import BALANCE_PATH
from flux2_tool.sandbox import SandboxOptions
from tests.support.harness import FOX, Answer, MockService, SandboxTransport, Seen, run_call

FLEX = {"prompt": "a logo", "model": "flux-2-flex-text-to-image"}


def poor(balance: Answer) -> MockService:
    """Return a service whose account cannot pay, and what it says of the balance."""

    def answer(request: Seen) -> Answer:
        return balance if request.path == BALANCE_PATH else (402, {"error": "Insufficient credits"})

    return MockService(answer)


def test_the_refusal_names_balance_price_and_who_tops_up(home: Path) -> None:
    """The agent has to tell its user what is missing and whom to ask."""
    runapi = SandboxTransport(SandboxOptions(balance_cents=3, seed=1))

    error = run_call(home, runapi)["error"]

    assert (error["code"], error["charged"]) == ("insufficient_credits", "no")
    assert "The account's balance is $0.03; this image costs $0.05. It pays for no other picture" in error["message"]
    assert "Only the owner of the RunAPI account can top up its balance, at https://runapi.ai" in error["hint"]
    assert "still pays for" not in error["hint"]


def test_what_the_balance_still_pays_for_is_named(home: Path) -> None:
    """A logo on flex fails; a picture on pro is there at once, if the user wants it."""
    runapi = SandboxTransport(SandboxOptions(balance_cents=6, seed=1))

    error = run_call(home, runapi, arguments=FLEX)["error"]

    assert "balance is $0.06; this image costs $0.14." in error["message"]
    assert "still pays for flux-2-pro-text-to-image 1k ($0.05): call again with that only if" in error["hint"]


@pytest.mark.parametrize(
    "balance",
    [
        pytest.param((500, {"error": "no"}), id="a fault"),
        pytest.param((200, {"balance_cents": "many"}), id="no amount"),
        pytest.param((401, {"error": "no"}), id="the key refused"),
        pytest.param(httpx.ConnectError("no"), id="no connection"),
        pytest.param(httpx.ReadError("lost"), id="lost"),
    ],
)
def test_a_balance_that_cannot_be_had_changes_nothing(home: Path, balance: Any) -> None:
    """The refusal itself is what matters."""
    error = run_call(home, poor(balance))["error"]

    assert (error["code"], error["charged"]) == ("insufficient_credits", "no")
    assert error["message"].endswith("Nothing was charged. This image costs $0.05.")


def test_a_slow_balance_is_not_waited_for(home: Path) -> None:
    """The call has failed already; its user waits."""
    transport = poor((200, {"balance_cents": 3}))
    transport.delay_s = BALANCE_TIMEOUT_S + 1.0

    error = run_call(home, transport, arguments=FOX)["error"]

    assert error["code"] == "insufficient_credits"
    assert "balance is" not in error["message"]


def test_only_the_refusal_asks_for_the_balance(home: Path, runapi: SandboxTransport) -> None:
    """A picture that is paid for needs no request more."""
    run_call(home, runapi)

    assert BALANCE_PATH not in [path for _method, path in runapi.requests]
