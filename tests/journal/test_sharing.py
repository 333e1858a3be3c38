"""Deduplication end to end: which call gets which image, and when a loop is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from flux2_tool.context import CallContext
from flux2_tool.engine.wait import CancelToken
from flux2_tool.journal.lease_table import LEASE_S
from flux2_tool.sandbox import SandboxOptions
from tests.chaos.world import World
from tests.support.harness import (
    BASE_URL,
    DONE,
    FOX,
    MockService,
    SandboxTransport,
    Seen,
    credentials,
    numbered,
    opened_tool,
)
from tests.support.hosted import HostedEngine
from tests.support.journal import slow_at
from tests.support.virtual_time import run_virtual


async def ask(tool: HostedEngine, prompt: str = "a red fox", **options: Any) -> dict[str, Any]:
    """Call the tool once."""
    return await tool.call("text_to_image", {"prompt": prompt}, **options)


def ids(*results: dict[str, Any]) -> list[str]:
    """Return the tasks' ids."""
    return [result["task"]["id"] for result in results]


def test_equal_calls_of_a_session_share_the_image_until_delivered(home: Path, runapi: SandboxTransport) -> None:
    """In flight, then finished and not yet shown, then again: one image, one image, another image."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            early = await ask(tool, session="s", wait_s=1.0)
            both = await asyncio.gather(ask(tool, session="s"), ask(tool, session="s"))
            return [early, *both, await ask(tool, session="s")]

    early, one, other, later = run_virtual(main())

    assert [result["task"]["joined"] for result in (early, one, other, later)] == [False, True, True, False]
    assert ids(early) == ids(one) == ids(other) != ids(later)
    assert runapi.billed == 2


def test_only_a_call_of_the_same_session_delivers_the_image(home: Path, runapi: SandboxTransport) -> None:
    """Only an image that was delivered to the conversation may be made anew for it."""

    async def main() -> list[str]:
        async with opened_tool(home, runapi, host="cli") as tool:
            first = await ask(tool, session="s", wait_s=1.0)
            await asyncio.sleep(20.0)
            await tool.call("get_image_task", {"task_id": first["task"]["id"]}, session="t")
            joined = await ask(tool, session="s")
            return ids(first, joined, await ask(tool, session="s"))

    first, joined, third = run_virtual(main())

    assert first == joined != third


def test_defaults_spelt_out_are_the_same_request(home: Path, runapi: SandboxTransport) -> None:
    """One model names the default, the other leaves it out."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            return list(
                await asyncio.gather(
                    tool.call("text_to_image", dict(FOX), session="s"),
                    tool.call("text_to_image", {**FOX, "output_resolution": "1k"}, session="s"),
                    tool.call("text_to_image", {"model": "flux-2-pro-text-to-image", **FOX}, session="s"),
                )
            )

    assert len(set(ids(*run_virtual(main())))) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"prompt": "a red fox"}, {"prompt": "a red fox "}, id="prompts that differ in a blank"),
        pytest.param({"prompt": "a red fox"}, {"prompt": "A red fox"}, id="prompts that differ in a capital"),
        pytest.param({"session": "s"}, {"session": "t"}, id="conversations"),
        pytest.param({"credentials": credentials("sk-one")}, {"credentials": credentials("sk-two")}, id="keys"),
        pytest.param(
            {"credentials": credentials("sk-one", BASE_URL)},
            {"credentials": credentials("sk-one", "https://other.test")},
            id="addresses",
        ),
    ],
)
def test_requests_that_differ_are_never_merged(
    home: Path, runapi: SandboxTransport, one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Returning a wrong image is worse than paying twice."""

    async def main() -> list[str]:
        async with opened_tool(home, runapi) as tool:
            calls = [{"session": "s", **one}, {"session": "s", **other}]
            return ids(*await asyncio.gather(*(ask(tool, **call) for call in calls)))

    assert len(set(run_virtual(main()))) == 2


def test_two_processes_that_ask_for_one_image_at_once_get_one(home: Path, runapi: SandboxTransport) -> None:
    """The old worker and the new one, during an upgrade."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as old, opened_tool(home, runapi) as new:
            return list(await asyncio.gather(ask(old, session="s"), ask(new, session="s")))

    one, other = run_virtual(main())

    assert ids(one) == ids(other)
    assert sorted((one["task"]["joined"], other["task"]["joined"])) == [False, True]
    assert one["images"][0]["url"] == other["images"][0]["url"]
    assert len(runapi.sandbox.ledger.creates) == 1


def test_without_a_session_equal_calls_are_images_of_their_own(home: Path, runapi: SandboxTransport) -> None:
    """A script that asks for the same thing twice wants two."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi, host="cli") as tool:
            both = await asyncio.gather(ask(tool), ask(tool))
            return [*both, await ask(tool)]

    results = run_virtual(main())

    assert len(set(ids(*results))) == 3
    assert not any(result["task"]["joined"] for result in results)


def _with_pictures(path: Path, *, on_fetch: Callable[[], None] = lambda: None) -> MockService:
    """Return a service whose picture host tells of each fetch, and fails as long as there is no file at a path."""

    def answer(request: Seen) -> Any:
        if request.method == "POST":
            number = sum(seen.method == "POST" for seen in transport.seen)
            return (200, {"id": f"tsk_{number}", "status": "pending"})
        if "cdn.example" in request.url:
            on_fetch()
            is_there = path.exists()
            return httpx.Response(200, content=path.read_bytes()) if is_there else httpx.Response(503)
        return (200, {**DONE, "id": request.path.rpartition("/")[2]})

    transport = MockService(answer)
    return transport


def test_an_image_that_came_after_the_cancel_is_not_delivered(home: Path, tmp_path: Path) -> None:
    """The caller left while it was being saved: the equal call gets it and pays nothing."""
    Image.new("RGB", (8, 8)).save(tmp_path / "fox.png")
    cancel = CancelToken()
    transport = _with_pictures(tmp_path / "fox.png", on_fetch=cancel.set)

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, transport, save_dir=str(tmp_path / "kept")) as tool:
            left = await ask(tool, session="s", cancel=cancel)
            await asyncio.sleep(10.0)
            return [left, await ask(tool, session="s"), await ask(tool, session="s")]

    left, joined, later = run_virtual(main())

    assert ids(left) == ids(joined) != ids(later)
    assert joined["task"]["joined"]


def test_an_unsaved_image_is_not_delivered_to_a_host_that_needs_files(home: Path, tmp_path: Path) -> None:
    """OpenClaw's own image tool passes on bytes alone; the model that tries again must not pay again."""
    transport = _with_pictures(tmp_path / "fox.png")
    lent = tmp_path / "lent"
    lent.mkdir()

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, transport) as tool:
            caller = CallContext(session="s", source_dirs=(lent,))
            without = await ask(tool, caller=caller, output_dir=lent)
            await asyncio.sleep(10.0)
            Image.new("RGB", (8, 8)).save(tmp_path / "fox.png")
            return [without, *[await ask(tool, caller=caller, output_dir=lent) for _ in range(2)]]

    without, joined, later = run_virtual(main())

    assert without["images"][0]["path"] is None
    assert ids(without) == ids(joined) != ids(later)


