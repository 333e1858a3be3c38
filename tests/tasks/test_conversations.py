"""A task is its conversation's, whatever key, base URL, process or spelling of its id another one asks with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool.context import CallContext
from flux2_tool.journal import ThisProcess, open_journal
from flux2_tool.tasks.conversations import spellings_of, task_key
from tests.support.harness import (
    CREATED,
    DONE,
    FOX,
    Answer,
    MockService,
    Seen,
    credentials,
    numbered,
    opened_tool,
    scripted,
)
from tests.support.hosted import HostedEngine
from tests.support.keys import KEY
from tests.support.stores import full_disk, open_store, records_of
from tests.support.virtual_time import START_S, run_virtual

ALICE, MALLORY = CallContext(session="alice"), CallContext(session="mallory")
UUID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
ROTATED = credentials(KEY + "-rotated")
RESPELT = credentials(base_url="https://RUNAPI.test:443")


def prune(home: Path) -> None:
    """Forget everything, as `tasks prune` does later."""
    journal = open_store(home, owner=ThisProcess(), now=START_S)
    try:
        assert journal.prune(before=START_S + 86400.0) == 1
    finally:
        journal.close()


def replace_with_a_folder(home: Path) -> None:
    """Make the journal unreadable."""
    for path in home.glob("journal.db*"):
        path.unlink()
    (home / "journal.db").mkdir()


def leave_alone(_home: Path) -> None:
    """Keep the record."""


async def ask(tool: HostedEngine, caller: CallContext, task_id: str, **options: Any) -> list[dict[str, Any]]:
    """Look at a task and edit it, as one caller."""
    return [
        await tool.call("get_image_task", {"task_id": task_id}, caller=caller, **options),
        await tool.call(
            "remix_image", {"prompt": "edit", "source_image_urls": [f"task:{task_id}"]}, caller=caller, **options
        ),
    ]


def assert_refused(results: list[dict[str, Any]]) -> None:
    """Assert that a caller was told nothing but whose it is not."""
    assert [result["error"]["code"] for result in results] == ["task_not_found", "source_refused"]
    for result in results:
        assert "belongs to another conversation" in result["error"]["message"]
        assert "cdn.example" not in str(result)


@pytest.mark.parametrize("forget", [leave_alone, prune])
@pytest.mark.parametrize("asked_with", [None, ROTATED, RESPELT], ids=["same account", "rotated key", "other spelling"])
@pytest.mark.parametrize("is_live", [True, False], ids=["in memory", "of an earlier process"])
def test_another_conversation_is_refused_whoever_asks_how(
    home: Path, is_live: bool, asked_with: Any, forget: Callable[[Path], None]
) -> None:
    """RunAPI answers any key of the account, so only the record knows whose the picture is."""
    transport = numbered()

    async def main() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        async with opened_tool(home, transport) as tool:
            made = await tool.call("text_to_image", FOX, caller=ALICE)
            await asyncio.sleep(60.0)  # delivered
            if is_live:
                forget(home)
                return await ask(tool, MALLORY, made["task"]["id"], credentials=asked_with), []
        forget(home)
        async with opened_tool(home, transport) as other:
            refused = await ask(other, MALLORY, made["task"]["id"], credentials=asked_with)
            return refused, await ask(other, ALICE, made["task"]["id"], credentials=asked_with)

    refused, own = run_virtual(main())

    assert_refused(refused)
    assert all("error" not in result for result in own)


@pytest.mark.parametrize("asked_with", [ROTATED, RESPELT], ids=["rotated key", "other spelling"])
def test_what_is_known_to_be_of_another_conversation_is_not_looked_up(home: Path, asked_with: Any) -> None:
    """Every question is counted by RunAPI, and tells its log who wanted to know."""
    transport = numbered()

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, transport) as tool:
            made = await tool.call("text_to_image", FOX, caller=ALICE)
            transport.seen.clear()
            return await ask(tool, MALLORY, made["task"]["id"], credentials=asked_with)

    assert_refused(run_virtual(main()))
    assert transport.seen == []


def test_a_task_that_could_not_be_recorded_is_its_conversations(home: Path) -> None:
    """A full disk keeps its id out of the journal, and the process that made it has it in memory."""
    made = numbered()

    async def main() -> list[dict[str, Any]]:
        with contextlib.ExitStack() as until_then:

            def answer(request: Seen) -> Answer:
                if request.method == "POST":
                    until_then.enter_context(full_disk())
                return made.handler(request)

            async with opened_tool(home, MockService(answer)) as tool:
                await tool.call("text_to_image", FOX, caller=ALICE)
                assert [record.task_id for record in records_of(home)] == [None]
                refused = await tool.call("get_image_task", {"task_id": "tsk_1"}, caller=MALLORY, credentials=ROTATED)
                own = await tool.call("get_image_task", {"task_id": "tsk_1"}, caller=ALICE, credentials=ROTATED)
                return [refused, own]

    refused, own = run_virtual(main())

    assert refused["error"]["code"] == "task_not_found"
    assert "belongs to another conversation" in refused["error"]["message"]
    assert own["task"]["state"] == "completed"


@pytest.mark.parametrize(
    "spelling",
    [
        UUID.upper(),
        UUID.replace("-", ""),
        "{" + UUID + "}",
        f"urn:uuid:{UUID}",
        f"{UUID}.json",
        f"{UUID};v=1",
        f"{UUID}@2",
    ],
)
def test_another_spelling_of_the_id_is_the_same_task(home: Path, spelling: str) -> None:
    """A service may read several texts as one id; the journal must not be asked for one of them alone."""
    transport = scripted(posts=[(200, {**CREATED, "task_id": UUID})], gets=[(200, {**DONE, "id": None})])

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, transport) as tool:
            await tool.call("text_to_image", FOX, caller=ALICE)
        async with opened_tool(home, transport) as other:
            return await ask(other, MALLORY, spelling)

    assert_refused(run_virtual(main()))


@pytest.mark.parametrize(
    "answered",
    [
        pytest.param(DONE, id="its id"),
        pytest.param({**DONE, "id": "latest", "task_id": "tsk_abc123"}, id="both ids"),
        pytest.param({"id": "latest", "data": DONE}, id="both ids, one inside"),
    ],
)
@pytest.mark.parametrize("asked", [slice(0, 1), slice(1, 2)], ids=["to look at", "as a source"])
def test_a_lookup_that_returns_another_conversations_task_is_refused(home: Path, asked: slice, answered: Any) -> None:
    """Whatever alias a service knows for it: the response says which task it is."""
    is_made = False

    def answer(request: Seen) -> Answer:
        if request.method == "POST":
            return 200, CREATED
        return 200, answered if is_made else DONE

    calls = (
        ("get_image_task", {"task_id": "latest"}),
        ("remix_image", {"prompt": "edit", "source_image_urls": ["task:latest"]}),
    )

    async def main() -> list[dict[str, Any]]:
        nonlocal is_made
        async with opened_tool(home, MockService(answer)) as tool:
            await tool.call("text_to_image", FOX, caller=ALICE)
            is_made = True
            return [await tool.call(name, arguments, caller=MALLORY) for name, arguments in calls[asked]]

    [result] = run_virtual(main())
    assert result["error"]["code"] in ("task_not_found", "source_refused", "service_unavailable")
    assert "another" in result["error"]["message"]
    assert "cdn.example" not in str(result)


def test_a_lookup_that_began_before_the_task_was_recorded_is_refused(home: Path) -> None:
    """Ids can be guessed ahead; the wait must not end with the picture of whoever gets that id."""
    is_made = False

    def answer(request: Seen) -> Any:
        nonlocal is_made
        is_made = is_made or request.method == "POST"
        return (200, CREATED if request.method == "POST" else DONE) if is_made else (503, {"error": "busy"})

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, MockService(answer)) as tool:
            guess = asyncio.ensure_future(ask(tool, MALLORY, "tsk_abc123"))
            await asyncio.sleep(2.0)
            await tool.call("text_to_image", FOX, caller=ALICE)
            return await guess

    assert_refused(run_virtual(main()))


@pytest.mark.sqlite_only("a folder is in the journal's place")
def test_without_a_readable_journal_no_task_is_looked_up(home: Path) -> None:
    """What nobody can say whose it is, is nobody's; the owner may still fetch it."""
    transport = scripted()

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, transport) as tool:
            await tool.call("text_to_image", FOX, caller=ALICE)
        replace_with_a_folder(home)
        async with opened_tool(home, transport) as other:
            arguments = {"task_id": "tsk_abc123"}
            return [
                await other.call("get_image_task", arguments, caller=MALLORY),
                await other.call("get_image_task", arguments, caller=CallContext(session="owner", is_owner=True)),
            ]

    refused, owners = run_virtual(main())

    assert refused["error"]["code"] == "journal_unavailable"
    assert owners["task"]["state"] == "completed"


