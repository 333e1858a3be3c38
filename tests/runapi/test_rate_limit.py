"""Rate limits: a 429 delays all calls of the account in order, and create POSTs in flight are bounded."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flux2_tool._clock import Clock
from flux2_tool.engine.wait import CancelToken, Progress
from flux2_tool.journal import ThisProcess, open_journal
from flux2_tool.runapi.rate_limit import RateLimiter
from tests.support.harness import CREATED, DONE, MockService, Seen, credentials, json_answer, opened_tool
from tests.support.virtual_time import VirtualClock, run_virtual

OTHER_KEY = "sk-another-key-0123456789"


def service(
    refuse: Callable[[Seen, int], Any] = lambda _request, _number: None, *, delay_s: float = 0.0
) -> MockService:
    """Return a mock service with one task an idempotency key, ready at its second poll; `refuse` may answer instead."""
    polls: dict[str, int] = {}
    seen: list[Seen] = []

    def answer(request: Seen) -> Any:
        seen.append(request)
        refusal = refuse(request, len(seen))
        if refusal is not None:
            return refusal
        if request.method == "POST":
            return 200, {**CREATED, "task_id": f"tsk_{request.headers['idempotency-key']}"}
        polls[request.path] = polls.get(request.path, 0) + 1
        done = polls[request.path] > 1
        return 200, {**DONE, "id": request.path.rpartition("/")[2]} if done else {"status": "processing"}

    return MockService(answer, delay_s=delay_s)


async def ask(tool: Any, number: int, **options: Any) -> dict[str, Any]:
    """Ask for a picture of its own."""
    result: dict[str, Any] = await tool.call("text_to_image", {"prompt": f"fox number {number}"}, **options)
    return result


# ---- after a 429 -----------------------------------------------------------------------------------------------------


def test_a_429_delays_every_call_of_the_key_and_keeps_their_order(home: Path) -> None:
    """The limit is the account's; calls that retried together would hit it again."""

    def refuse(request: Seen, number: int) -> Any:
        return json_answer({"error": "slow down"}, 429, retry_after="5") if number == 1 else None

    transport = service(refuse)

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, transport, max_creates=100) as tool:
            first = asyncio.create_task(ask(tool, 0))
            await asyncio.sleep(1.0)
            rest = [asyncio.create_task(ask(tool, number)) for number in range(1, 10)]
            return await asyncio.gather(first, *rest)

    results = run_virtual(main())

    assert [result["task"]["state"] for result in results] == ["completed"] * 10
    later = transport.seen[1:]
    assert all(request.at_s >= 5.0 for request in later), "nothing before RunAPI takes requests again"
    prompts = [request.body.decode() for request in transport.posts[1:]]
    order = [prompt.split("number ")[1].split('"')[0] for prompt in prompts if "number 0" not in prompt]
    assert order == [str(number) for number in range(1, 10)]
    at_s = [request.at_s for request in later]
    assert sum(second - first < 0.01 for first, second in itertools.pairwise(at_s)) <= len(at_s) // 2
    assert max(at_s[:6]) - at_s[0] > 0.2, "not all at once"


def test_another_key_is_not_delayed(home: Path) -> None:
    """One person's burst must not slow somebody else's account."""

    def refuse(request: Seen, _number: int) -> Any:
        is_first = request.headers["authorization"].endswith(OTHER_KEY) and request.at_s < 5.0
        return json_answer({"error": "slow down"}, 429, retry_after="5") if is_first else None

    transport = service(refuse)

    async def main() -> float:
        async with opened_tool(home, transport) as tool:
            slowed = asyncio.create_task(ask(tool, 0, credentials=credentials(OTHER_KEY)))
            await asyncio.sleep(0.5)
            begun_s = asyncio.get_running_loop().time()
            await ask(tool, 1)
            took_s = asyncio.get_running_loop().time() - begun_s
            await slowed
            return took_s

    assert run_virtual(main()) < 4.0