@pytest.mark.parametrize("is_same_process", [True, False])
def test_without_a_session_a_call_joins_its_cancelled_predecessor(
    home: Path, runapi: SandboxTransport, is_same_process: bool
) -> None:
    """Ctrl-C, arrow up, Enter: the same command again must not pay again."""

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, runapi, host="cli") as tool:
            cancel = CancelToken()
            asyncio.get_running_loop().call_later(2.0, cancel.set)
            stopped = await ask(tool, cancel=cancel)
            if is_same_process:
                return stopped, await ask(tool)
        async with opened_tool(home, runapi, host="cli") as tool:
            return stopped, await ask(tool)

    stopped, again = run_virtual(main())

    assert stopped["error"]["task_ref"] == again["task"]["ref"]
    assert again["task"]["joined"]
    assert runapi.billed == 1


@pytest.mark.parametrize("is_received", [True, False])
@pytest.mark.parametrize("after_s", [0.0, 1.5])
def test_a_result_counts_as_delivered_if_the_host_lived_to_read_it(
    home: Path, runapi: SandboxTransport, after_s: float, is_received: bool
) -> None:
    """A worker whose host has died just after its answer: the host that is started again asks for the same picture."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as worker:
            first = await ask(worker, session="s")
            await asyncio.sleep(after_s)
            await worker.aclose(delivered=is_received)
        async with opened_tool(home, runapi) as worker:
            return [first, await ask(worker, session="s")]

    first, again = run_virtual(main())

    assert again["task"]["joined"] is not is_received
    assert (ids(first) == ids(again)) is not is_received


@pytest.mark.parametrize(
    ("tool", "arguments", "session"),
    [
        pytest.param("get_image_task", {"task_id": "last"}, "t", id="another session's last picture"),
        pytest.param("text_to_image", {"prompt": "another picture"}, "s", id="another picture of the session"),
        pytest.param("text_to_image", {"prompt": "a red fox"}, "t", id="the same picture for another session"),
    ],
)
def test_only_who_asks_for_it_again_shows_that_a_result_arrived(
    home: Path, runapi: SandboxTransport, tool: str, arguments: dict[str, Any], session: str
) -> None:
    """Any other call goes on while the first one's host dies with its answer unread."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as worker:
            first = await ask(worker, session="s")
            await worker.call(tool, arguments, session=session, wait_s=0.0)
            await worker.aclose(delivered=False)
        async with opened_tool(home, runapi) as worker:
            return [first, await ask(worker, session="s")]

    first, again = run_virtual(main())

    assert ids(first) == ids(again)