def test_a_task_made_elsewhere_is_anybodys(home: Path) -> None:
    """Nobody here has a claim on it: a person pastes the id of a picture from the dashboard."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, scripted()) as tool:
            return await ask(tool, MALLORY, "tsk_abc123")

    assert all("error" not in result for result in run_virtual(main()))


@pytest.mark.parametrize(
    "caller",
    [CallContext(session="mallory", is_owner=True), CallContext(session="other", shared_session="alice")],
    ids=["the owner", "a session that shares it"],
)
def test_who_may_use_the_conversation_may_use_its_task(home: Path, caller: CallContext) -> None:
    """Refusing is for other conversations; the owner's own tools are none."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, numbered()) as tool:
            await tool.call("text_to_image", FOX, caller=ALICE)
            return await ask(tool, caller, "TSK_1", credentials=ROTATED)

    assert all("error" not in result for result in run_virtual(main()))


def test_an_agent_gets_no_picture_of_the_command_line(home: Path) -> None:
    """A call without a session is a person's own."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, scripted(), host="cli") as command:
            await command.call("text_to_image", FOX)
        async with opened_tool(home, scripted()) as tool:
            return await ask(tool, MALLORY, "tsk_abc123")

    assert_refused(run_virtual(main()))


def two_services() -> MockService:
    """Return two services that number their own tasks, each from 1 on."""
    services = {host: numbered() for host in ("runapi.test", "other.test")}
    return MockService(lambda request: services[httpx.URL(request.url).host].handler(request))


def test_two_accounts_may_have_a_task_of_one_id_each(home: Path) -> None:
    """Two services count for themselves; each conversation keeps its own picture."""
    other_account = credentials("sk-another-account-1", "https://other.test")

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, two_services()) as tool:
            await tool.call("text_to_image", FOX, caller=ALICE)
            await tool.call("text_to_image", FOX, caller=MALLORY, credentials=other_account)
            return [
                *await ask(tool, ALICE, "tsk_1"),
                *await ask(tool, MALLORY, "tsk_1", credentials=other_account),
            ]

    assert all("error" not in result for result in run_virtual(main()))


def test_an_id_that_two_conversations_have_is_nobodys_to_look_up(home: Path) -> None:
    """With a third key nobody knows which of the two RunAPI would answer with."""
    other_account = credentials("sk-another-account-1", "https://other.test")

    async def main() -> list[list[dict[str, Any]]]:
        async with opened_tool(home, two_services()) as tool:
            await tool.call("text_to_image", FOX, caller=ALICE)
            await tool.call("text_to_image", FOX, caller=MALLORY, credentials=other_account)
            return [await ask(tool, caller, "tsk_1", credentials=ROTATED) for caller in (ALICE, MALLORY)]

    for refused in run_virtual(main()):
        assert_refused(refused)


@pytest.mark.parametrize("account", [ROTATED, credentials(base_url="https://other.test")], ids=["key", "base URL"])
def test_a_live_task_of_another_account_is_looked_up_with_the_callers_own_key(home: Path, account: Any) -> None:
    """The account that asks must be the one that RunAPI answers; a picture in memory is another account's."""
    transport = scripted(gets=[(200, DONE)])

    async def main() -> dict[str, Any]:
        async with opened_tool(home, transport) as tool:
            await tool.call("text_to_image", FOX, caller=ALICE)
            transport.seen.clear()
            return await tool.call("get_image_task", {"task_id": "tsk_abc123"}, caller=ALICE, credentials=account)

    assert run_virtual(main())["task"]["state"] == "completed"
    [poll, *_] = transport.gets
    assert poll.headers["authorization"] == f"Bearer {account.api_key.get_secret_value()}"
    assert poll.url.startswith(account.base_url)


