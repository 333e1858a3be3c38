"""Asking before paying over MCP: the host asks its user, by the protocol's elicitation in either of its forms."""

from __future__ import annotations

from typing import Any

import pytest

from flux2_tool.context import Approval
from flux2_tool.hosts.mcp_consent import ConsentStates
from flux2_tool.sandbox import Sandbox
from tests.hosts.mcp.host import FOX, result_of, talk
from tests.hosts.mcp.sdk_client import MAJOR, PROTOCOL_ERROR, user

FLEX = {**FOX, "model": "flux-2-flex-text-to-image"}

# In the first the server asks by a request, which is all that version 1 of the SDK knows; in the second its answer is
# the question.
MODES = pytest.mark.parametrize("mode", ["legacy", "auto"])


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    """What a host gives the server whose operator wants to be asked above ten cents."""
    return environ | {"FLUX2_TOOL_ASK_ABOVE_USD": "0.10"}


async def call(client: Any) -> dict[str, Any]:
    """Ask for a picture of fourteen cents."""
    return result_of(await client.call_tool("text_to_image", FLEX))


@MODES
def test_a_user_who_agrees_gets_the_picture(environ: dict[str, str], sandbox: Sandbox, mode: str) -> None:
    """Once asked, once paid."""
    asked: list[str] = []

    result = talk(environ, call, mode=mode, elicitation_callback=user("accept", asked))

    assert result["task"]["state"] == "completed"
    [question] = asked
    assert question.startswith("Pay 0.14 USD for an image? text_to_image with flux-2-flex-text-to-image, 1k")
    assert "Without your consent nothing is sent and nothing is charged." in question
    assert len(sandbox.ledger.billed_tasks) == 1


@MODES
@pytest.mark.parametrize(
    ("action", "said"),
    [("decline", "The user refused to pay 0.14 USD"), ("cancel", "The user did not say whether to pay 0.14 USD")],
)
def test_without_agreement_nothing_is_sent(
    environ: dict[str, str], sandbox: Sandbox, mode: str, action: str, said: str
) -> None:
    """And the model reads that it cost nothing."""
    error = talk(environ, call, mode=mode, elicitation_callback=user(action))["error"]

    assert (error["code"], error["charged"], error["retryable"]) == ("not_approved", "no", False)
    assert error["message"].startswith(said)
    assert "Nothing was sent, and nothing is charged." in error["message"]
    assert "ask_above_usd" in error["hint"]
    assert sandbox.ledger.creates == []


@MODES
def test_a_host_that_cannot_ask_is_refused_with_the_settings_name(
    environ: dict[str, str], sandbox: Sandbox, mode: str
) -> None:
    """The operator has to learn what to change."""
    error = talk(environ, call, mode=mode)["error"]

    assert error["code"] == "not_approved"
    assert "(setting ask_above_usd). Nobody was asked here, or could be." in error["message"]
    assert "FLUX2_TOOL_ASK_ABOVE_USD" in error["hint"]
    assert sandbox.ledger.creates == []


@MODES
def test_a_host_that_fails_to_ask_is_refused_the_same_way(environ: dict[str, str], sandbox: Sandbox, mode: str) -> None:
    """It declares what it then cannot do; where its SDK ends the call by itself, nothing was sent either."""

    async def failing(client: Any) -> Any:
        try:
            return result_of(await client.call_tool("text_to_image", FLEX))["error"]["code"]
        except PROTOCOL_ERROR:
            return "protocol error"

    found = talk(environ, failing, mode=mode, elicitation_callback=user("error"))

    assert found in ("not_approved", "protocol error")
    assert sandbox.ledger.creates == []


@MODES
@pytest.mark.parametrize(
    "arguments", [pytest.param(FOX, id="cheap"), pytest.param({**FLEX, "aspect_ratio": "2:1"}, id="invalid")]
)
def test_a_user_is_not_asked_about_what_needs_no_consent(
    environ: dict[str, str], mode: str, arguments: dict[str, Any]
) -> None:
    """Below the limit, or refused anyway."""
    asked: list[str] = []

    async def calling(client: Any) -> dict[str, Any]:
        return result_of(await client.call_tool("text_to_image", arguments))

    result = talk(environ, calling, mode=mode, elicitation_callback=user("accept", asked))

    assert asked == []
    assert result.get("error", {}).get("code") in (None, "invalid_arguments")


@MODES
def test_a_user_is_not_asked_about_a_picture_that_is_paid_for(
    environ: dict[str, str], sandbox: Sandbox, mode: str
) -> None:
    """Neither for an equal call, which joins it, nor for get_image_task."""
    asked: list[str] = []
    slow = {**FLEX, "prompt": "[slow] a snail"}

    async def calling(client: Any) -> list[dict[str, Any]]:
        first = result_of(await client.call_tool("text_to_image", slow))
        equal = result_of(await client.call_tool("text_to_image", slow))
        fetch = {"task_id": first["task"]["ref"], "timeoutSeconds": 0}
        return [first, equal, result_of(await client.call_tool("get_image_task", fetch))]

    results = talk(environ | {"FLUX2_TOOL_WAIT_S": "0"}, calling, mode=mode, elicitation_callback=user("accept", asked))

    assert len(asked) == 1
    assert len({result["task"]["id"] for result in results}) == 1
    assert len(sandbox.ledger.creates) == 1


def test_an_answer_to_another_question_agrees_to_nothing(environ: dict[str, str], sandbox: Sandbox) -> None:
    """In the newer form the host sends the question's state back: what does not fit the call counts for nothing."""
    if MAJOR == 1:
        pytest.skip("version 1 of the SDK does not know it")
    mcp_types = pytest.importorskip("mcp_types")
    states = ["", "{", "[" * 100_000, "\u00e9.", '{"approval_id": "1", "request_key": "2", "usd": 1000.0}']

    async def calling(client: Any) -> list[dict[str, Any]]:
        found = []
        for state in states:
            accept = {"consent": mcp_types.ElicitResult(action="accept", content={})}
            answer = await client.call_tool("text_to_image", FLEX, input_responses=accept, request_state=state)
            found.append(result_of(answer))
        return found

    results = talk(environ, calling, mode="auto", elicitation_callback=user("decline"))

    assert [result["error"]["code"] for result in results] == ["not_approved"] * len(states)
    assert sandbox.ledger.creates == []


APPROVAL = Approval(approval_id="1", request_key="2", usd=0.14)


def test_a_state_is_read_by_the_process_that_issued_it() -> None:
    """After a restart nobody knows which were used; a user is asked again."""
    state = ConsentStates(b"one" * 11).state_of(APPROVAL)

    assert ConsentStates(b"one" * 11).approval_of(state) == APPROVAL
    assert ConsentStates(b"two" * 11).approval_of(state) is None


@pytest.mark.parametrize(
    ("old", "new"), [('"1"', '"other"'), ("0.14", "NaN"), ("0.14", '"x"'), ("}", ', "x": 1}'), (".", "")]
)
def test_a_changed_state_agrees_to_nothing(old: str, new: str) -> None:
    """Neither another id, which would count once more, nor another amount."""
    states = ConsentStates(b"one" * 11)
    state = states.state_of(APPROVAL)

    assert states.approval_of(state.replace(old, new, 1)) is None