def test_of_several_results_only_what_was_read_is_delivered(home: Path, runapi: SandboxTransport) -> None:
    """A host that reads one answer and dies with the other in the pipe asks again for that one."""

    async def main() -> list[tuple[str, str]]:
        async with opened_tool(home, runapi) as worker:
            first = await asyncio.gather(ask(worker, session="s"), ask(worker, "a blue fox", session="s"))
            worker.engine.received([first[1]["task"]["id"]])
            await worker.aclose(delivered=False)
        async with opened_tool(home, runapi) as worker:
            again = [await ask(worker, prompt, session="s") for prompt in ("a red fox", "a blue fox")]
            return list(zip(ids(*first), ids(*again), strict=True))

    unread, read = run_virtual(main())

    assert unread[0] == unread[1]
    assert read[0] != read[1]


def test_where_the_host_tells_nothing_else_is_a_sign_of_delivery(home: Path, runapi: SandboxTransport) -> None:
    """Over HTTP an answer may be under way for long, and calls come at once: only its end says who has it."""

    async def main() -> list[str]:
        async with opened_tool(home, runapi, host="mcp-http") as server:
            first = await ask(server, session="s")
            await asyncio.sleep(60.0)
            under_way = await ask(server, session="s")
            server.engine.lost(ids(first))
            lost = await ask(server, session="s")
            server.engine.received(ids(first))
            return ids(first, under_way, lost, await ask(server, session="s"))

    first, under_way, lost, received = run_virtual(main())

    assert first == under_way == lost
    assert received != first
    assert runapi.billed == 2


def test_closing_a_tool_releases_its_own_tasks_only(home: Path, runapi: SandboxTransport) -> None:
    """A script may open a second tool beside the first for one call, and close it."""

    async def main() -> list[str]:
        async with opened_tool(home, runapi, host="cli") as lasting:
            first = asyncio.ensure_future(ask(lasting))
            await asyncio.sleep(2.0)
            async with opened_tool(home, runapi, host="cli") as passing:
                await ask(passing, "another picture", wait_s=0.0)
            async with opened_tool(home, runapi, host="cli") as later:
                second = await ask(later)
            return ids(await first, second)

    assert len(set(run_virtual(main()))) == 2


def test_new_makes_a_new_image_whatever_came_before(home: Path, runapi: SandboxTransport) -> None:
    """Also in a session, also while an equal one is in flight."""

    async def main() -> list[str]:
        async with opened_tool(home, runapi, host="cli") as tool:
            both = await asyncio.gather(ask(tool, session="s"), ask(tool, session="s", new=True))
            return ids(*both, await ask(tool, session="s", new=True))

    assert len(set(run_virtual(main()))) == 3


# ---- the guard -------------------------------------------------------------------------------------------------------


