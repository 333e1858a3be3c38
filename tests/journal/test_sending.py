"""What is written before what is sent, and when a request whose response was lost may be sent again."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool.engine.wait import CancelToken
from flux2_tool.journal import Record
from flux2_tool.sandbox import Fault, SandboxOptions
from flux2_tool.tasks.poll_schedule import UNATTENDED_LIFE_S
from tests.chaos.world import World
from tests.support.harness import (
    CREATED,
    DONE,
    FOX,
    KEY,
    MockService,
    SandboxTransport,
    Seen,
    opened_tool,
    run_call,
    scripted,
)
from tests.support.stores import contents, records_of
from tests.support.virtual_time import run_virtual

OPTIONS = SandboxOptions(duration_s=6.0, drawn_images=False, seed=1)


def test_the_intent_is_on_disk_before_the_post_and_the_task_id_after_it(home: Path) -> None:
    """Should the process die in between, the next one has the request and its key."""
    on_disk: list[tuple[str, list[Record]]] = []
    seen: list[Seen] = []

    def answer(request: Seen) -> Any:
        on_disk.append((request.method, records_of(home)))
        seen.append(request)
        if request.path.startswith("/v1/"):
            return (404, {"error": "Not found"})
        return (200, CREATED if request.method == "POST" else DONE)

    run_call(home, MockService(answer))
    (_, at_guide), (_, at_service) = on_disk[:2]
    posts = [request for request in seen if request.method == "POST"]
    at_polls = [records for method, records in on_disk if method == "GET"]

    assert [(len(records), records[0].state) for records in (at_guide, at_service)] == [(1, "sending")] * 2
    assert (at_guide[0].route, at_service[0].route) == ("guide", "service")
    assert [(at_guide[0].body, at_guide[0].idempotency_key)] * 2 == [
        (post.body, post.headers["idempotency-key"]) for post in posts
    ]
    assert {(records[0].state, records[0].task_id) for records in at_polls} == {("processing", "tsk_abc123")}
    assert [(record.state, len(record.images)) for record in records_of(home)] == [("completed", 1)]


def test_the_key_is_in_no_file_of_the_folder(home: Path, runapi: SandboxTransport) -> None:
    """Only its fingerprint: the folder is backed up, synchronised, sent in bug reports."""
    runapi.fault("status", status=401, times=1)
    run_call(home, runapi)
    run_call(home, runapi)
    files = dict(contents(home))
    forms = [KEY.encode(), base64.b64encode(KEY.encode()), KEY.encode().hex().encode()]

    assert "journal.db" in files
    assert [name for name, data in files.items() for form in forms if form in data] == []


async def _die_in_mid_post(world: World, *, session: str | None = "a session", host: str = "native") -> Any:
    """Have a process die while the service has accepted its POST and not answered yet."""
    world.sandbox.faults.queue(Fault(kind="latency", on="create", accepted=True, delay_s=30.0))
    wish = world.wish("a red fox", session=session, host=host)
    process = world.open(host)
    asyncio.get_running_loop().call_later(3.0, world.kill, process)
    assert await world.ask(process, wish, wait_s=60.0) is None
    return wish


def test_a_lost_response_repeats_the_same_bytes_under_the_same_key(home: Path) -> None:
    """That is the only way to learn its outcome without paying again."""

    async def main() -> tuple[World, dict[str, Any] | None]:
        world = World(home, options=OPTIONS)
        wish = await _die_in_mid_post(world)
        result = await world.ask(world.open("native"), wish, wait_s=60.0)
        return world, result

    world, result = run_virtual(main())
    first, second = world.sandbox.ledger.creates

    assert (first.body, first.path, first.idempotency_key) == (second.body, second.path, second.idempotency_key)
    assert dict(first.headers)["x-client-request-id"] == dict(second.headers)["x-client-request-id"]
    assert (first.outcome, second.outcome) == ("created", "replayed")
    assert result is not None
    assert (result["task"]["state"], result["task"]["joined"]) == ("completed", True)
    assert len(world.sandbox.ledger.billed_tasks) == 1


def test_a_worker_resumes_orphaned_tasks_at_the_first_call_of_their_key(home: Path) -> None:
    """Any call, of any session; the user who comes back finds the image."""

    async def main() -> tuple[World, list[str]]:
        world = World(home, options=OPTIONS)
        await _die_in_mid_post(world)
        worker = world.open("native")
        other = world.wish("another picture", session="another session", host="native")
        states: list[str] = []
        await world.ask(worker, other, wait_s=60.0)
        for _ in range(30):
            states.append(world.records()[0].state)
            await asyncio.sleep(1.0)
        return world, states

    world, states = run_virtual(main())

    assert states[-1] == "completed"
    assert len(world.sandbox.ledger.billed_tasks) == 2
    assert world.records()[0].delivered_at is None


def test_only_the_resume_command_finishes_orphaned_tasks(home: Path) -> None:
    """`flux2-tool generate` must not make a person wait for somebody else's task; `resume` is for that."""

    async def main() -> tuple[World, str, list[dict[str, Any]]]:
        world = World(home, options=OPTIONS)
        await _die_in_mid_post(world)
        command = world.open("cli")
        await world.ask(command, world.wish("another picture", session=None, host="cli"), wait_s=60.0)
        await command.aclose()
        before = world.records()[0].state
        resumer = world.open("cli")
        results = await resumer.start(resumer.tool.resume())
        return world, before, results

    world, before, results = run_virtual(main())

    assert before == "sending"
    assert [result["task"]["state"] for result in results] == ["completed"]
    assert len(world.sandbox.ledger.billed_tasks) == 2
    # It was shown on a terminal; the conversation that asked for it has not seen it.
    assert world.records()[0].delivered_at is None


