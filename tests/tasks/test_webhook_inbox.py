"""Webhooks: the end of a task is noticed sooner with fewer polls, and forged ones change nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool._clock import SystemClock
from flux2_tool.sandbox import Sandbox, SandboxOptions
from flux2_tool.tasks.poll_schedule import WEBHOOK_PROVEN_DELAY_S
from flux2_tool.tasks.webhook_inbox import REMEMBERED_EVENTS, REMEMBERED_S, WebhookInbox
from tests.support.harness import FOX, MockService, SandboxTransport, Seen, json_answer, opened_tool
from tests.support.hosted import HostedEngine
from tests.support.virtual_time import START_S, VirtualClock, run_virtual
from tests.support.webhooks import SECRET, signed, signed_webhook

PUBLIC_URL = "http://127.0.0.1:18789"
CALLBACK_URL = f"{PUBLIC_URL}/flux2/callback"
TASK_S = 6.0


class Gateway(httpx.AsyncBaseTransport):
    """The gateway's route: hands each delivery to the tool, and remembers what it answered."""

    def __init__(self) -> None:
        self.tool: HostedEngine | None = None
        self.answers: list[bool] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert self.tool is not None
        assert str(request.url) == CALLBACK_URL
        self.answers.append(self.tool.webhook(request.headers, await request.aread()))
        return httpx.Response(200 if self.answers[-1] else 401)


def play(
    home: Path,
    do: Callable[[HostedEngine, Sandbox], Awaitable[Any]],
    *,
    configured: bool = True,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Any, SandboxTransport, Gateway]:
    """Run calls against a sandbox that delivers webhooks; return what they gave, the sandbox and the gateway."""
    gateway = Gateway()
    options = {"duration_s": TASK_S, "drawn_images": False, "seed": 1, "callback_secret": SECRET, **options}
    transport = SandboxTransport(SandboxOptions(**options), callbacks=gateway)
    push = {"callback_public_url": PUBLIC_URL, "callback_secret": SECRET} if configured else {}

    async def main() -> Any:
        async with opened_tool(home, transport, **push, **(settings or {})) as tool:
            gateway.tool = tool
            found = await do(tool, transport.sandbox)
            await transport.sandbox.callbacks_done()
            return found

    return run_virtual(main()), transport, gateway


async def one_picture(tool: HostedEngine, _sandbox: Sandbox) -> dict[str, Any]:
    return await tool.call("text_to_image", FOX)


def lateness_s(transport: SandboxTransport) -> list[float]:
    """Return how long after its end each task was seen to be over, in seconds."""
    tasks = transport.sandbox.ledger.tasks.values()
    return [(task.first_seen_finished_at or float("inf")) - task.finish_at for task in tasks]


def polls(transport: SandboxTransport) -> int:
    return sum(method == "GET" for method, _path in transport.requests)


def test_a_webhook_wakes_the_call_which_polls_once(home: Path) -> None:
    """The image is returned when it is ready, not at the next scheduled poll."""
    result, transport, gateway = play(home, one_picture)

    assert result["task"]["state"] == "completed"
    assert result["cost"] == {"usd": 0.05, "basis": "billed"}, "told by the poll; a webhook has no cost"
    assert gateway.answers == [True]
    assert lateness_s(transport)[0] < 0.05
    assert polls(transport) == 1


def test_where_webhooks_arrive_a_slow_task_is_asked_for_once(home: Path) -> None:
    """The first of them is asked for in between, in case webhooks do not arrive here."""

    async def ask(tool: HostedEngine, _sandbox: Sandbox) -> list[dict[str, Any]]:
        return [await tool.call("text_to_image", {"prompt": f"fox {number}"}) for number in range(3)]

    results, transport, _gateway = play(home, ask, duration_s=12.0)

    assert [result["task"]["state"] for result in results] == ["completed"] * 3
    assert [task.polls for task in transport.sandbox.ledger.tasks.values()] == [2, 1, 1]
    assert max(lateness_s(transport)) < 0.05


def test_the_first_webhook_frees_those_begun_together_from_polls(home: Path) -> None:
    """None of them knows yet that webhooks arrive when it is begun."""

    async def ask(tool: HostedEngine, _sandbox: Sandbox) -> list[dict[str, Any]]:
        prompts = ["a fox", *(f"[slow] fox {number}" for number in range(5))]
        return list(await asyncio.gather(*(tool.call("text_to_image", {"prompt": prompt}) for prompt in prompts)))

    results, transport, _gateway = play(home, ask, duration_s=None, slow_s=13.0)

    assert [result["task"]["state"] for result in results] == ["completed"] * 6
    assert [task.polls for task in transport.sandbox.ledger.tasks.values()] == [1] * 6
    assert max(lateness_s(transport)) < 0.05