def test_a_429_on_a_poll_slows_the_next_create_too(home: Path) -> None:
    """Polls and creates count against one limit."""

    def refuse(request: Seen, _number: int) -> Any:
        is_poll = request.method == "GET" and request.at_s < 4.0
        return json_answer({"error": "slow down"}, 429, retry_after="4") if is_poll else None

    transport = service(refuse)

    async def main() -> None:
        async with opened_tool(home, transport) as tool:
            first = asyncio.create_task(ask(tool, 0))
            await asyncio.sleep(1.5)
            await ask(tool, 1)
            await first

    run_virtual(main())

    refused_s = transport.gets[0].at_s
    assert transport.posts[1].at_s >= refused_s + 4.0


def test_the_spacing_ends_once_requests_succeed_again() -> None:
    """A limit met once must not slow an account for good."""

    async def main() -> tuple[float, bool]:
        clock: Clock = VirtualClock()
        pace = RateLimiter(clock)
        pace.record_response(is_rate_limited=True, sent_at_s=await pace.acquire(), retry_after_s=1.0)
        for _ in range(20):
            pace.record_response(is_rate_limited=False, sent_at_s=await pace.acquire())
        return clock.monotonic(), pace.is_slowed

    took_s, is_slowed = run_virtual(main())

    assert 1.0 <= took_s < 2.0
    assert not is_slowed


def test_each_refusal_without_a_time_doubles_the_pause() -> None:
    """Nothing is sent before the caller that was refused tries again, however many wait."""

    async def main() -> list[float]:
        limiter, clock = RateLimiter(VirtualClock()), VirtualClock()
        pauses = []
        sent_at_s = await limiter.acquire()
        for _ in range(8):
            limiter.record_response(is_rate_limited=True, sent_at_s=sent_at_s)
            before_s = clock.monotonic()
            sent_at_s = await limiter.acquire()
            pauses.append(sent_at_s - before_s)
        return pauses

    assert run_virtual(main()) == pytest.approx([0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0])


def test_a_retry_after_of_a_day_fails_the_call_at_once(home: Path) -> None:
    """A call that cannot wait that long fails at once."""
    transport = service(lambda _request, _number: json_answer({"error": "no"}, 429, retry_after="86400"))

    async def main() -> tuple[dict[str, Any], float]:
        async with opened_tool(home, transport) as tool:
            result = await ask(tool, 0)
            return result, asyncio.get_running_loop().time()

    result, took_s = run_virtual(main())

    assert result["error"]["code"] == "rate_limited"
    assert result["error"]["charged"] == "no"
    assert took_s < 1.0


# ---- places for creates ----------------------------------------------------------------------------------------------


def test_creates_beyond_max_creates_wait_and_report_it(home: Path) -> None:
    """A burst of requests must not hit the rate limit, which would delay all other calls."""
    transport = service(delay_s=2.0)
    told: list[str] = []

    def on_progress(progress: Progress) -> None:
        told.append(progress.message)

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, transport, max_creates=2) as tool:
            return await asyncio.gather(*(ask(tool, number, on_progress=on_progress) for number in range(6)))

    results = run_virtual(main())

    assert [result["task"]["state"] for result in results] == ["completed"] * 6
    begun = sorted(request.at_s for request in transport.posts)
    assert begun == [0.0, 0.0, 2.0, 2.0, 4.0, 4.0]
    assert told.count("waiting for a turn: other images are being requested") == 4


def test_polls_take_no_create_slot(home: Path) -> None:
    """A finished image must not wait until other images were requested."""
    transport = service(delay_s=1.0)

    async def main() -> None:
        async with opened_tool(home, transport, max_creates=1) as tool:
            await asyncio.gather(*(ask(tool, number) for number in range(3)))

    run_virtual(main())

    first_poll, last_post = transport.gets[0].at_s, transport.posts[-1].at_s
    assert first_poll < last_post + 1.0


# ---- giving up before anything was sent ------------------------------------------------------------------------------


def states(home: Path) -> list[str]:
    """Return the states of all records."""
    journal = open_journal(home, owner=ThisProcess(), now=0.0)
    try:
        return [record.state for record in journal.records()]
    finally:
        journal.close()


def _always_429(_request: Seen, _number: int) -> Any:
    return json_answer({"error": "slow down"}, 429, retry_after="3")