async def _ask_late(world: World, wish: Any, *, after_s: float) -> dict[str, Any] | None:
    await asyncio.sleep(after_s)
    worker = world.open("native")
    result = await world.ask(worker, wish, wait_s=60.0)
    # Time for the worker to take up in the background whatever it would take up.
    await asyncio.sleep(120.0)
    return result


@pytest.mark.parametrize(
    ("after_s", "settings", "is_sent"),
    [
        pytest.param(590.0, {}, True, id="within ten minutes of the first attempt"),
        pytest.param(610.0, {}, False, id="later"),
        pytest.param(110.0, {"resend_window_s": 120.0}, True, id="within the window that was set"),
        pytest.param(130.0, {"resend_window_s": 120.0}, False, id="after the window that was set"),
    ],
)
def test_a_request_is_sent_again_only_within_the_resend_window(
    home: Path, after_s: float, settings: dict[str, Any], is_sent: bool
) -> None:
    """How long the service remembers a key is not documented; a key it has forgotten would pay again."""

    async def main() -> tuple[World, dict[str, Any] | None]:
        world = World(home, options=OPTIONS, **settings)
        wish = await _die_in_mid_post(world)
        return world, await _ask_late(world, wish, after_s=after_s - 3.0)

    world, result = run_virtual(main())
    record = world.records()[0]

    assert len(world.sandbox.ledger.creates) == (2 if is_sent else 1)
    assert result is not None
    assert ("task" in result) == is_sent
    assert record.state == ("completed" if is_sent else "unknown")
    if not is_sent:
        assert result["error"]["charged"] == "unknown"
        assert f"resume --resend {record.record_id[:8]}" in result["error"]["hint"]