def test_a_freed_task_is_polled_when_it_is_overdue(home: Path) -> None:
    """Its own webhook may be the one that is lost."""

    async def ask(tool: HostedEngine, sandbox: Sandbox) -> list[dict[str, Any]]:
        slow = asyncio.create_task(tool.call("text_to_image", {"prompt": "[slow] fox"}))
        fast = await tool.call("text_to_image", {"prompt": "a fox"})
        sandbox.change({"callbacks": False})
        return [fast, await slow]

    results, transport, gateway = play(home, ask, duration_s=None, slow_s=13.0)

    assert [result["task"]["state"] for result in results] == ["completed"] * 2
    assert gateway.answers == [True]
    assert max(lateness_s(transport)) < WEBHOOK_PROVEN_DELAY_S - 13.0 + 0.05


def test_without_configuration_the_body_has_no_callback(home: Path) -> None:
    """The guide's arguments make exactly the guide's JSON."""
    _result, transport, gateway = play(home, one_picture, configured=False)

    assert json.loads(transport.sandbox.ledger.creates[0].body) == {"model": "flux-2-pro-text-to-image", **FOX}
    assert gateway.answers == []


def test_an_agents_own_callback_replaces_ours(home: Path) -> None:
    """Another service waits for that webhook."""
    theirs = "https://hooks.example.com/done"

    async def ask(tool: HostedEngine, _sandbox: Sandbox) -> dict[str, Any]:
        return await tool.call("text_to_image", {**FOX, "callback_url": theirs})

    result, transport, gateway = play(home, ask, settings={"callback_hosts": ["hooks.example.com"]})

    assert json.loads(transport.sandbox.ledger.creates[0].body)["callback_url"] == theirs
    assert result["task"]["state"] == "completed"
    assert gateway.answers == []
    assert lateness_s(transport)[0] < 2.0


@pytest.mark.parametrize("forgery", ["bad_signature", "stale_timestamp", "unsigned", "wrong_task"])
def test_a_forged_webhook_changes_nothing(home: Path, forgery: str) -> None:
    """It says that the task failed; it must not cost an image, or even a poll."""
    result, transport, gateway = play(home, one_picture, callback_forgery=forgery)

    assert result["task"]["state"] == "completed"
    assert gateway.answers[-1] is True
    if forgery != "wrong_task":  # well signed, but about a task that nobody waits for
        assert gateway.answers == [False, True]
    assert polls(transport) == 1


def test_a_duplicate_is_accepted_and_wakes_no_call(home: Path) -> None:
    """RunAPI may deliver an event more than once."""
    _result, transport, gateway = play(home, one_picture, callback_duplicates=3)

    assert gateway.answers == [True] * 4
    assert polls(transport) == 1


def test_an_early_webhook_does_not_end_the_task(home: Path) -> None:
    """The response to a poll decides; a webhook only says when to poll."""
    result, transport, _gateway = play(home, one_picture, callback_early=True)

    assert result["task"]["state"] == "completed"
    assert 2 <= polls(transport) <= 12


def test_two_lost_webhooks_make_it_fall_back_to_polling(home: Path) -> None:
    """A public address that does not work must not make every picture late for good."""

    async def ask(tool: HostedEngine, _sandbox: Sandbox) -> list[dict[str, Any]]:
        return [await tool.call("text_to_image", {"prompt": f"fox {number}"}) for number in range(5)]

    results, transport, _gateway = play(home, ask, callbacks=False)

    assert [result["task"]["state"] for result in results] == ["completed"] * 5
    late = lateness_s(transport)
    assert max(late) < 8.5
    assert max(late[2:]) < 2.0


def test_webhooks_are_trusted_again_once_one_arrives(home: Path) -> None:
    """The tunnel was down for a while."""

    async def ask(tool: HostedEngine, sandbox: Sandbox) -> None:
        for number in range(6):
            if number == 3:
                sandbox.change({"callbacks": True})
            await tool.call("text_to_image", {"prompt": f"fox {number}"})

    _nothing, transport, _gateway = play(home, ask, callbacks=False)

    assert max(lateness_s(transport)[4:]) < 0.05


def test_a_webhook_ahead_of_the_create_response_is_not_lost(home: Path) -> None:
    """A quick task can be over before we have read its id."""
    result, transport, gateway = play(home, one_picture, duration_s=0.0)

    assert result["task"]["state"] == "completed"
    assert True in gateway.answers
    assert polls(transport) <= 1


def test_a_webhook_ends_a_pause_asked_for_by_retry_after(home: Path) -> None:
    """The service asked for the pause before the image was ready."""
    told: list[float] = []

    def answer(request: Seen) -> Any:
        if request.method == "POST":
            return 200, {"task_id": "tsk_abc123", "status": "pending"}
        if not told:
            return json_answer({"status": "processing"}, retry_after="50")
        return 200, {"id": "tsk_abc123", "status": "completed", "images": [{"url": "https://cdn.example/a.png"}]}

    transport = MockService(answer)

    async def main() -> float:
        async with opened_tool(home, transport, callback_public_url=PUBLIC_URL, callback_secret=SECRET) as tool:
            call = asyncio.create_task(tool.call("text_to_image", FOX))
            await asyncio.sleep(12.0)
            told.append(12.0)
            assert tool.webhook(*signed_webhook("tsk_abc123", now=VirtualClock().now()))
            await call
            return asyncio.get_running_loop().time()

    assert run_virtual(main()) < 12.5


