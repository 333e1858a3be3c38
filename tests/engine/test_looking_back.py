"""`get_image_task` without an id: the last pictures of this conversation alone, and what it may still spend."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from flux2_tool.context import CallContext
from flux2_tool.engine.looking_back import recent_images
from flux2_tool.hosts.mcp_result import as_tool_result
from flux2_tool.runapi import contract
from flux2_tool.sandbox import SandboxOptions
from flux2_tool.schema.manifest import load_manifest
from tests.support.harness import SandboxTransport, opened_tool
from tests.support.hosted import HostedEngine
from tests.support.journal import Machine, begun
from tests.support.virtual_time import run_virtual

SCHEMA = Draft202012Validator(load_manifest().tools["get_image_task"].output_schema)
GUEST, OWNER = CallContext(session="group", sender="telegram:2"), CallContext(session="group", is_owner=True)
ALONE = CallContext(session="group", is_owner=True, is_private=True)


async def made(tool: HostedEngine, prompt: str, **options: Any) -> str:
    """Make a picture and return its reference."""
    result = await tool.call("text_to_image", {"prompt": prompt}, **options)
    ref: str = result["task"]["ref"]
    return ref


async def looked_back(tool: HostedEngine, arguments: Any = None, **options: Any) -> dict[str, Any]:
    """Look back, and return what came of it, which matches the schema that hosts are given."""
    result = await tool.call("get_image_task", arguments or {}, **options)
    SCHEMA.validate(result)
    return result


def titles(result: dict[str, Any]) -> list[str]:
    return [image["title"] for image in result["recent"]]


# ---- which pictures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{}, {"task_id": "recent"}, {"timeoutSeconds": 60}])
def test_the_last_pictures_come_newest_first(home: Path, runapi: SandboxTransport, arguments: Any) -> None:
    """With what an agent needs for "the second one you made yesterday": reference, prompt, when, cost, link."""

    async def main() -> tuple[list[str], dict[str, Any], list[tuple[str, str]]]:
        async with opened_tool(home, runapi) as tool:
            refs = [await made(tool, f"fox {number}", session="s") for number in (1, 2)]
            before = len(runapi.requests)
            result = await looked_back(tool, arguments, session="s")
            return refs, result, runapi.requests[before:]

    refs, result, requests = run_virtual(main())

    assert [image["ref"] for image in result["recent"]] == refs[::-1]
    assert titles(result) == ["fox 2", "fox 1"]
    newest = result["recent"][0]
    assert (newest["state"], newest["usd"], newest["path"]) == ("completed", 0.05, None)
    assert newest["url"].startswith("https://")
    assert newest["model"] == "flux-2-pro-text-to-image"
    assert datetime.fromisoformat(newest["made_at"]).tzinfo is not None
    assert "remix_image" in result["next"]
    assert requests == []


def test_it_says_what_time_it_is(home: Path, runapi: SandboxTransport) -> None:
    """A model has no clock, and is asked for yesterday's."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            await made(tool, "a fox", session="s")
            await asyncio.sleep(24 * 3600.0)
            return await looked_back(tool, session="s")

    result = run_virtual(main())

    said = next(word for word in result["next"].split() if word.startswith("20"))
    age = datetime.fromisoformat(said) - datetime.fromisoformat(result["recent"][0]["made_at"])
    assert 24 <= age.total_seconds() / 3600 < 25


def test_at_most_ten_are_listed(home: Path, runapi: SandboxTransport) -> None:
    """A long conversation must not fill the model's context."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            for number in range(12):
                await made(tool, f"fox {number}", session="s")
            return await looked_back(tool, session="s")

    assert titles(run_virtual(main())) == [f"fox {number}" for number in range(11, 1, -1)]


def test_what_was_requested_at_once_stands_in_its_order(home: Path) -> None:
    """ "The second of the four" is the second of its set, in a list whose newest set comes first."""
    machine = Machine(home)
    journal = machine.open()
    record = begun(machine.begin(journal))
    machine.close()
    old, *together = [
        replace(record, record_id=str(number), task_id=f"tsk_{number}", created_at=at)
        for number, at in enumerate([1.0, 2.0, 2.0, 2.0])
    ]

    found = recent_images([*together[::-1], old], now=3.0)

    assert [image.ref for image in found] == ["task:tsk_1", "task:tsk_2", "task:tsk_3", "task:tsk_0"]


@pytest.mark.parametrize("is_owner", [False, True], ids=["a guest", "the owner"])
def test_other_conversations_pictures_are_not_listed(home: Path, runapi: SandboxTransport, is_owner: bool) -> None:
    """In a group everybody reads the answer, also to the owner, who may fetch any task by its id."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            await made(tool, "a private fox", session="direct")
            await made(tool, "a fox by image_generate", session="agent")
            caller = CallContext(session="group", shared_session="agent", is_owner=is_owner)
            return await looked_back(tool, caller=caller)

    result = run_virtual(main())

    assert result["recent"] == []
    assert "No picture of this conversation is known." in result["next"]