@pytest.mark.parametrize("is_conflict", [False, True], ids=["too late", "other input under its key"])
def test_a_request_of_unknown_outcome_is_resent_only_by_its_id(home: Path, is_conflict: bool) -> None:
    """It may cost a second image, so a person decides."""

    async def main() -> tuple[World, list[dict[str, Any] | None], dict[str, Any]]:
        world = World(home, options=OPTIONS)
        wish = await _die_in_mid_post(world)
        if is_conflict:
            world.sandbox.faults.queue(Fault(kind="status", on="create", status=409, value="the input differs"))
        results = [
            await _ask_late(world, wish, after_s=5.0 if is_conflict else 700.0),
            await _ask_late(world, wish, after_s=5.0),
        ]
        posts = len(world.sandbox.ledger.creates)
        record = world.records()[0]
        assert (record.state, record.conflict, posts) == ("unknown", is_conflict, 2 if is_conflict else 1)
        command = world.open("cli")
        return world, results, await command.start(command.tool.resend(record.record_id[:8]))

    world, results, resent = run_virtual(main())
    creates = world.sandbox.ledger.creates

    assert [result is not None and "error" in result for result in results] == [True, True]
    assert resent["task"]["state"] == "completed"
    assert len({(create.body, create.path, create.idempotency_key) for create in creates}) == 1
    assert len(world.sandbox.ledger.billed_tasks) == 1


def test_resume_marks_expired_requests_unknown_and_follows_abandoned_ones(home: Path) -> None:
    """A process was killed in the middle of a POST yesterday; another followed a slow task in vain."""
    options = SandboxOptions(duration_s=3000.0, drawn_images=False, seed=1)

    async def main() -> tuple[list[str], list[dict[str, Any]], list[Record]]:
        world = World(home, options=options)
        worker = world.open("native")
        await world.ask(worker, world.wish("a slow fox", session="s", host="native"), wait_s=5.0)
        await _die_in_mid_post(world)
        await asyncio.sleep(4000.0)
        await worker.aclose()
        before = [record.state for record in world.records()]
        command = world.open("cli")
        results = await command.start(command.tool.resume())
        return before, results, world.records()

    before, results, after = run_virtual(main())

    assert before == ["processing", "sending"]
    assert [result["task"]["state"] for result in results] == ["completed"]
    assert [record.state for record in after] == ["completed", "unknown"]


def test_a_request_that_has_a_task_is_not_sent_again(home: Path) -> None:
    """Its task may still give the image, and looking costs nothing; sending may pay for another."""
    transport = scripted(gets=[(200, {"id": "tsk_abc123", "status": "completed"})])

    async def main() -> dict[str, Any]:
        async with opened_tool(home, transport, host="cli") as tool:
            await tool.call("text_to_image", dict(FOX))
            [record] = records_of(home)
            assert (record.state, record.task_id) == ("unknown", "tsk_abc123")
            return await tool.resend(record.record_id)

    error = run_virtual(main())["error"]

    assert error["code"] == "task_not_found"
    assert len(transport.posts) == 1


@pytest.mark.parametrize(
    ("posts", "gets", "is_abandoned"),
    [
        pytest.param([httpx.ReadError("lost")], [], False, id="the response was lost"),
        pytest.param([], [(200, {"id": "tsk_abc123", "status": "completed"})], True, id="completed without an image"),
        pytest.param([], [(200, {"status": "Task not found"})], True, id="RunAPI denies the task"),
        pytest.param([], [(401, {"error": "expired"})], False, id="the key stays refused"),
    ],
)
def test_only_what_is_hopeless_is_left_to_a_person(home: Path, posts: Any, gets: Any, is_abandoned: bool) -> None:
    """A worker resumes what is left by itself, each time it starts, and a person whatever there is."""
    transport = scripted(posts, gets)

    def asked() -> int:
        return sum("tsk_other" not in request.path for request in transport.seen)

    async def main() -> list[int]:
        counts = [asked()]
        async with opened_tool(home, transport) as worker:
            await worker.call("get_image_task", {"task_id": "tsk_other"}, session="another", wait_s=20)
            counts.append(asked())
        async with opened_tool(home, transport, host="cli") as command:
            await command.resume(wait_s=20)
            return [*counts, asked()]

    error = run_call(home, transport, session="s", wait_s=300)["error"]
    recorded = [(record.state, record.abandoned) for record in records_of(home)]
    before, by_itself, in_all = run_virtual(main())

    assert error["charged"] == "unknown"
    assert recorded == [("unknown", is_abandoned)]
    assert (by_itself > before) != is_abandoned
    assert in_all > by_itself


