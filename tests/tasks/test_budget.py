"""Caps on spending: what counts, what is released, whom they apply to, and what the error says."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from flux2_tool.context import CallContext
from flux2_tool.journal import ThisProcess
from flux2_tool.settings import load_settings
from flux2_tool.tasks.budget import local_day
from tests.support.harness import (
    FOX,
    Answer,
    MockService,
    SandboxTransport,
    Seen,
    numbered,
    opened_tool,
    run_call,
    scripted,
)
from tests.support.stores import open_store, raw
from tests.support.virtual_time import START_S, run_virtual


def calls(
    home: Path, transport: Any, *requests: tuple[dict[str, Any], CallContext | None], **settings: Any
) -> list[dict[str, Any]]:
    """Make calls one after the other in one process and return their result objects."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, transport, **settings) as tool:
            return [await tool.call("text_to_image", arguments, caller=caller) for arguments, caller in requests]

    return run_virtual(main())


def prompts(count: int, caller: CallContext | None = None) -> list[tuple[dict[str, Any], CallContext | None]]:
    """Return distinct requests."""
    return [({"prompt": f"a red fox, number {number}"}, caller) for number in range(count)]


def test_a_daily_cap_holds_to_the_cent_and_reports_what_is_spent(home: Path, runapi: SandboxTransport) -> None:
    """The most frequent complaint of people who give agents paid tools is the surprise bill."""
    results = calls(home, runapi, *prompts(5), daily_cap_usd=0.20)
    error = results[4]["error"]

    assert [("task" in result) for result in results] == [True, True, True, True, False]
    assert error["code"] == "budget_exceeded"
    assert (error["charged"], error["retryable"]) == ("no", False)
    assert "daily cap of $0.20" in error["message"]
    assert "$0.20 is spent and $0.00 reserved" in error["message"]
    assert "resets at " in error["message"]
    assert "plugins.entries.flux2.config.daily_cap_usd" in error["hint"]
    assert "FLUX2_TOOL_DAILY_CAP_USD" in error["hint"]
    assert len(runapi.sandbox.ledger.creates) == 4


def test_the_error_says_what_is_left_and_when_the_cap_resets(home: Path) -> None:
    """What is spent and what is reserved is gone; the date is that of the next local midnight."""
    done = {"status": "completed", "images": [{"url": "https://cdn.example/a.png"}], "usage": {"cost": 0.03}}
    made = numbered(done)
    is_lost = False

    def answer(request: Seen) -> Answer:
        return httpx.ReadError("lost") if is_lost and request.method == "POST" else made.handler(request)

    async def main() -> list[dict[str, Any]]:
        nonlocal is_lost
        async with opened_tool(home, MockService(answer), daily_cap_usd=0.12) as tool:
            first = await tool.call("text_to_image", FOX)
            is_lost = True
            return [first, *[await tool.call("text_to_image", {"prompt": f"fox {number}"}) for number in range(2)]]

    paid, lost, refused = run_virtual(main())

    assert ("task" in paid, lost["error"]["charged"]) == (True, "unknown")
    assert "daily cap of $0.12 only $0.04 is left: $0.03 is spent and $0.05 reserved" in refused["error"]["message"]
    _, end = local_day(START_S)
    assert (
        f"It resets at {datetime.fromtimestamp(end).astimezone().isoformat(timespec='minutes')}."
        in (refused["error"]["message"])
    )


def test_the_daily_cap_resets_at_local_midnight(home: Path) -> None:
    """At local midnight."""
    transport = numbered()

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, transport, daily_cap_usd=0.05) as tool:
            first = await tool.call("text_to_image", FOX)
            second = await tool.call("text_to_image", {"prompt": "another fox"})
            await asyncio.sleep(24 * 3600)
            return [first, second, await tool.call("text_to_image", {"prompt": "a third fox"})]

    first, second, third = run_virtual(main())

    assert "task" in first
    assert second["error"]["code"] == "budget_exceeded"
    assert "task" in third


def test_an_image_in_flight_is_reserved_and_a_failed_one_is_released(home: Path, runapi: SandboxTransport) -> None:
    """Two calls at once must not both take the last five cents."""

    async def main() -> tuple[list[dict[str, Any]], dict[str, Any]]:
        async with opened_tool(home, runapi, daily_cap_usd=0.05) as tool:
            together = await asyncio.gather(
                # Which comes first is for the journal to say.
                tool.call("text_to_image", {"prompt": "a fox [fail]"}),
                tool.call("text_to_image", {"prompt": "an owl [fail]"}),
            )
            return list(together), await tool.call("text_to_image", {"prompt": "a fox after all"})

    together, later = run_virtual(main())

    assert sorted(result["error"]["code"] for result in together) == ["budget_exceeded", "generation_failed"]
    refused = next(result["error"] for result in together if result["error"]["code"] == "budget_exceeded")
    assert "$0.05 reserved" in refused["message"]
    assert later["task"]["state"] == "completed"