def test_a_subagents_pictures_are_its_conversations_and_not_the_other_way(home: Path, runapi: SandboxTransport) -> None:
    """As with fetching: the way is from the subagent to whoever spawned it."""
    child = CallContext(session="child", ancestors=("parent",), is_handed_over=True)

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            await made(tool, "the parent's", session="parent")
            await made(tool, "the child's", caller=child)
        async with opened_tool(home, runapi) as tool:
            return [await looked_back(tool, session="parent"), await looked_back(tool, caller=child)]

    assert [titles(result) for result in run_virtual(main())] == [["the child's", "the parent's"], ["the child's"]]


@pytest.mark.parametrize(
    "caller",
    [
        pytest.param(CallContext(), id="no session"),
        pytest.param(CallContext(session="main/", is_unnamed=True, is_owner=True), id="an agent and no session"),
        pytest.param(CallContext(session="main/image_generate", is_unattributed=True), id="image_generate"),
    ],
)
def test_a_conversation_that_the_host_does_not_name_lists_nothing(
    home: Path, runapi: SandboxTransport, caller: CallContext
) -> None:
    """Such a session stands for several conversations, of several people."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            await made(tool, "a fox", caller=caller)
            return await looked_back(tool, caller=caller)

    result = run_virtual(main())

    assert result["recent"] == []
    assert "The host does not say which conversation this is" in result["next"]


def test_another_accounts_pictures_are_not_listed(home: Path, runapi: SandboxTransport) -> None:
    """They could neither be fetched nor edited with this key."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            await made(tool, "a fox", session="s")
        async with opened_tool(home, runapi, key="sk-test-another-key-0123456789") as tool:
            return await looked_back(tool, session="s")

    assert titles(run_virtual(main())) == []


# ---- in which state --------------------------------------------------------------------------------------------------


def test_an_ended_link_is_left_out_and_said(home: Path, runapi: SandboxTransport) -> None:
    """A model that sends it sends a dead one."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            await made(tool, "a fox", session="s")
        await asyncio.sleep(contract.IMAGE_URL_LIFE_S + 3600.0)
        async with opened_tool(home, runapi) as tool:
            return await looked_back(tool, session="s")

    result = run_virtual(main())

    [image] = result["recent"]
    assert (image["url"], image["path"]) == (None, None)
    assert 'One marked "link ended"' in result["next"]
    assert "get_image_task with its ref may still fetch it" in result["next"]
    assert str(as_tool_result(result)["content"][0]["text"]).splitlines()[1].endswith("completed, link ended")


def test_a_saved_copy_outlives_the_link(home: Path, runapi: SandboxTransport, tmp_path: Path) -> None:
    """It is named while it is there."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi, save_dir=str(tmp_path / "kept")) as tool:
            await made(tool, "a fox", session="s")
        await asyncio.sleep(contract.IMAGE_URL_LIFE_S + 3600.0)
        async with opened_tool(home, runapi) as tool:
            kept = await looked_back(tool, session="s")
            Path(kept["recent"][0]["path"]).unlink()  # noqa: ASYNC240
            return [kept, await looked_back(tool, session="s")]

    kept, lost = run_virtual(main())

    assert kept["recent"][0]["url"] is None
    assert "link ended" not in str(as_tool_result(kept)["content"])
    assert lost["recent"][0]["path"] is None
    assert "link ended" in lost["next"]


def test_pictures_of_unknown_outcome_are_listed_as_such(home: Path) -> None:
    """Either may be paid for; one that failed made nothing."""
    runapi = SandboxTransport(SandboxOptions(duration_s=60.0, drawn_images=False, seed=1))

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi, resend_window_s=0) as tool:
            await tool.call("text_to_image", {"prompt": "slow"}, session="s", wait_s=0)
            for _ in range(20):
                runapi.fault("drop_after")
            await tool.call("text_to_image", {"prompt": "lost"}, session="s")
            runapi.sandbox.faults.clear()
            return await looked_back(tool, session="s")

    result = run_virtual(main())

    assert {image["title"]: image["state"] for image in result["recent"]}["lost"] == "unknown"
    assert 'Of one that is "sending" or "unknown"' in result["next"]


def test_a_failed_request_is_not_listed(home: Path, runapi: SandboxTransport) -> None:
    """There is no picture, and nothing to look back at."""
    runapi.fault("failed")

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            await tool.call("text_to_image", {"prompt": "a fox"}, session="s")
            return await looked_back(tool, session="s")

    assert run_virtual(main())["recent"] == []