def test_resending_an_unknown_id_is_an_error(home: Path, runapi: SandboxTransport) -> None:
    """A mistyped id says how to list them."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi, host="cli") as tool:
            await tool.call("text_to_image", dict(FOX))
            return await tool.resend("no-such-id")

    error = run_virtual(main())["error"]

    assert error["code"] == "task_not_found"
    assert "tasks --state unknown" in error["hint"]
    assert len(runapi.sandbox.ledger.creates) == 1


def test_one_long_wait_does_not_repeat_a_request_past_its_window(home: Path) -> None:
    """Here the service asks for a pause of a quarter of an hour."""
    busy = httpx.Response(503, json={"error": "busy"}, headers={"retry-after": "900"})
    transport = scripted(posts=[busy, (200, CREATED)])
    result = run_call(home, transport, host="cli", wait_s=3000.0)

    assert result["error"]["charged"] == "unknown"
    assert len(transport.posts) == 1
    assert [record.state for record in records_of(home)] == ["unknown"]


def test_a_machine_that_slept_past_the_window_does_not_repeat_it(home: Path) -> None:
    """By now the service may have forgotten the key."""

    async def main() -> tuple[World, dict[str, Any] | None]:
        world = World(home, options=OPTIONS)
        world.sandbox.faults.queue(Fault(kind="drop_after", on="create"))
        process = world.open("native")
        process.stalled_until_s = asyncio.get_running_loop().time() + 2 * 3600.0
        result = await world.ask(process, world.wish("a red fox", session="s", host="native"), wait_s=3 * 3600.0)
        return world, result

    world, result = run_virtual(main())

    assert len(world.sandbox.ledger.creates) == 1
    assert [record.state for record in world.records()] == ["unknown"]
    assert result is not None
    assert result["error"]["charged"] == "unknown"
    assert "too much time has passed" in result["error"]["message"]


def test_what_another_process_may_have_sent_is_not_new(home: Path) -> None:
    """It was frozen after a refusal; who took its request over has sent it, and died before it was answered."""

    async def main() -> tuple[World, dict[str, Any] | None]:
        world = World(home, options=OPTIONS)
        world.sandbox.faults.queue(Fault(kind="status", on="create", status=429, retry_after=2))
        world.sandbox.faults.queue(Fault(kind="latency", on="create", accepted=True, delay_s=60.0))
        wish = world.wish("a red fox", session="s", host="native")
        frozen, other = world.open("native", machine="here:one"), world.open("native", machine="here:two")
        frozen.stalled_until_s = asyncio.get_running_loop().time() + 700.0
        first = asyncio.ensure_future(world.ask(frozen, wish, wait_s=900.0))
        await asyncio.sleep(1.0)
        asyncio.get_running_loop().call_later(60.0, world.kill, other)
        assert await world.ask(other, wish, wait_s=90.0) is None
        return world, await first

    world, result = run_virtual(main())

    assert [create.status for create in world.sandbox.ledger.creates] == [429, 200]
    assert [record.state for record in world.records()] == ["unknown"]
    assert result is not None
    assert result["error"]["charged"] == "unknown"
    assert "too much time has passed" in result["error"]["message"]


def test_a_process_that_was_taken_over_does_not_send_again(home: Path) -> None:
    """Its container was frozen between two attempts; another one has sent the request meanwhile, and polls its task."""

    async def main() -> tuple[World, list[dict[str, Any] | None]]:
        world = World(home, options=OPTIONS)
        world.sandbox.faults.queue(Fault(kind="drop_after", on="create"))
        wish = world.wish("a red fox", session="s", host="native")
        frozen, other = world.open("native", machine="here:one"), world.open("native", machine="here:two")
        frozen.stalled_until_s = asyncio.get_running_loop().time() + 100.0
        first = asyncio.ensure_future(world.ask(frozen, wish, wait_s=300.0))
        await asyncio.sleep(1.0)
        second = await world.ask(other, wish, wait_s=90.0)
        return world, [await first, second]

    world, results = run_virtual(main())

    assert [(create.outcome) for create in world.sandbox.ledger.creates] == ["created", "replayed"]
    assert [result and result["task"]["state"] for result in results] == ["completed", "completed"]
    assert len(world.sandbox.ledger.billed_tasks) == 1


# ---- when nobody waits -----------------------------------------------------------------------------------------------


def test_a_cancelled_wait_keeps_the_task_and_its_image(home: Path, runapi: SandboxTransport) -> None:
    """There is no cancel: what is paid must not be lost."""

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            cancel = CancelToken()
            asyncio.get_running_loop().call_later(3.0, cancel.set)
            stopped = await tool.call("text_to_image", dict(FOX), session="s", cancel=cancel)
            await asyncio.sleep(60.0)
            polls = runapi.sandbox.ledger.polls
            again = await tool.call("text_to_image", dict(FOX), session="s")
            assert runapi.sandbox.ledger.polls == polls
            return stopped, again

    stopped, again = run_virtual(main())

    assert stopped["error"]["code"] == "cancelled"
    assert stopped["error"]["charged"] == "unknown"
    assert "may still be charged" in stopped["error"]["message"]
    assert stopped["error"]["task_ref"] == again["task"]["ref"]
    assert again["task"]["joined"]
    assert runapi.billed == 1


def test_a_lost_response_is_resolved_even_when_no_call_waits(home: Path) -> None:
    """The caller left during the attempts; whether the image exists must still be found out."""

    async def main() -> tuple[World, dict[str, Any] | None]:
        world = World(home, options=OPTIONS)
        world.sandbox.faults.queue(Fault(kind="drop_after", on="create", times=4))
        wish = world.wish("a red fox", session="s", host="native")
        result = await world.ask(world.open("native"), wish, wait_s=60.0, abort_after_s=0.6)
        await asyncio.sleep(60.0)
        return world, result

    world, result = run_virtual(main())

    assert result is not None
    assert result["error"]["code"] == "cancelled"
    assert [record.state for record in world.records()] == ["completed"]


def test_an_unattended_task_is_followed_for_a_quarter_of_an_hour(home: Path) -> None:
    """A task that never ends must not be polled for ever; a later call resumes it."""
    options = SandboxOptions(duration_s=3000.0, drawn_images=False, seed=1)

    async def main() -> tuple[float, Record, dict[str, Any] | None, dict[str, Any] | None]:
        world = World(home, options=options)
        loop = asyncio.get_running_loop()
        worker = world.open("native")
        wish = world.wish("a red fox", session="s", host="native")
        await world.ask(worker, wish, wait_s=5.0)
        last_poll_s, polls = loop.time(), world.sandbox.ledger.polls
        while loop.time() < 2000.0:
            await asyncio.sleep(5.0)
            if world.sandbox.ledger.polls > polls:
                last_poll_s, polls = loop.time(), world.sandbox.ledger.polls
        record = world.records()[0]
        early = await world.ask(worker, wish, wait_s=5.0)
        await asyncio.sleep(1000.0)
        return last_poll_s, record, early, await world.ask(worker, wish, wait_s=30.0)

    last_poll_s, record, early, late = run_virtual(main())

    assert UNATTENDED_LIFE_S - 60.0 < last_poll_s <= 5.0 + UNATTENDED_LIFE_S + 30.0
    assert (record.state, record.abandoned, record.owner) == ("processing", True, None)
    assert early is not None
    assert (early["task"]["state"], early["task"]["joined"]) == ("processing", True)
    assert late is not None
    assert late["task"]["state"] == "completed"