def test_an_image_of_unknown_outcome_stays_reserved(home: Path) -> None:
    """It may have been charged."""
    transport = scripted(posts=[httpx.ReadError("lost")])
    first, second = calls(home, transport, *prompts(2), daily_cap_usd=0.05)

    assert first["error"]["charged"] == "unknown"
    assert second["error"]["code"] == "budget_exceeded"
    assert "$0.05 reserved" in second["error"]["message"]


def test_the_billed_price_counts_and_not_the_expected_one(home: Path) -> None:
    """Prices may change; what RunAPI bills is what counts."""
    done = {"id": "tsk_abc123", "status": "completed", "images": [{"url": "https://cdn.example/a.png"}]}
    transport = numbered({**done, "usage": {"cost": 0.01}})

    results = calls(home, transport, *prompts(6), daily_cap_usd=0.09)

    assert [("task" in result) for result in results] == [True, True, True, True, True, False]


def test_a_cap_per_image_refuses_only_more_expensive_ones(home: Path, runapi: SandboxTransport) -> None:
    """2k costs more than 1k, flex more than pro."""
    cheap, dear = calls(
        home,
        runapi,
        ({"prompt": "a fox"}, None),
        ({"prompt": "a fox", "output_resolution": "2k"}, None),
        max_image_usd=0.06,
    )

    assert "task" in cheap
    assert dear["error"]["code"] == "budget_exceeded"
    assert "would cost $0.07, and the cap per image is $0.06." in dear["error"]["message"]
    assert "reset" not in dear["error"]["message"]
    assert "max_image_usd" in dear["error"]["hint"]


def test_caps_per_conversation_and_per_person_are_independent(home: Path, runapi: SandboxTransport) -> None:
    """One member of a group must not spend the others' share; the owner is bound by the day alone."""
    alice = CallContext(session="agent/group", sender="alice")
    bob = CallContext(session="agent/group", sender="bob")
    owner = CallContext(session="agent/group", sender="olivia", is_owner=True)
    by_person = calls(home, runapi, *prompts(2, alice), *prompts(1, bob), *prompts(2, owner), sender_daily_cap_usd=0.05)
    by_session = calls(
        home.parent / "other",
        runapi,
        *prompts(2, CallContext(session="one")),
        *prompts(1, CallContext(session="two")),
        session_cap_usd=0.05,
    )

    assert [("task" in result) for result in by_person] == [True, False, True, True, True]
    assert "per person" in by_person[1]["error"]["message"]
    assert [("task" in result) for result in by_session] == [True, False, True]
    assert "resets" not in by_session[1]["error"]["message"]


def test_only_the_owner_may_spend_where_spenders_is_owner(home: Path, runapi: SandboxTransport) -> None:
    """In a public group."""
    guest, owner = calls(
        home,
        runapi,
        (FOX, CallContext(session="s", sender="guest")),
        (FOX, CallContext(session="s", sender="olivia", is_owner=True)),
        spenders="owner",
    )

    assert guest["error"]["code"] == "budget_exceeded"
    assert "spenders" in guest["error"]["hint"]
    assert "task" in owner


@pytest.mark.parametrize("kind", ["a scheduled run", "a subagent's run"])
def test_a_run_that_nobody_began_is_refused_as_such(home: Path, runapi: SandboxTransport, kind: str) -> None:
    """It is not somebody else's, and the operator may allow it."""
    caller = CallContext(session="s", unattended=kind)

    [refused] = calls(home, runapi, (FOX, caller), spenders="owner")
    creates = list(runapi.sandbox.ledger.creates)
    [allowed] = calls(home, runapi, (FOX, caller), spenders="owner", unattended="allow")

    assert refused["error"]["code"] == "budget_exceeded"
    assert f"Nobody in a chat asked for this image: this is {kind}" in refused["error"]["message"]
    assert "the setting unattended" in refused["error"]["hint"]
    assert creates == []
    assert "task" in allowed


