"""Asking before paying: what a person is asked, what an approval covers, and what is refused without one."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from flux2_tool.context import Approval, CallContext
from flux2_tool.engine.approvals import MAX_TEXT, MAX_TITLE, Approvals, Cost, Question, cost_of
from flux2_tool.runapi.prices import Price
from tests.support.harness import (
    FOX,
    MockService,
    SandboxTransport,
    Seen,
    json_answer,
    numbered,
    opened_tool,
    settings_at,
)
from tests.support.hosted import HostedEngine
from tests.support.pictures import picture
from tests.support.virtual_time import run_virtual

T = TypeVar("T")

FLEX = {**FOX, "model": "flux-2-flex-text-to-image"}
MAX = {**FOX, "model": "flux-2-max-text-to-image", "aspect_ratio": "1:1"}
CALLER = CallContext(session="main/s")


def play(
    home: Path,
    transport: Any,
    playing: Callable[[HostedEngine], Awaitable[T]],
    *,
    host: str = "native",
    **settings: Any,
) -> T:
    """Play with an engine that asks above ten cents, on virtual time."""

    async def main() -> T:
        async with opened_tool(home, transport, host=host, **{"ask_above_usd": 0.10, **settings}) as tool:
            return await playing(tool)

    return run_virtual(main())


async def asked(
    tool: HostedEngine, arguments: Any, *, caller: CallContext = CALLER, name: str = "text_to_image"
) -> Any:
    """Return the question about a call."""
    return await tool.engine.question(name, arguments, caller=caller)


async def agreed(
    tool: HostedEngine, arguments: Any, *, caller: CallContext = CALLER, name: str = "text_to_image"
) -> CallContext:
    """Ask about a call, and return its caller with the consent."""
    question = await asked(tool, arguments, caller=caller, name=name)
    assert isinstance(question, Question)
    return replace(caller, approval=question.approval)


async def made(tool: HostedEngine, arguments: Any, *, caller: CallContext = CALLER, **options: Any) -> dict[str, Any]:
    """Make a call."""
    return await tool.call("text_to_image", arguments, caller=caller, **options)


def test_a_person_reads_what_is_bought_and_what_a_refusal_costs(home: Path, runapi: SandboxTransport) -> None:
    """Within the lengths that OpenClaw shows, and about this call alone."""
    question = play(home, runapi, lambda tool: asked(tool, {**FLEX, "prompt": "a \u200bfox\n" * 400}))

    assert question.title == "Pay 0.14 USD for an image?"
    assert question.amount == "0.14"
    assert question.text.startswith(
        'text_to_image with flux-2-flex-text-to-image, 1k, by RunAPI, for 0.14 USD: "a fox a fox'
    )
    assert question.text.endswith("nothing is sent and nothing is charged.")
    assert len(question.title) <= MAX_TITLE
    assert len(question.text) <= MAX_TEXT
    assert runapi.requests == []


def test_several_pictures_are_asked_about_once_with_their_sum(home: Path, runapi: SandboxTransport) -> None:
    """Each is below the limit; together they are not. The consent is for all of them, and for so many."""
    four = {**FOX, "count": 4}

    async def playing(tool: HostedEngine) -> tuple[Question, dict[str, Any], Any, dict[str, Any], dict[str, Any]]:
        question, caller = await asked(tool, four), await agreed(tool, four)
        late = await made(tool, four, caller=caller, wait_s=0.0)
        # Of a set that is under way nobody is asked, and it needs no consent.
        again, joined = await asked(tool, four), await made(tool, four)
        return question, late, again, joined, await made(tool, {**four, "count": 3}, caller=caller)

    question, late, again, joined, other = play(home, runapi, playing, repeat_max=10)

    assert question.title == "Pay 0.20 USD for 4 images?"
    assert "1k, 4 images, by RunAPI, for 0.20 USD" in question.text
    assert late["task"]["state"] == "processing"
    assert again is None
    assert len(joined["images"]) == 4
    assert "These 3 images cost 0.15 USD" in other["error"]["message"]
    assert "its arguments have changed since" in other["error"]["message"]
    assert runapi.billed == 4


def test_a_call_that_was_agreed_to_is_made(home: Path, runapi: SandboxTransport) -> None:
    """Once, and for its price."""

    async def playing(tool: HostedEngine) -> dict[str, Any]:
        return await made(tool, FLEX, caller=await agreed(tool, FLEX))

    assert play(home, runapi, playing)["task"]["state"] == "completed"
    assert runapi.billed == 1


@pytest.mark.parametrize("usd", [math.nan, math.inf])
def test_an_approval_of_no_amount_covers_nothing(home: Path, runapi: SandboxTransport, usd: float) -> None:
    """Otherwise it would cover any price."""

    async def playing(tool: HostedEngine) -> dict[str, Any]:
        caller = await agreed(tool, FLEX)
        assert caller.approval is not None
        return await made(tool, FLEX, caller=replace(caller, approval=replace(caller.approval, usd=usd)))

    assert play(home, runapi, playing)["error"]["code"] == "not_approved"
    assert runapi.billed == 0


def test_the_time_until_the_answer_is_not_part_of_the_wait(home: Path, runapi: SandboxTransport) -> None:
    """A person may take minutes; the call still waits as long for its picture as any other."""

    async def playing(tool: HostedEngine) -> dict[str, Any]:
        caller = await agreed(tool, FLEX)
        await asyncio.sleep(500.0)
        return await made(tool, FLEX, caller=caller, wait_s=30.0)

    assert play(home, runapi, playing)["task"]["state"] == "completed"


def test_without_consent_nothing_is_sent_and_the_setting_is_named(home: Path, runapi: SandboxTransport) -> None:
    """A host that never asks must not be able to pay, and somebody has to learn what to change."""
    error = play(home, runapi, lambda tool: made(tool, FLEX))["error"]

    assert (error["code"], error["charged"], error["retryable"]) == ("not_approved", "no", False)
    assert "costs 0.14 USD, and above 0.10 USD a person has to agree first (setting ask_above_usd)" in error["message"]
    assert "Nothing was sent, and nothing is charged." in error["message"]
    assert "plugins.entries.flux2.config.ask_above_usd" in error["hint"]
    assert "FLUX2_TOOL_ASK_ABOVE_USD" in error["hint"]
    assert runapi.requests == []


@pytest.mark.parametrize(
    ("host", "arguments", "settings"),
    [
        pytest.param("native", FOX, {}, id="cheaper"),
        pytest.param("native", FLEX, {"ask_above_usd": 0.14}, id="exactly the limit"),
        pytest.param("native", FLEX, {"ask_above_usd": None}, id="no limit"),
        pytest.param("cli", FLEX, {}, id="a person typed it"),
    ],
)
def test_nobody_is_asked_about_what_needs_no_consent(
    home: Path, runapi: SandboxTransport, host: str, arguments: dict[str, Any], settings: dict[str, Any]
) -> None:
    """A question that is not needed teaches people to agree without reading."""

    async def playing(tool: HostedEngine) -> tuple[Any, dict[str, Any]]:
        return await asked(tool, arguments), await made(tool, arguments)

    question, result = play(home, runapi, playing, host=host, **settings)

    assert question is None
    assert result["task"]["state"] == "completed"


@pytest.mark.parametrize(
    ("arguments", "settings", "code"),
    [
        pytest.param({**FLEX, "aspect_ratio": "2:1"}, {}, "invalid_arguments", id="invalid"),
        pytest.param(FLEX, {"max_image_usd": 0.12}, "budget_exceeded", id="over a cap"),
        pytest.param(FLEX, {"spenders": "owner"}, "budget_exceeded", id="a guest"),
    ],
)
def test_nobody_is_asked_about_a_call_that_fails_anyway(
    home: Path, runapi: SandboxTransport, arguments: dict[str, Any], settings: dict[str, Any], code: str
) -> None:
    """The call then says itself what is wrong with it."""

    async def playing(tool: HostedEngine) -> tuple[Any, dict[str, Any]]:
        return await asked(tool, arguments), await made(tool, arguments)

    question, result = play(home, runapi, playing, **settings)

    assert question is None
    assert result["error"]["code"] == code


def test_nobody_is_asked_about_a_task_that_is_paid_for(home: Path, runapi: SandboxTransport) -> None:
    """An equal call joins it, and get_image_task fetches it: neither makes an image."""

    async def playing(tool: HostedEngine) -> tuple[dict[str, Any], Any, dict[str, Any], Any, dict[str, Any]]:
        begun = await made(tool, FLEX, caller=await agreed(tool, FLEX), wait_s=0)
        fetch = {"task_id": begun["task"]["id"]}
        questions = await asked(tool, FLEX), await asked(tool, fetch, name="get_image_task")
        joined = await made(tool, FLEX)
        return begun, questions[0], joined, questions[1], await tool.call("get_image_task", fetch, caller=CALLER)

    begun, about_equal, joined, about_fetch, fetched = play(home, runapi, playing)

    assert (about_equal, about_fetch) == (None, None)
    assert joined["task"]["joined"]
    assert joined["task"]["id"] == fetched["task"]["id"] == begun["task"]["id"]
    assert runapi.billed == 1


def test_an_approval_counts_for_one_image(home: Path, runapi: SandboxTransport) -> None:
    """Equal calls at once share it and the image; once that was returned, another one is asked about again."""

    async def playing(tool: HostedEngine) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        caller = await agreed(tool, FLEX)
        together = await asyncio.gather(*(made(tool, FLEX, caller=caller) for _ in range(3)))
        await asyncio.sleep(60.0)
        return together, await made(tool, FLEX, caller=caller)

    together, later = play(home, runapi, playing)

    assert len({result["task"]["id"] for result in together}) == 1
    assert later["error"]["code"] == "not_approved"
    assert "which was requested already" in later["error"]["message"]
    assert runapi.billed == 1


def test_an_approval_that_bought_nothing_is_still_good(home: Path, runapi: SandboxTransport) -> None:
    """The person has agreed to pay for this image, and has not paid."""

    async def playing(tool: HostedEngine) -> tuple[dict[str, Any], dict[str, Any]]:
        caller = await agreed(tool, FLEX)
        refused = await made(tool, {**FLEX, "prompt": "another"}, caller=caller)
        return refused, await made(tool, FLEX, caller=caller)

    refused, result = play(home, runapi, playing)

    assert refused["error"]["code"] == "not_approved"
    assert result["task"]["state"] == "completed"


def test_an_approval_of_a_call_that_joined_is_still_good(home: Path, runapi: SandboxTransport) -> None:
    """Two questions were asked before either call began; the second call's image was the first one's."""

    async def playing(tool: HostedEngine) -> list[dict[str, Any]]:
        callers = [await agreed(tool, FLEX) for _ in range(2)]
        first, joined = await asyncio.gather(*(made(tool, FLEX, caller=caller) for caller in callers))
        await asyncio.sleep(60.0)
        return [first, joined, *[await made(tool, FLEX, caller=caller) for caller in callers]]

    first, joined, again, other = play(home, runapi, playing)

    assert joined["task"]["id"] == first["task"]["id"]
    assert "which was requested already" in again["error"]["message"]
    assert other["task"]["id"] != first["task"]["id"]
    assert runapi.billed == 2


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"arguments": {**FLEX, "prompt": "a blue fox"}}, id="another prompt"),
        pytest.param({"arguments": {**FLEX, "output_resolution": "2k"}}, id="a dearer picture"),
        pytest.param({"caller": replace(CALLER, session="main/other")}, id="another conversation"),
    ],
)
def test_an_approval_is_for_the_arguments_that_were_shown(
    home: Path, runapi: SandboxTransport, changed: dict[str, Any]
) -> None:
    """Whatever rewrites them between the question and the call has not been agreed to."""

    async def playing(tool: HostedEngine) -> dict[str, Any]:
        approval = (await agreed(tool, FLEX)).approval
        caller = replace(changed.get("caller", CALLER), approval=approval)
        return await made(tool, changed.get("arguments", FLEX), caller=caller)

    error = play(home, runapi, playing)["error"]

    assert error["code"] == "not_approved"
    assert "its arguments have changed since" in error["message"]
    assert runapi.requests == []


def test_an_argument_that_is_left_out_equals_its_default(home: Path, runapi: SandboxTransport) -> None:
    """A host may fill defaults in after the question."""

    async def playing(tool: HostedEngine) -> dict[str, Any]:
        caller = await agreed(tool, FLEX)
        return await made(tool, {**FLEX, "output_resolution": "1k"}, caller=caller)

    assert play(home, runapi, playing)["task"]["state"] == "completed"


def test_a_price_that_rises_after_the_question_is_refused(home: Path) -> None:
    """The amount that was agreed to is the most that is paid; a lower price is fine."""
    cents = 14
    service = numbered()

    def answer(request: Seen) -> Any:
        if request.path == "/api/v1/price_quotes":
            quote = {"action": "text_to_image", "model": FLEX["model"], "reservation_amount_cents": cents}
            quote |= {"pricing_status": "available", "as_of": "2026-11-01T00:00Z"}
            return json_answer({"price_quote": {**quote, "currency": "USD", "billing_unit": "per_call"}})
        return httpx.Response(404) if request.path.startswith("/api/v1/price") else service.handler(request)

    transport = MockService(answer, has_prices=True)

    async def playing(tool: HostedEngine) -> list[dict[str, Any]]:
        nonlocal cents
        results = []
        for now, prompt in ((30, "dearer"), (12, "cheaper")):
            cents = 14
            await asyncio.sleep(700.0)  # longer than a quote lives
            caller = await agreed(tool, {**FLEX, "prompt": prompt})
            cents = now
            await asyncio.sleep(700.0)
            results.append(await made(tool, {**FLEX, "prompt": prompt}, caller=caller))
        return results

    risen, fallen = play(home, transport, playing)

    assert risen["error"]["code"] == "not_approved"
    assert "costs 0.30 USD" in risen["error"]["message"]
    assert "agreed to is 0.14 USD: the price has risen since" in risen["error"]["message"]
    assert fallen["task"]["state"] == "completed"


def test_an_unknown_price_counts_as_the_setting_says(home: Path) -> None:
    """Max has no published price: what counts against the caps is what is asked about."""
    transport = numbered()

    async def playing(tool: HostedEngine) -> tuple[Question, dict[str, Any]]:
        question = await asked(tool, MAX)
        return question, await made(tool, MAX)

    settings = {"tiers": ["max"], "unknown_price_usd": 0.5}
    question, refused = play(home, transport, playing, **settings)

    assert question.amount == "0.50"
    assert "for an unknown price, counted as 0.50 USD" in question.text
    assert "costs an unknown price, counted as 0.50 USD" in refused["error"]["message"]
    assert transport.posts == []
    assert play(home / "b", numbered(), lambda tool: asked(tool, MAX), **{**settings, "unknown_price_usd": 0.1}) is None


def test_the_pictures_of_one_call_count_together() -> None:
    """Ten pictures below the limit are not below it."""
    settings = settings_at(Path("/nowhere"), ask_above_usd=0.10)
    caller = CallContext(must_ask=True)

    one, four = (cost_of(Price(usd=0.05, basis="quote"), settings, images=images) for images in (1, 4))

    assert not Approvals(settings).needs_one(caller, one)
    assert Approvals(settings).needs_one(caller, four)
    assert four == Cost(usd=0.20, is_known=True, images=4)
    assert four.text == "0.20 USD"


def test_a_rounding_error_of_a_sum_asks_nobody() -> None:
    """Three times ten cents is thirty cents, also in binary fractions."""
    settings = settings_at(Path("/nowhere"), ask_above_usd=0.30)

    cost = cost_of(Price(usd=0.1, basis="quote"), settings, images=3)

    assert cost.usd > 0.30
    assert not Approvals(settings).needs_one(CallContext(must_ask=True), cost)


@pytest.mark.parametrize("has_consent", [False, True])
def test_no_source_leaves_this_machine_without_consent(
    home: Path, runapi: SandboxTransport, tmp_path: Path, has_consent: bool
) -> None:
    """Neither for the question nor for a call that is refused."""
    (tmp_path / "boat.png").write_bytes(picture())
    caller = replace(CALLER, workspace_dir=tmp_path)
    remix = {"prompt": "at night", "source_image_urls": ["boat.png"], "model": "flux-2-flex-remix-image"}

    async def playing(tool: HostedEngine) -> tuple[int, dict[str, Any]]:
        agreeing = await agreed(tool, remix, caller=caller, name="remix_image")
        uploads = len(runapi.sandbox.ledger.uploads)
        return uploads, await tool.call("remix_image", remix, caller=agreeing if has_consent else caller)

    uploads_before, result = play(home, runapi, playing)

    assert uploads_before == 0
    assert len(runapi.sandbox.ledger.uploads) == int(has_consent)
    assert result.get("error", {}).get("code") == (None if has_consent else "not_approved")


def test_an_edit_joins_its_task_without_another_question(home: Path, runapi: SandboxTransport, tmp_path: Path) -> None:
    """Which task it joins depends on the bytes of its sources, and they are read for that."""
    (tmp_path / "boat.png").write_bytes(picture())
    caller = replace(CALLER, workspace_dir=tmp_path)
    remix = {"prompt": "at night", "source_image_urls": ["boat.png"], "model": "flux-2-flex-remix-image"}

    async def playing(tool: HostedEngine) -> tuple[Any, dict[str, Any]]:
        agreeing = await agreed(tool, remix, caller=caller, name="remix_image")
        await tool.call("remix_image", remix, caller=agreeing, wait_s=0)
        question = await asked(tool, remix, caller=caller, name="remix_image")
        return question, await tool.call("remix_image", remix, caller=caller)

    question, joined = play(home, runapi, playing)

    assert question is None
    assert joined["task"]["joined"]
    assert runapi.billed == 1


def test_nobody_is_asked_about_a_source_that_cannot_be_used(home: Path, runapi: SandboxTransport) -> None:
    """It is refused whatever anybody agrees to."""
    remix = {"prompt": "at night", "source_image_urls": ["no-such.png"], "model": "flux-2-flex-remix-image"}

    async def playing(tool: HostedEngine) -> tuple[Any, dict[str, Any]]:
        return await asked(tool, remix, name="remix_image"), await tool.call("remix_image", remix, caller=CALLER)

    question, result = play(home, runapi, playing)

    assert question is None
    assert result["error"]["code"] == "source_refused"


def test_a_question_changes_nothing_in_the_journal(home: Path, runapi: SandboxTransport) -> None:
    """A question that nobody answers must neither reserve money nor count as a repeat."""

    async def playing(tool: HostedEngine) -> tuple[list[Any], dict[str, Any]]:
        questions = [await asked(tool, FLEX) for _ in range(6)]
        return questions, await made(tool, FLEX, caller=await agreed(tool, FLEX))

    questions, result = play(home, runapi, playing, daily_cap_usd=0.14, repeat_max=1)

    assert None not in questions
    assert len({question.approval.approval_id for question in questions}) == 6
    assert len({question.approval.request_key for question in questions}) == 1
    assert result["task"]["state"] == "completed"


def test_looking_whether_a_task_is_inherited_does_not_move_it(home: Path, runapi: SandboxTransport) -> None:
    """Over MCP a client that connects again goes on; a question that no call follows must not take the task away."""
    plain = CallContext(is_owner=True)

    def sessions() -> list[Any]:
        with contextlib.closing(sqlite3.connect(home / "journal.db")) as journal:
            return journal.execute("SELECT session, owner FROM records").fetchall()

    async def main() -> tuple[dict[str, Any], Any, list[list[Any]], dict[str, Any]]:
        options: dict[str, Any] = {"host": "mcp", "ask_above_usd": 0.10}
        async with opened_tool(home, runapi, **options) as first:
            begun = await made(first, FLEX, caller=await agreed(first, FLEX, caller=plain), wait_s=0)
        found = [sessions()]
        async with opened_tool(home, runapi, **options) as second:
            question = await asked(second, FLEX, caller=plain)
            found.append(sessions())
            return begun, question, found, await made(second, FLEX, caller=plain)

    begun, question, (before, after), result = run_virtual(main())

    assert question is None
    assert after == before
    assert result["task"]["id"] == begun["task"]["id"]
    assert runapi.billed == 1


def test_a_caller_that_nobody_can_identify_is_told_where_to_ask(home: Path, runapi: SandboxTransport) -> None:
    """`image_generate` has no way to ask; our own tools have."""
    caller = CallContext(session="main/image_generate", is_unattributed=True)

    error = play(home, runapi, lambda tool: made(tool, FLEX, caller=caller))["error"]

    assert error["code"] == "not_approved"
    assert "Call text_to_image or remix_image instead: there a person can be asked." in error["hint"]


def test_a_forged_approval_is_worth_its_price_at_most(home: Path, runapi: SandboxTransport) -> None:
    """What does not fit the call counts as nothing."""
    approval = Approval(approval_id="1", request_key="", usd=1000.0)

    error = play(home, runapi, lambda tool: made(tool, FLEX, caller=replace(CALLER, approval=approval)))["error"]

    assert error["code"] == "not_approved"