def test_an_agent_repeating_a_call_fifty_times_gets_four_images(home: Path, runapi: SandboxTransport) -> None:
    """No host guard stopped a model that did this two thousand times."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            return [await ask(tool, session="s") for _ in range(50)]

    results = run_virtual(main())
    made, refused = results[:4], results[4:]

    assert len(set(ids(*made))) == 4
    assert {result["error"]["code"] for result in refused} == {"repeated_request"}
    assert all(ref in refused[0]["error"]["message"] for ref in (result["task"]["ref"] for result in made))
    assert "Show the images" in refused[0]["error"]["hint"]
    assert (refused[0]["error"]["retryable"], refused[0]["error"]["charged"]) == (False, "no")
    assert len(runapi.sandbox.ledger.creates) == 4


def test_the_repeat_limit_and_its_window_can_be_set(home: Path, runapi: SandboxTransport) -> None:
    """Tomorrow the user may want another four foxes."""

    async def main() -> list[bool]:
        async with opened_tool(home, runapi, repeat_max=2, repeat_window_s=100.0) as tool:
            results = [await ask(tool, session="s") for _ in range(3)]
            other = await ask(tool, "another picture", session="s")
            elsewhere = await ask(tool, session="t")
            await asyncio.sleep(101.0)
            results += [other, elsewhere, await ask(tool, session="s")]
            return ["task" in result for result in results]

    assert run_virtual(main()) == [True, True, False, True, True, True]


def test_joins_do_not_count_as_repeats(home: Path, runapi: SandboxTransport) -> None:
    """A host that calls again and again while one image is being made pays once and is not refused."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            return await asyncio.gather(*(ask(tool, session="s") for _ in range(20)))

    results = run_virtual(main())

    assert len(set(ids(*results))) == 1
    assert runapi.billed == 1


def test_people_and_scripts_may_repeat_without_limit(home: Path, runapi: SandboxTransport) -> None:
    """The guard is for agents."""

    async def main() -> list[str]:
        async with opened_tool(home, runapi, host="cli") as tool:
            return ids(*[await ask(tool, session="s") for _ in range(7)])

    assert len(set(run_virtual(main()))) == 7


def test_failed_images_count_as_repeats(home: Path, runapi: SandboxTransport) -> None:
    """A model that repeats a failing request is stopped too; the hint names no image to show."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            return [(await ask(tool, "a fox [fail]", session="s"))["error"] for _ in range(6)]

    errors = run_virtual(main())

    assert [error["code"] for error in errors] == ["generation_failed"] * 4 + ["repeated_request"] * 2
    assert "4 failed" in errors[-1]["message"]
    assert "task:" not in errors[-1]["message"]
    assert "ask for other words" in errors[-1]["hint"]
    assert "Show" not in errors[-1]["hint"]


def test_the_repeat_error_names_images_and_counts_failures(home: Path, runapi: SandboxTransport) -> None:
    """What failed cannot be shown."""
    runapi.fault("failed", times=2)

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            return [await ask(tool, session="s") for _ in range(5)]

    *_, third, fourth, refused = run_virtual(main())

    said = f"{third['task']['ref']}, {fourth['task']['ref']}, 2 failed"
    assert said in refused["error"]["message"]
    assert "Show the images" in refused["error"]["hint"]


# ---- the last picture ------------------------------------------------------------------------------------------------


def test_an_edit_repeated_after_its_wait_joins_the_first(home: Path, runapi: SandboxTransport) -> None:
    """Its result arrived in the background: it is joined, and does not become its own source."""
    edit = {"prompt": "make it night", "source_image_urls": ["task:last"]}

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            first = await ask(tool, session="s")
            begun = await tool.call("remix_image", edit, session="s", wait_s=1.0)
            await asyncio.sleep(60.0)
            again = await tool.call("remix_image", edit, session="s")
            return [first, begun, again, await tool.call("remix_image", edit, session="s")]

    first, begun, again, later = run_virtual(main())
    sources = [create.body for create in runapi.sandbox.ledger.creates[1:]]

    assert begun["task"]["state"] == "processing"
    assert ids(begun) == ids(again) != ids(later)
    assert again["task"]["joined"]
    assert first["images"][0]["url"].encode() in sources[0]
    assert again["images"][0]["url"].encode() in sources[1]
    assert len(sources) == 2


def test_the_last_image_is_an_undelivered_one_if_there_is_no_other(home: Path, runapi: SandboxTransport) -> None:
    """Better than "there is none"; and whoever asks for the last task wants the newest in any case."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            begun = await ask(tool, session="s", wait_s=1.0)
            await asyncio.sleep(60.0)
            edit = {"prompt": "make it night", "source_image_urls": ["task:last"]}
            made = await tool.call("remix_image", edit, session="s", wait_s=1.0)
            await asyncio.sleep(60.0)
            return [begun, made, await tool.call("get_image_task", {"task_id": "last"}, session="s")]

    begun, made, last = run_virtual(main())

    assert made["task"]["state"] == "processing"
    assert ids(begun) != ids(made) == ids(last)