def test_a_subagent_spends_for_whoever_spawned_it(home: Path, runapi: SandboxTransport) -> None:
    """The owner's may where only the owner may; a guest's may not, also where nobody's runs are allowed."""
    owners, guests = calls(
        home,
        runapi,
        (FOX, CallContext(session="s", spends_as_owner=True)),
        (FOX, CallContext(session="t", sender="guest")),
        spenders="owner",
        unattended="allow",
    )

    assert "task" in owners
    assert "the requester is not the owner" in guests["error"]["message"]


def test_runs_that_nobody_began_share_one_cap_per_person(home: Path, runapi: SandboxTransport) -> None:
    """Together they count as one more person; the owner's subagents have no such cap."""
    nobody = [CallContext(session=name, unattended="a scheduled run") for name in ("one", "two")]
    owners = [CallContext(session=name, spends_as_owner=True) for name in ("three", "four")]

    results = calls(home, runapi, *((FOX, caller) for caller in (*nobody, *owners)), sender_daily_cap_usd=0.05)

    assert ["task" in result for result in results] == [True, False, True, True]
    assert "per person" in results[1]["error"]["message"]


def test_an_unknown_price_counts_as_configured(home: Path) -> None:
    """Max has no published price."""
    done = {"id": "tsk_abc123", "status": "completed", "images": [{"url": "https://cdn.example/a.png"}]}

    def answer(request: Any) -> Any:
        if "price" in request.path:
            return 404, {"error": "Not found"}
        return 200, ({"task_id": "tsk_abc123", "status": "pending"} if request.method == "POST" else done)

    arguments = {"prompt": "a fox", "model": "flux-2-max-text-to-image", "aspect_ratio": "1:1"}
    first, second = calls(
        home,
        MockService(answer, has_prices=True),
        (arguments, None),
        ({**arguments, "prompt": "two foxes"}, None),
        tiers=("pro", "max"),
        daily_cap_usd=0.9,
    )

    assert first["cost"] == {"usd": None, "basis": "unknown"}
    assert second["error"]["code"] == "budget_exceeded"
    assert "unknown price, counted as $0.50" in second["error"]["message"]


def test_joining_an_image_in_flight_costs_nothing_more(home: Path, runapi: SandboxTransport) -> None:
    """A host that repeats a call after a time-out must not meet the cap its own first call has filled."""

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, runapi, daily_cap_usd=0.05) as tool:
            first = await tool.call("text_to_image", FOX, session="s", wait_s=1)
            return first, await tool.call("text_to_image", FOX, session="s")

    first, second = run_virtual(main())

    assert first["task"]["state"] == "processing"
    assert (second["task"]["state"], second["task"]["joined"]) == ("completed", True)


def test_without_a_journal_the_caps_hold_for_the_process(home: Path, runapi: SandboxTransport) -> None:
    """In memory; the next process starts at zero."""
    results = calls(home, runapi, *prompts(3), daily_cap_usd=0.10, journal="off")

    assert [("task" in result) for result in results] == [True, True, False]


@pytest.mark.parametrize("cap", ["daily_cap_usd", "session_cap_usd", "sender_daily_cap_usd"])
def test_spending_at_a_sandbox_does_not_count_against_real_money(home: Path, cap: str) -> None:
    """Otherwise trying it out at the sandbox would get the first real image refused."""
    caller = CallContext(session="one", sender="alice")
    played = calls(home, scripted(), *prompts(2, caller), base_url="http://127.0.0.1:8321", **{cap: 0.05})
    real = calls(home, scripted(), *prompts(2, caller), **{cap: 0.05})
    played_after = calls(home, scripted(), *prompts(1, caller), base_url="http://localhost:9", **{cap: 0.05})

    assert [("task" in result) for result in played] == [True, False]
    assert [("task" in result) for result in real] == [True, False]
    assert "$0.05 is spent" in real[1]["error"]["message"]
    assert "error" in played_after[0]


def test_the_hint_fits_the_cap(home: Path, runapi: SandboxTransport) -> None:
    """ "Do not try again before that" helps nobody where no such moment comes."""
    dear = {"prompt": "a fox", "output_resolution": "2k"}
    (image,) = calls(home, runapi, (dear, None), max_image_usd=0.06)
    _, session = calls(home, runapi, *prompts(2, CallContext(session="one")), session_cap_usd=0.05)
    _, day = calls(home.parent / "other", runapi, *prompts(2), daily_cap_usd=0.05)

    assert "only if they agree" in image["error"]["hint"]
    assert "does not reset by itself" in session["error"]["message"]
    assert "in this conversation any more" in session["error"]["hint"]
    assert "before" not in image["error"]["hint"] + session["error"]["hint"]
    assert "no image can be made before " in day["error"]["hint"]
    assert "The same call fits from " in day["error"]["hint"]