@pytest.mark.parametrize("account", [ROTATED, credentials(base_url="https://other.test")], ids=["key", "base URL"])
def test_the_last_picture_is_one_of_the_same_account(home: Path, account: Any) -> None:
    """Another account's link may not open, and its record says nothing about this one."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, scripted()) as tool:
            await tool.call("text_to_image", FOX, caller=ALICE)
            return await tool.call("get_image_task", {"task_id": "last"}, caller=ALICE, credentials=account)

    assert run_virtual(main())["error"]["code"] == "task_not_found"


@pytest.mark.parametrize(
    "options", [{"key": KEY + "-rotated"}, {"base_url": "https://other.test"}], ids=["key", "base URL"]
)
def test_only_the_account_that_sent_a_request_sends_it_again(home: Path, options: dict[str, str]) -> None:
    """Under another key it would be a second image, on another's bill."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, MockService(lambda _: httpx.ReadError("lost"))) as tool:
            await tool.call("text_to_image", FOX, caller=ALICE, wait_s=20)
        journal = open_store(home, owner=ThisProcess(), now=START_S)
        [record] = journal.records()
        journal.close()
        async with opened_tool(home, service, **options) as other:
            return await other.resend(record.record_id)

    service = scripted()
    assert run_virtual(main())["error"]["code"] == "task_not_found"
    assert service.posts == []