# ---- what other processes have left ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("after_s", "is_resumed"), [(10.0, False), (40.0, True)])
def test_what_others_left_is_looked_for_every_half_minute(home: Path, after_s: float, is_resumed: bool) -> None:
    """Each call of an agent is an occasion, and a busy one must not read the whole journal every time."""
    transport = numbered({"status": "processing"})

    async def main() -> list[str]:
        async with opened_tool(home, transport) as lasting:
            await ask(lasting, "one", session="s", wait_s=0.0)
            async with opened_tool(home, transport) as passing:
                await ask(passing, "left", session="s", wait_s=0.0)
            await asyncio.sleep(after_s)
            await ask(lasting, "two", session="s", wait_s=0.0)
            begun_s = asyncio.get_running_loop().time()
            await asyncio.sleep(15.0)
            return [poll.path.rpartition("/")[2] for poll in transport.gets if poll.at_s >= begun_s]

    assert ("tsk_2" in run_virtual(main())) is is_resumed


def test_who_follows_an_image_keeps_it_however_long_it_takes(home: Path) -> None:
    """Its lease is renewed: another process would poll it a second time, and both could write its end."""
    transport = numbered({"status": "processing"})

    async def main() -> tuple[int, int]:
        async with opened_tool(home, transport, host="cli") as first, opened_tool(home, transport, host="cli") as other:
            call = asyncio.ensure_future(ask(first, session="s", wait_s=200.0))
            await asyncio.sleep(4.0 * LEASE_S)
            resumed = await other.resume(wait_s=0.0)
            await call
            return len(resumed), len(transport.posts)

    assert run_virtual(main()) == (0, 1)


def test_an_image_of_a_dead_connection_belongs_to_who_asks_for_it_again(home: Path) -> None:
    """This process had resumed it before: what it knows of the image must move to the new conversation, too."""
    options = SandboxOptions(duration_s=6.0, drawn_images=False, seed=1)

    async def main() -> list[Any]:
        world = World(home, options=options)
        died, lives = world.open("mcp"), world.open("mcp")
        fox, parrot = (world.wish(prompt, session=None, host="mcp") for prompt in ("a red fox", "a parrot"))
        left = await world.ask(died, fox, wait_s=1.0)
        world.kill(died)
        await world.ask(lives, parrot, wait_s=30.0)
        await asyncio.sleep(30.0)
        made = [await world.ask(lives, fox, wait_s=30.0)]
        await asyncio.sleep(30.0)
        return [left, *made, await world.ask(lives, fox, wait_s=30.0)]

    left, joined, later = run_virtual(main())

    assert ids(left) == ids(joined) != ids(later)
    assert [result["task"]["joined"] for result in (joined, later)] == [True, False]


# ---- calls that wait for each other ----------------------------------------------------------------------------------


def test_a_call_waits_for_other_claims_no_longer_than_it_may(home: Path) -> None:
    """A disk that hangs holds up all of them; the host gives up on who does not answer in time."""
    transport = numbered()

    async def main() -> tuple[dict[str, Any], float]:
        async with opened_tool(home, transport, opener=slow_at("claim", seconds=300.0)) as tool:
            await asyncio.sleep(1000.0)
            first = asyncio.ensure_future(ask(tool, "one", session="s", wait_s=400.0))
            await asyncio.sleep(1.0)
            begun_s = asyncio.get_running_loop().time()
            second = await ask(tool, "two", session="s", wait_s=20.0)
            took_s = asyncio.get_running_loop().time() - begun_s
            await first
            return second, took_s

    second, took_s = run_virtual(main())

    assert (second["error"]["code"], second["error"]["charged"]) == ("journal_unavailable", "no")
    assert took_s == pytest.approx(20.0, abs=0.5)