def test_the_error_names_what_still_fits(home: Path, runapi: SandboxTransport) -> None:
    """ "Best quality" for a cap of ten cents: a cheaper picture now beats none until tomorrow."""
    poster = {"prompt": "a poster", "model": "flux-2-flex-text-to-image"}
    never, *_, spent = calls(home, runapi, (poster, None), *prompts(2), daily_cap_usd=0.10)
    (wide,) = calls(home.parent / "other", runapi, ({**poster, "output_resolution": "2k"}, None), daily_cap_usd=0.15)

    assert "would cost $0.14, and the daily cap is $0.10. So it can never be made" in never["error"]["message"]
    assert "What still fits now: flux-2-pro-text-to-image 1k ($0.05) or 2k ($0.07)." in never["error"]["message"]
    assert "resets" not in never["error"]["message"]
    assert "task" in spent
    assert (
        "flux-2-pro-text-to-image 1k ($0.05) or 2k ($0.07); flux-2-flex-text-to-image 1k ($0.14)."
        in (wide["error"]["message"])
    )


def test_what_fits_is_within_every_cap_and_an_enabled_tier(home: Path, runapi: SandboxTransport) -> None:
    """An offer that the next cap refuses, or that the operator switched off, is another failed call."""
    caller = CallContext(session="one", sender="alice")
    wide = {"prompt": "a poster", "output_resolution": "2k"}
    flex_alone = {"model": "flux-2-flex-text-to-image"}
    settings = {"sender_daily_cap_usd": 0.06, "session_cap_usd": 0.055}
    (both,) = calls(home, runapi, (wide, caller), tiers=("pro",), **settings)
    (flex,) = calls(home.parent / "other", runapi, ({**flex_alone, **wide}, caller), tiers=("flex",), **settings)

    assert "What still fits now: flux-2-pro-text-to-image 1k ($0.05)." in both["error"]["message"]
    assert "session_cap_usd and sender_daily_cap_usd" in both["error"]["hint"]
    assert "No other image fits now either." in flex["error"]["message"]