def test_looking_back_gives_no_picture(home: Path, runapi: SandboxTransport) -> None:
    """One that its conversation was not given stays so: an equal call gets it and pays nothing."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            await tool.call("text_to_image", {"prompt": "a fox"}, session="s", wait_s=0)
            await asyncio.sleep(60.0)
            await looked_back(tool, session="s")
            await asyncio.sleep(60.0)
            return await tool.call("text_to_image", {"prompt": "a fox"}, session="s")

    assert run_virtual(main())["task"]["joined"] is True
    assert runapi.billed == 1


def test_without_a_journal_it_says_what_it_cannot_know(home: Path, runapi: SandboxTransport) -> None:
    """A short list must not pass for a whole one."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi, journal="off") as tool:
            await made(tool, "a fox", session="s")
            return await looked_back(tool, session="s")

    result = run_virtual(main())

    assert titles(result) == ["a fox"]
    assert any("since this process began" in warning for warning in result["warnings"])


def test_a_journal_that_cannot_be_read_is_an_error(home: Path, runapi: SandboxTransport) -> None:
    """Not an empty list."""
    home.mkdir(exist_ok=True)
    (home / "journal.db").mkdir()

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            return await looked_back(tool, session="s")

    assert run_virtual(main())["error"]["code"] == "journal_unavailable"


# ---- what is left ----------------------------------------------------------------------------------------------------


def test_what_is_left_of_the_caps_and_what_fits_is_told(home: Path, runapi: SandboxTransport) -> None:
    """ "What can I still afford?" needs no call that is refused."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi, daily_cap_usd=0.16, session_cap_usd=1.0) as tool:
            await made(tool, "a fox", session="s")
            return await looked_back(tool, session="s")

    result = run_virtual(main())

    budget = result["budget"]
    assert budget["left_usd"] == 0.11
    assert [(cap["cap"], cap["spent_usd"], cap["left_usd"]) for cap in budget["caps"]] == [
        ("session", 0.05, 0.95),
        ("day", 0.05, 0.11),
    ]
    assert [(one["tier"], one["resolution"], one["usd"], one["fits"]) for one in budget["prices"]] == [
        ("pro", "1k", 0.05, True),
        ("pro", "2k", 0.07, True),
        ("flex", "1k", 0.14, False),
        ("flex", "2k", 0.24, False),
    ]
    assert "$0.11 of today's cap of $0.16" in result["next"]
    assert "That pays for one of: pro 1k $0.05 or 2k $0.07." in result["next"]
    assert f"starts anew at {budget['caps'][1]['resets_at']}" in result["next"]


def test_a_cap_per_image_and_a_price_that_is_not_known_count(home: Path, runapi: SandboxTransport) -> None:
    """As they would for the call itself."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi, max_image_usd=0.06, tiers=["pro", "max"]) as tool:
            return await looked_back(tool, session="s")

    prices = run_virtual(main())["budget"]["prices"]

    assert [(one["tier"], one["usd"], one["fits"]) for one in prices] == [
        ("pro", 0.05, True),
        ("pro", 0.07, False),
        ("max", None, False),
    ]


def test_a_guest_who_may_not_spend_is_told_so(home: Path, runapi: SandboxTransport) -> None:
    """The pictures of the conversation are shown all the same."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi, spenders="owner") as tool:
            await made(tool, "a fox", caller=OWNER)
            return await looked_back(tool, caller=GUEST)

    result = run_virtual(main())

    assert titles(result) == ["a fox"]
    assert result["budget"] is None
    assert "No new picture can be made: Only the owner" in result["next"]
    assert "Nothing was sent" not in result["next"]


@pytest.mark.parametrize(
    ("caller", "is_told"),
    [
        pytest.param(GUEST, False, id="a guest"),
        pytest.param(OWNER, False, id="the owner in a group"),
        pytest.param(ALONE, True, id="the owner alone"),
    ],
)
def test_the_balance_is_told_where_only_the_owner_reads(
    home: Path, runapi: SandboxTransport, caller: CallContext, is_told: bool
) -> None:
    """It is the account's, and a group would read it."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            return await looked_back(tool, caller=caller)

    result = run_virtual(main())

    assert (result["budget"]["balance_usd"] is not None) is is_told
    assert ("in the RunAPI account" in result["next"]) is is_told
    assert (("GET", contract.BALANCE_PATH) in runapi.requests) is is_told


def test_a_balance_that_pays_for_nothing_is_what_is_left(home: Path) -> None:
    """The caps may allow more than the account has."""
    runapi = SandboxTransport(SandboxOptions(drawn_images=False, balance_cents=6))

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            return await looked_back(tool, caller=ALONE)

    budget = run_virtual(main())["budget"]

    assert budget["left_usd"] == 0.06
    assert [one["fits"] for one in budget["prices"]] == [True, False, False, False]


def test_no_balance_is_no_failure(home: Path, runapi: SandboxTransport) -> None:
    """The list is what was asked for."""
    runapi.fault("status", on="account", times=20)

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            await made(tool, "a fox", caller=ALONE)
            return await looked_back(tool, caller=ALONE)

    result = run_virtual(main())

    assert titles(result) == ["a fox"]
    assert result["budget"]["balance_usd"] is None