def test_a_retry_after_in_answer_to_a_webhook_is_obeyed(home: Path) -> None:
    """The webhook came before the status changed; what the service says when it is asked is newer."""

    def answer(request: Seen) -> Any:
        if request.method == "POST":
            return 200, {"task_id": "tsk_abc123", "status": "pending"}
        if request.at_s < 25.0:
            return json_answer({"id": "tsk_abc123", "status": "processing"}, retry_after="20")
        return 200, {"id": "tsk_abc123", "status": "completed", "images": [{"url": "https://cdn.example/a.png"}]}

    transport = MockService(answer)

    async def main() -> None:
        async with opened_tool(home, transport, callback_public_url=PUBLIC_URL, callback_secret=SECRET) as tool:
            call = asyncio.create_task(tool.call("text_to_image", FOX))
            await asyncio.sleep(6.0)
            assert tool.webhook(*signed_webhook("tsk_abc123", now=VirtualClock().now()))
            await call

    run_virtual(main())

    assert [poll.at_s for poll in transport.gets] == pytest.approx([6.0, 26.0], abs=0.1)


def test_a_webhook_for_another_process_task_blocks_nothing(home: Path) -> None:
    """The gateway's new worker gets it while the old one still polls; the new one only watches the record."""

    def answer(request: Seen) -> Any:
        if request.method == "POST":
            return 200, {"task_id": "tsk_abc123", "status": "pending"}
        if request.at_s < 9.0:
            return 200, {"status": "processing"}
        return 200, {"id": "tsk_abc123", "status": "completed", "images": [{"url": "https://cdn.example/a.png"}]}

    transport = MockService(answer)
    push = {"callback_public_url": PUBLIC_URL, "callback_secret": SECRET}

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, transport, **push) as old, opened_tool(home, transport, **push) as new:
            first = asyncio.create_task(old.call("text_to_image", FOX, session="s"))
            await asyncio.sleep(1.0)
            second = asyncio.create_task(new.call("text_to_image", FOX, session="s"))
            await asyncio.sleep(1.0)
            assert new.webhook(*signed_webhook("tsk_abc123", now=VirtualClock().now()))
            return list(await asyncio.gather(first, second))

    first, second = run_virtual(main())

    assert first["task"]["id"] == second["task"]["id"]
    assert (second["task"]["state"], second["task"]["joined"]) == ("completed", True)
    assert len(transport.posts) == 1


def test_other_hosts_ask_for_no_webhook(home: Path) -> None:
    """Only a gateway has a route that takes it."""
    transport = SandboxTransport()

    async def main() -> None:
        async with opened_tool(
            home, transport, host="cli", callback_public_url=PUBLIC_URL, callback_secret=SECRET
        ) as tool:
            await tool.call("text_to_image", FOX)

    run_virtual(main())

    assert "callback_url" not in json.loads(transport.sandbox.ledger.creates[0].body)


# ---- the inbox alone -------------------------------------------------------------------------------------------------


class StoppedClock(SystemClock):
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = START_S

    def now(self) -> float:
        return self.now_s


@pytest.fixture
def stopped() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def inbox(stopped: StoppedClock) -> WebhookInbox:
    return WebhookInbox(public_url=PUBLIC_URL, secret=SECRET, clock=stopped)


def test_a_webhook_that_names_no_task_is_accepted_and_wakes_none(inbox: WebhookInbox) -> None:
    """RunAPI has signed it: refused, it would only be delivered again and again."""
    headers, body = signed({"status": "completed"}, event_id="evt_1", now=START_S)

    assert inbox.receive(headers, body) is None
    assert not inbox.was_notified_of(None)


def test_events_are_forgotten_after_their_time(inbox: WebhookInbox, stopped: StoppedClock) -> None:
    """A gateway runs for months; what cannot be delivered again need not be remembered."""
    inbox.receive(*signed_webhook("tsk_old", now=stopped.now_s))
    stopped.now_s += REMEMBERED_S - 1
    inbox.receive(*signed_webhook("tsk_new", now=stopped.now_s))
    assert inbox.was_notified_of("tsk_old")

    stopped.now_s += 2
    inbox.receive(*signed_webhook("tsk_newer", now=stopped.now_s))

    assert [inbox.was_notified_of(f"tsk_{age}") for age in ("old", "new", "newer")] == [False, True, True]


def test_no_more_events_are_remembered_than_a_bound(inbox: WebhookInbox) -> None:
    """A busy account's events must not fill the memory; the oldest go first."""
    for number in range(REMEMBERED_EVENTS + 1):
        inbox.receive(*signed_webhook(f"tsk_{number}", now=START_S))

    assert not inbox.was_notified_of("tsk_0")
    assert inbox.was_notified_of("tsk_1")
    assert inbox.was_notified_of(f"tsk_{REMEMBERED_EVENTS}")