def test_the_default_cap_is_five_dollars(home: Path) -> None:
    """A hundred pro images; the first refusal explains how to change it."""
    assert load_settings({}, overrides={"home": home}).daily_cap_usd == 5.0
    assert "task" in run_call(home, scripted())


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Shanghai", "America/Los_Angeles"])
@pytest.mark.parametrize("month_day", [(3, 29), (10, 25), (11, 23)])
def test_a_day_runs_from_local_midnight_to_local_midnight(
    monkeypatch: pytest.MonkeyPatch, zone: str, month_day: tuple[int, int]
) -> None:
    """Also on the days on which the clocks change."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        noon = datetime(2026, *month_day, 12, tzinfo=ZoneInfo(zone)).timestamp()

        begins, ends = local_day(noon)

        assert begins <= noon < ends
        for edge in (begins, ends):
            local = datetime.fromtimestamp(edge, tz=ZoneInfo(zone))
            assert (local.hour, local.minute, local.second) == (0, 0, 0)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("rule", [{"spenders": "owner"}, {"sender_daily_cap_usd": 1.0}])
def test_a_call_without_a_requester_is_refused_where_caps_need_one(
    home: Path, runapi: SandboxTransport, rule: dict[str, Any]
) -> None:
    """OpenClaw's image_generate names no requester, so neither the owner nor a person's cap can be checked."""
    caller = CallContext(session="main/image_generate", is_unattributed=True)
    [refused] = calls(home, runapi, (FOX, caller), **rule)

    assert refused["error"]["code"] == "budget_exceeded"
    assert "image_generate does not identify the requester" in refused["error"]["message"]
    assert next(iter(rule)) in refused["error"]["message"]
    assert "text_to_image" in refused["error"]["hint"]
    assert runapi.sandbox.ledger.creates == []


def test_a_cap_per_conversation_ignores_calls_outside_any(home: Path, runapi: SandboxTransport) -> None:
    """Otherwise all users of a gateway would share the cap of one conversation."""
    caller = CallContext(session="main/image_generate", is_unattributed=True)
    results = calls(home, runapi, *prompts(3, caller), session_cap_usd=0.05)

    assert [("task" in result) for result in results] == [True, True, True]


@pytest.mark.parametrize(
    ("zone", "day", "begins", "hours"),
    [
        pytest.param("Africa/Cairo", "2026-04-24", "2026-04-24T01:00+03:00", 23, id="0:00 does not exist"),
        pytest.param("America/Santiago", "2026-09-06", "2026-09-06T01:00-03:00", 23, id="0:00 does not exist, west"),
        pytest.param("America/Santiago", "2026-04-04", "2026-04-04T00:00-03:00", 25, id="24:00 becomes 23:00"),
        pytest.param("America/Havana", "2019-11-03", "2019-11-03T00:00-04:00", 25, id="0:00 exists twice"),
        pytest.param("Australia/Lord_Howe", "2026-10-04", "2026-10-04T00:00+10:30", 23.5, id="half an hour"),
        pytest.param("Pacific/Apia", "2011-12-29", "2011-12-29T00:00-10:00", 24, id="the next date does not exist"),
        pytest.param("America/St_Johns", "2010-11-06", "2010-11-06T00:00-02:30", 24, id="0:01 becomes 23:01"),
    ],
)
def test_a_day_begins_at_the_first_instant_of_its_date(
    monkeypatch: pytest.MonkeyPatch, zone: str, day: str, begins: str, hours: float
) -> None:
    """A cap that resets an hour early lets a day spend twice."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        begin = datetime.fromisoformat(begins).timestamp()
        noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(zone)).timestamp()
        instants = [begin, noon, begin + hours * 3600.0 - 1.0]

        assert [local_day(instant) for instant in instants] == [(begin, begin + hours * 3600.0)] * 3
        assert local_day(begin - 1.0)[1] == begin
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """This process in a zone, named as TZ has it."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


OF_NO_PLACE = ["UTC+24", "UTC-24", "UTC+24:59:59", "<far>-25", "UTC+167"]


@pytest.mark.parametrize("zone", ["", "UTC", "Nowhere/City", ":/dev/null", "?", *OF_NO_PLACE], indirect=True)
@pytest.mark.parametrize("hour", [0, 1, 12, 23])
def test_in_a_zone_that_is_none_the_days_are_those_of_utc(zone: str, hour: int) -> None:
    """A day that began in the future would count nothing that was spent: no cap would hold."""
    begin = datetime(2026, 11, 23, tzinfo=UTC).timestamp()

    assert local_day(begin + hour * 3600.0) == (begin, begin + 86400.0)


@pytest.mark.parametrize(
    ("zone", "offset_h"), [("<+14>-14", 14), ("<-12>12", -12), ("UTC-23:30", 23.5), ("UTC+23", -23)], indirect=["zone"]
)
def test_in_an_extreme_zone_a_day_runs_from_its_midnight(zone: str, offset_h: float) -> None:
    """POSIX allows up to 24 hours, which is more than any place has."""
    begin = datetime(2026, 11, 23, tzinfo=UTC).timestamp() - offset_h * 3600.0

    for at in (begin, begin + 3600.0, begin + 86399.0):
        assert local_day(at) == (begin, begin + 86400.0)


@pytest.mark.parametrize("zone", OF_NO_PLACE, indirect=True)
def test_a_cap_holds_and_is_told_in_a_zone_that_is_none(home: Path, zone: str) -> None:
    """Whoever hits it reads when it resets."""
    _, refused = calls(home, scripted(), *prompts(2), daily_cap_usd=0.05)

    assert refused["error"]["code"] == "budget_exceeded"
    assert "+00:00" in refused["error"]["message"] + refused["error"]["hint"]


def test_a_conversations_cap_holds_after_a_prune(home: Path) -> None:
    """It "does not reset by itself", whatever is deleted from the journal."""
    caller = CallContext(session="one")
    first, refused = calls(home, scripted(), *prompts(2, caller), session_cap_usd=0.05)
    with contextlib.closing(open_store(home, owner=ThisProcess(), now=START_S)) as journal:
        pruned = journal.prune(before=START_S + 1e6)
    (after,) = calls(home, scripted(), *prompts(1, caller), session_cap_usd=0.05)

    assert "task" in first
    assert (refused["error"]["code"], pruned) == ("budget_exceeded", 1)
    assert after["error"]["code"] == "budget_exceeded"
    assert "$0.05 is spent" in after["error"]["message"]


def test_the_cap_ignores_what_a_wrong_clock_put_into_the_future(home: Path) -> None:
    """The clock was a year ahead once; each day until then must have its whole cap."""
    service = numbered()
    calls(home, service, *prompts(1), daily_cap_usd=0.05)
    with raw(home) as edited:
        edited.execute("UPDATE records SET created_at = created_at + 365 * 86400")
    results = calls(home, service, ({"prompt": "a fox of today"}, None), *prompts(1), daily_cap_usd=0.05)

    assert [("task" in result) for result in results] == [True, False]