def test_python_and_sql_compare_ids_alike() -> None:
    """The journal's index and the tasks in memory must agree about which ids are one."""
    journal = open_journal(None, owner=ThisProcess(), now=START_S)
    try:
        for task_id in ("TSK_a-1", "{A-b}", "--", "tsk_é", UUID.upper()):
            expression = "SELECT lower(replace(replace(replace(?, '-', ''), '{', ''), '}', ''))"
            [key] = journal._database.execute(expression, (task_id,)).fetchone()
            assert key == task_key(task_id)
    finally:
        journal.close()


@pytest.mark.sqlite_only("EXPLAIN QUERY PLAN is SQLite's")
def test_the_lookup_by_id_reads_no_other_record(home: Path) -> None:
    """It runs before every lookup, also in a journal of years."""
    journal = open_store(home, owner=ThisProcess(), now=START_S)
    try:
        plan = journal._database.execute(
            "EXPLAIN QUERY PLAN SELECT session FROM records"
            " WHERE lower(replace(replace(replace(task_id, '-', ''), '{', ''), '}', '')) = 'tsk_1'"
        ).fetchall()
        assert "records_by_task_key" in str([tuple(row) for row in plan])
    finally:
        journal.close()


def test_the_spellings_of_an_id_are_bounded_by_its_length() -> None:
    """An id may consist of separators alone."""
    assert len(spellings_of("!" * 256)) <= 256
    assert spellings_of("a.b.json") == {"a.b.json", "a.b", "a", "b", "json"}


def test_a_task_of_no_conversation_is_looked_up_for_anybody(home: Path) -> None:
    """Nobody here made it, so that nobody is kept from it; what others have in hand is no reason."""
    transport = numbered()

    async def main() -> dict[str, Any]:
        async with opened_tool(home, transport) as tool:
            await tool.call("text_to_image", FOX, caller=ALICE)
            return await tool.call("get_image_task", {"task_id": "tsk_elsewhere"}, caller=MALLORY)

    assert run_virtual(main())["task"]["state"] == "completed"