@pytest.mark.parametrize(
    ("transport", "max_creates"),
    [
        pytest.param(lambda: service(_always_429), 8, id="in the back-off after a 429"),
        pytest.param(lambda: service(delay_s=30.0), 1, id="in the queue"),
    ],
)
def test_a_call_stopped_before_its_post_is_never_sent(
    home: Path, transport: Callable[[], MockService], max_creates: int
) -> None:
    """The user pressed stop; paying for the picture some seconds later is a surprise."""
    running, cancel = transport(), CancelToken()

    async def main() -> dict[str, Any]:
        async with opened_tool(home, running, max_creates=max_creates) as tool:
            other = asyncio.create_task(ask(tool, 0, wait_s=10.0))
            await asyncio.sleep(0.2)
            stopped = asyncio.create_task(ask(tool, 1, cancel=cancel))
            await asyncio.sleep(0.5)
            cancel.set()
            result = await stopped
            await other
            await asyncio.sleep(120.0)
            return result

    result = run_virtual(main())

    assert result["error"]["code"] == "cancelled"
    assert result["error"]["charged"] == "no"
    assert not any("number 1" in post.body.decode() for post in running.posts[1:] if post.at_s > 0.8)
    assert "not_created" in states(home)


@pytest.mark.transport_only("over sockets the read timeout of 30 s ends the attempt first")
def test_a_wait_that_ends_in_the_queue_is_not_charged(home: Path) -> None:
    """After "may have been accepted" a user would not dare to ask again."""
    transport = service(delay_s=40.0)

    async def main() -> dict[str, Any]:
        async with opened_tool(home, transport, max_creates=1) as tool:
            first = asyncio.create_task(ask(tool, 0))
            await asyncio.sleep(0.1)
            late = await ask(tool, 1, wait_s=5.0)
            await first
            return late

    late = run_virtual(main())

    assert late["error"]["code"] == "rate_limited"
    assert late["error"]["charged"] == "no"
    assert "Nothing was sent" in late["error"]["message"]
    assert len(transport.posts) == 1
    assert "not_created" in states(home)


def test_an_equal_call_keeps_a_queued_request_alive(home: Path) -> None:
    """One of two people who want the same picture may leave."""
    transport, cancel = service(delay_s=3.0), CancelToken()

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, transport, max_creates=1) as tool:
            first = asyncio.create_task(ask(tool, 0))
            await asyncio.sleep(0.1)
            stopped = asyncio.create_task(ask(tool, 1, session="s", cancel=cancel))
            await asyncio.sleep(0.1)
            kept = asyncio.create_task(ask(tool, 1, session="s"))
            await asyncio.sleep(0.1)
            cancel.set()
            await first
            return await stopped, await kept

    stopped, kept = run_virtual(main())

    assert stopped["error"]["charged"] == "unknown", "the other call will have it made"
    assert kept["task"]["state"] == "completed"
    assert len(transport.posts) == 2


def test_an_equal_call_right_after_a_stop_gets_its_image(home: Path) -> None:
    """A user who presses stop and asks again must not be answered with the stop."""
    transport = service(delay_s=3.0)

    async def main() -> list[dict[str, Any]]:
        results = []
        async with opened_tool(home, transport, max_creates=1) as tool:
            first = asyncio.create_task(ask(tool, 0))
            await asyncio.sleep(0.1)
            for ticks in range(6):
                cancel = CancelToken()
                stopped = asyncio.create_task(ask(tool, 10 + ticks, session="s", cancel=cancel))
                await asyncio.sleep(0.1)
                cancel.set()
                for _ in range(ticks):
                    await asyncio.sleep(0)
                results.append(await ask(tool, 10 + ticks, session="s"))
                await stopped
            await first
        return results

    assert [result["task"]["state"] for result in run_virtual(main())] == ["completed"] * 6


def test_a_call_stopped_before_its_post_is_not_sent_by_another_process(home: Path) -> None:
    """A command that was stopped in its back-off must not cost money when the gateway's next call comes."""

    async def stopped() -> None:
        cancel = CancelToken()
        async with opened_tool(home, service(_always_429), host="cli") as tool:
            call = asyncio.create_task(ask(tool, 0, cancel=cancel))
            await asyncio.sleep(0.5)
            cancel.set()
            await call

    transport = service()

    async def later() -> None:
        async with opened_tool(home, transport) as tool:
            await ask(tool, 1)

    run_virtual(stopped())
    run_virtual(later())

    assert [post for post in transport.posts if "number 0" in post.body.decode()] == []
