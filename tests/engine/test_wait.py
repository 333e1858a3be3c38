"""One call's wait: its deadline, the host that stops it, and asking again later."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux2_tool.engine.wait import CancelToken, Progress
from flux2_tool.sandbox import SandboxOptions
from tests.chaos.world import records_of
from tests.support.harness import (
    CREATED,
    DONE,
    FOX,
    PICTURE_URL,
    Answer,
    MockService,
    SandboxTransport,
    Seen,
    json_answer,
    numbered,
    opened_tool,
    run_call,
    scripted,
)
from tests.support.virtual_time import run_virtual

PENDING = {"id": "tsk_abc123", "status": "processing"}


def _now_s() -> float:
    return asyncio.get_running_loop().time()


# ---- the deadline ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "wait_s"), [("native", 80.0), ("mcp", 50.0), ("cli", 900.0)])
def test_each_host_waits_as_long_as_it_can(home: Path, host: str, wait_s: float) -> None:
    """OpenClaw's turn, an MCP client and a terminal have different patience."""

    async def main() -> tuple[dict[str, Any], float]:
        async with opened_tool(home, scripted(gets=[(200, PENDING)]), host=host) as tool:
            return await tool.call("text_to_image", FOX), _now_s()

    result, took_s = run_virtual(main())

    assert result["task"]["state"] == "processing"
    assert took_s == pytest.approx(wait_s, abs=0.1)


def test_the_argument_wins_over_the_calls_wait_and_that_over_the_setting(home: Path) -> None:
    """Order of settings: call argument, plugin config, environment, host default."""

    async def main() -> list[float]:
        async with opened_tool(home, numbered(PENDING), wait_s=30) as tool:
            marks = [_now_s()]
            await tool.call("text_to_image", FOX)
            marks.append(_now_s())
            await tool.call("text_to_image", {"prompt": "another fox"}, wait_s=10.0)
            marks.append(_now_s())
            await tool.call("get_image_task", {"task_id": "tsk_1", "timeoutSeconds": 5}, wait_s=10.0)
            marks.append(_now_s())
            return [after - before for before, after in pairwise(marks)]

    assert run_virtual(main()) == pytest.approx([30.0, 10.0, 5.0], abs=0.2)


def test_processing_says_what_to_do_and_not_to_pay_again(home: Path, runapi: SandboxTransport) -> None:
    """A model that only sees "not ready" generates again, and pays again."""
    result = run_call(home, runapi, arguments={"prompt": "a fox [slow]"}, wait_s=20)

    assert result["task"]["state"] == "processing"
    assert result["task"]["ref"] == f"task:{result['task']['id']}"
    assert "get_image_task" in result["next"]
    assert result["task"]["id"] in result["next"]
    assert "Do not generate it again" in result["next"]
    assert "it cannot be cancelled, and is charged when it is done" in result["next"]
    assert result["images"] == []
    assert result["timing"]["finished_at"] is None
    assert result["timing"]["polls"] > 5
    assert len(runapi.sandbox.ledger.creates) == 1


def test_no_wait_at_all_still_sends_the_request_and_names_the_task(home: Path, runapi: SandboxTransport) -> None:
    """Wait 0 means "start it": the reference is what the caller needs."""
    result = run_call(home, runapi, wait_s=0)

    assert result["task"]["state"] == "processing"
    assert result["task"]["id"].startswith("tsk_")
    assert len(runapi.sandbox.ledger.creates) == 1


def test_a_wait_that_ends_during_the_post_gets_its_answer_a_little_later(home: Path) -> None:
    """Without the answer there would be no task to name."""
    transport = scripted(gets=[(200, PENDING)])
    transport.delay_s = 4.0
    result = run_call(home, transport, wait_s=1)

    assert result["task"]["id"] == "tsk_abc123"
    assert result["task"]["state"] == "processing"


def test_a_post_without_any_answer_ends_the_wait_honestly(home: Path) -> None:
    """Neither "nothing happened" nor "it is being made" is known."""
    transport = scripted()
    transport.delay_s = 40.0

    async def main() -> tuple[dict[str, Any], float]:
        async with opened_tool(home, transport) as tool:
            return await tool.call("text_to_image", FOX, wait_s=10), _now_s()

    result, took_s = run_virtual(main())

    assert result["error"]["code"] == "service_unavailable"
    assert result["error"]["charged"] == "unknown"
    assert result["error"]["retryable"] is True
    assert took_s < 20.0


def test_the_equal_call_after_such_an_end_gets_that_very_task(home: Path) -> None:
    """ "Call again with exactly the same arguments" must not pay twice."""
    transport = scripted()
    transport.delay_s = 30.0

    async def main() -> dict[str, Any]:
        async with opened_tool(home, transport) as tool:
            await tool.call("text_to_image", FOX, wait_s=1)
            transport.delay_s = 0.0
            return await tool.call("text_to_image", FOX)

    result = run_virtual(main())

    assert result["task"]["state"] == "completed"
    assert result["task"]["joined"] is True
    assert len({post.headers["idempotency-key"] for post in transport.posts}) == 1


# ---- progress --------------------------------------------------------------------------------------------------------


def test_progress_tells_every_stage_and_keeps_talking(home: Path, runapi: SandboxTransport) -> None:
    """People who wait want to see that something happens."""
    told: list[Progress] = []
    run_call(home, runapi, arguments={"prompt": "a fox [slow]"}, on_progress=told.append, wait_s=200)
    gaps = [after.elapsed_s - before.elapsed_s for before, after in pairwise(told)]

    assert told[0].state == "submitting"
    assert {"submitting", "processing"} <= {progress.state for progress in told}
    assert told[-1].task_id is not None
    assert max(gaps) <= 5.5
    assert all(progress.message for progress in told)


def test_progress_is_not_told_at_every_poll(home: Path, runapi: SandboxTransport) -> None:
    """A chat channel that edits its message every second gets rate-limited."""
    told: list[Progress] = []
    run_call(home, runapi, arguments={"prompt": "a fox [slow]"}, on_progress=told.append, wait_s=100)

    assert len(told) <= 30


def test_a_repeated_attempt_is_told(home: Path) -> None:
    """Else a long back-off looks like a hang."""
    told: list[Progress] = []
    transport = scripted([(503, {}), (503, {}), (200, CREATED)])
    transport.delay_s = 0.2
    run_call(home, transport, on_progress=told.append)

    assert "attempt 3" in " ".join(progress.message for progress in told)
    assert max(progress.attempt for progress in told) == 3


def test_a_progress_display_that_breaks_does_not_break_the_call(home: Path) -> None:
    """The image is paid for; a closed terminal must not turn it into an error."""

    def broken(_progress: Progress) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    result = run_call(home, scripted(), on_progress=broken)

    assert result["task"]["state"] == "completed"


# ---- cancel ----------------------------------------------------------------------------------------------------------


def test_an_abort_before_anything_was_sent_sends_nothing(home: Path) -> None:
    """Nothing was charged, and the answer can say so."""
    cancel = CancelToken()
    cancel.set()
    transport = scripted()
    error = run_call(home, transport, cancel=cancel)["error"]

    assert (error["code"], error["charged"]) == ("cancelled", "no")
    assert transport.seen == []


def test_an_abort_while_the_price_is_asked_for_sends_nothing(home: Path) -> None:
    """Nobody published max's price, so it is asked for first; whoever leaves meanwhile must not pay."""
    transport = MockService(
        lambda request: (200, {}) if "price" in request.path else (200, CREATED), delay_s=1.0, has_prices=True
    )
    cancel = CancelToken()
    arguments = {**FOX, "model": "flux-2-max-text-to-image", "aspect_ratio": "1:1"}

    async def main() -> dict[str, Any]:
        async with opened_tool(home, transport, tiers=["pro", "max"]) as tool:
            asyncio.get_running_loop().call_later(0.5, cancel.set)
            error = await tool.call("text_to_image", arguments, cancel=cancel)
            await asyncio.sleep(30.0)
            return error

    error = run_virtual(main())["error"]

    assert (error["code"], error["charged"]) == ("cancelled", "no")
    assert transport.seen
    assert all("price" in request.path for request in transport.seen)


def test_an_abort_during_the_post_answers_at_once_and_never_cuts_the_post(home: Path) -> None:
    """A cut POST is the one that is paid and lost."""
    transport = scripted()
    transport.delay_s = 5.0

    async def main() -> tuple[dict[str, Any], float, dict[str, Any]]:
        cancel = CancelToken()
        async with opened_tool(home, transport) as tool:
            call = asyncio.ensure_future(tool.call("text_to_image", FOX, cancel=cancel))
            await asyncio.sleep(1.0)
            cancel.set()
            cancelled, at_s = await call, _now_s()
            await asyncio.sleep(10.0)
            return cancelled, at_s, await tool.call("text_to_image", FOX)

    cancelled, at_s, again = run_virtual(main())
    error = cancelled["error"]

    assert (error["code"], error["charged"], error["retryable"]) == ("cancelled", "unknown", False)
    assert at_s < 1.1
    assert again["task"]["state"] == "completed"
    assert again["task"]["joined"] is True
    assert len(transport.posts) == 1


def test_an_abort_after_the_post_names_the_task_that_goes_on(home: Path, runapi: SandboxTransport) -> None:
    """RunAPI has no cancel: the picture will be made and charged, so it must be reachable."""

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        cancel = CancelToken()
        async with opened_tool(home, runapi) as tool:
            call = asyncio.ensure_future(tool.call("text_to_image", FOX, cancel=cancel))
            await asyncio.sleep(3.0)
            cancel.set()
            error = (await call)["error"]
            await asyncio.sleep(30.0)
            return error, await tool.call("get_image_task", {"task_id": error["task_ref"], "timeoutSeconds": 0})

    error, later = run_virtual(main())

    assert (error["code"], error["charged"]) == ("cancelled", "unknown")
    assert "get_image_task" in error["hint"]
    assert later["task"]["state"] == "completed"
    assert later["cost"] == {"usd": 0.05, "basis": "billed"}
    assert runapi.billed == 1


def test_one_calls_abort_leaves_others_that_wait_for_the_same_task_alone(home: Path, runapi: SandboxTransport) -> None:
    """Two calls may share one task."""

    async def main() -> list[dict[str, Any]]:
        cancel = CancelToken()
        async with opened_tool(home, runapi) as tool:
            first = asyncio.ensure_future(tool.call("text_to_image", FOX, cancel=cancel, session="s"))
            second = asyncio.ensure_future(tool.call("text_to_image", FOX, session="s"))
            await asyncio.sleep(2.0)
            cancel.set()
            return [await first, await second]

    first, second = run_virtual(main())

    assert first["error"]["code"] == "cancelled"
    assert second["task"]["state"] == "completed"
    assert runapi.billed == 1


def test_a_host_that_cancels_the_coroutine_does_not_cut_the_task_either(home: Path, runapi: SandboxTransport) -> None:
    """asyncio's own cancellation is a stop of the wait, like any other."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            call = asyncio.ensure_future(tool.call("text_to_image", FOX, session="s"))
            await asyncio.sleep(0.001)
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
            await asyncio.sleep(20.0)
            return await tool.call("text_to_image", FOX, session="s")

    result = run_virtual(main())

    assert result["task"]["state"] == "completed"
    assert len(runapi.sandbox.ledger.tasks) == 1


# ---- asking again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "task:"])
def test_a_task_left_processing_is_fetched_later(home: Path, runapi: SandboxTransport, prefix: str) -> None:
    """The promise of `next`."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            first = await tool.call("text_to_image", FOX, wait_s=2)
            return await tool.call("get_image_task", {"task_id": prefix + first["task"]["id"]})

    result = run_virtual(main())

    assert result["task"]["state"] == "completed"
    assert result["task"]["tool"] == "text_to_image"
    assert len(runapi.sandbox.ledger.creates) == 1


def test_a_look_without_waiting_really_looks(home: Path, runapi: SandboxTransport) -> None:
    """timeoutSeconds 0 "only looks": an answer from before the last look would be stale for ever."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            first = await tool.call("text_to_image", FOX, wait_s=5)
            await asyncio.sleep(1.5)
            return await tool.call("get_image_task", {"task_id": first["task"]["id"], "timeoutSeconds": 0})

    assert run_virtual(main())["task"]["state"] == "completed"


def test_a_look_at_a_running_task_costs_one_question(home: Path) -> None:
    """A model may look often."""
    transport = scripted(gets=[(200, PENDING)])

    async def main() -> tuple[dict[str, Any], float, int]:
        async with opened_tool(home, transport) as tool:
            first = await tool.call("text_to_image", FOX, wait_s=5)
            asked, begun_s = len(transport.gets), _now_s()
            result = await tool.call("get_image_task", {"task_id": first["task"]["id"], "timeoutSeconds": 0})
            return result, _now_s() - begun_s, len(transport.gets) - asked

    result, took_s, asked = run_virtual(main())

    assert result["task"]["state"] == "processing"
    assert took_s < 0.5
    assert asked == 1


@pytest.mark.parametrize("route", ["guide", "service"])
@pytest.mark.parametrize("tool_name", ["text_to_image", "remix_image"])
@pytest.mark.parametrize("path", ["guide", "service", "v1_tasks", "api_tasks", "service_plain"])
def test_a_task_of_another_machine_is_found_on_every_path(
    home: Path, tmp_path: Path, route: str, tool_name: str, path: Any
) -> None:
    """This process has never seen the id: it tries both actions on both routes."""
    runapi = SandboxTransport(SandboxOptions(poll_paths=frozenset({path}), duration_s=3.0, seed=1))
    arguments: dict[str, Any] = {**FOX, **({"source_image_urls": [PICTURE_URL]} if tool_name == "remix_image" else {})}

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, runapi, route=route) as tool:
            first = await tool.call(tool_name, arguments)
        async with opened_tool(tmp_path / "elsewhere", runapi) as other:
            return first, await other.call("get_image_task", {"task_id": first["task"]["ref"], "timeoutSeconds": 0})

    first, found = run_virtual(main())

    assert found["task"]["id"] == first["task"]["id"]
    assert found["images"][0]["url"] == first["images"][0]["url"]
    assert found["cost"] == {"usd": 0.05, "basis": "billed"}
    if path in ("guide", "service"):
        assert found["task"]["tool"] == tool_name


def test_the_next_process_knows_what_this_one_began(home: Path, runapi: SandboxTransport) -> None:
    """Tool, model and time of submission are in the journal."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            first = await tool.call("text_to_image", FOX, wait_s=1)
        await asyncio.sleep(30.0)
        async with opened_tool(home, runapi) as other:
            return await other.call("get_image_task", {"task_id": first["task"]["id"]})

    result = run_virtual(main())

    assert result["task"]["state"] == "completed"
    assert (result["task"]["tool"], result["task"]["model"]) == ("text_to_image", "flux-2-pro-text-to-image")
    assert result["timing"]["submitted_at"] is not None
    assert len(runapi.sandbox.ledger.creates) == 1


def test_an_id_nobody_knows_is_told_after_every_place_was_asked(home: Path, runapi: SandboxTransport) -> None:
    """A misspelt id must not cost the whole wait."""

    async def main() -> tuple[dict[str, Any], float]:
        async with opened_tool(home, runapi) as tool:
            return await tool.call("get_image_task", {"task_id": "tsk_nope"}), _now_s()

    result, took_s = run_virtual(main())
    error = result["error"]

    assert (error["code"], error["charged"], error["retryable"]) == ("task_not_found", "no", False)
    assert "tsk_nope" in error["message"]
    assert took_s < 3.0
    asked = {path for _method, path in runapi.requests}
    for path in (
        "/v1/text_to_image/",
        "/v1/remix_image/",
        "/api/v1/flux_2/text_to_image/",
        "/api/v1/flux_2/remix_image/",
    ):
        assert f"{path}tsk_nope" in asked


def test_another_accounts_task_is_not_found(home: Path, runapi: SandboxTransport) -> None:
    """A reference answers only to the key that made it."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            first = await tool.call("text_to_image", FOX)
        async with opened_tool(home, runapi, key="sk-somebody-else") as other:
            return await other.call("get_image_task", {"task_id": first["task"]["id"]})

    assert run_virtual(main())["error"]["code"] == "task_not_found"


def test_an_unknown_id_while_the_key_is_refused_is_the_keys_fault(home: Path) -> None:
    """ "No such task" would send the reader after the wrong thing."""
    error = run_call(home, scripted(gets=[(401, {"error": "bad key"})]), "get_image_task", {"task_id": "tsk_1"})[
        "error"
    ]

    assert error["code"] == "authentication"


def test_an_unknown_id_while_the_service_is_down_is_no_verdict(home: Path) -> None:
    """The task may well exist."""
    transport = scripted(gets=[httpx.ConnectError("refused")])
    error = run_call(home, transport, "get_image_task", {"task_id": "tsk_1", "timeoutSeconds": 20})["error"]

    assert (error["code"], error["retryable"], error["charged"]) == ("service_unavailable", True, "unknown")
    assert error["task_ref"] == "task:tsk_1"


def test_a_lookup_survives_passing_troubles(home: Path) -> None:
    """The first question of a process meets an outage as often as any other."""
    transport = scripted(gets=[(503, {}), httpx.ReadError("reset"), (404, {}), (200, PENDING), (500, {}), (200, DONE)])
    result = run_call(home, transport, "get_image_task", {"task_id": "tsk_abc123"})

    assert result["task"]["state"] == "completed"
    assert transport.posts == []


@pytest.mark.parametrize("task_id", ["../../v1/me", "a b", "task:", "..", "x" * 300, "tsk_1\n", "%2e%2e", "a?b=c"])
def test_an_id_that_could_leave_its_path_is_refused_unsent(home: Path, task_id: str) -> None:
    """The id comes from a model, and the question carries the key."""
    transport = scripted()
    result = run_call(home, transport, "get_image_task", {"task_id": task_id})

    assert result["error"]["code"] == "invalid_arguments"
    assert transport.seen == []


def test_an_odd_id_stays_one_path_segment(home: Path) -> None:
    """Whatever is accepted as an id is encoded where a path needs it."""
    transport = scripted(gets=[(404, {})])
    run_call(home, transport, "get_image_task", {"task_id": "a:b;c=d&e@f[1]"})

    assert transport.gets
    for poll in transport.gets:
        assert httpx.URL(poll.url).raw_path.decode().rsplit("/", 1)[1] == "a%3Ab%3Bc%3Dd%26e%40f%5B1%5D"


# ---- many at once ----------------------------------------------------------------------------------------------------


def test_two_hundred_calls_at_once_get_their_own_images(home: Path) -> None:
    """No call may ever show another one's picture."""
    runapi = SandboxTransport(SandboxOptions(drawn_images=False, seed=3, balance_cents=10_000))

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            return await asyncio.gather(*(tool.call("text_to_image", {"prompt": f"fox {n:03}"}) for n in range(200)))

    results = run_virtual(main())
    ledger = runapi.sandbox.ledger

    assert [result["error"] for result in results if "error" in result] == []
    assert len({result["task"]["id"] for result in results}) == 200
    for number, result in enumerate(results):
        task = ledger.tasks[result["task"]["id"]]
        assert task.arguments["prompt"] == f"fox {number:03}"
        assert task.image_id in result["images"][0]["url"]
    assert len(ledger.billed_tasks) == len(ledger.creates) == 200


def test_two_accounts_in_one_process_never_mix(home: Path, runapi: SandboxTransport) -> None:
    """A gateway may serve several keys; equal prompts of two keys are two images."""

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with (
            opened_tool(home, runapi, key="sk-one") as one,
            opened_tool(home, runapi, key="sk-two") as two,
        ):
            return await asyncio.gather(
                one.call("text_to_image", FOX, session="s"), two.call("text_to_image", FOX, session="s")
            )

    first, second = run_virtual(main())

    assert first["task"]["id"] != second["task"]["id"]
    assert len({task.key_fingerprint for task in runapi.sandbox.ledger.tasks.values()}) == 2


def test_a_task_nobody_waits_for_is_followed_slowly_and_not_for_ever(home: Path) -> None:
    """The result should be there when asked for; a hundred abandoned tasks must not poll for days."""
    transport = scripted(gets=[(200, PENDING)])

    async def main() -> tuple[int, int]:
        async with opened_tool(home, transport) as tool:
            await tool.call("text_to_image", FOX, wait_s=2)
            asked = len(transport.gets)
            await asyncio.sleep(600.0)
            after_ten_minutes = len(transport.gets) - asked
            await asyncio.sleep(7200.0)
            return after_ten_minutes, len(transport.gets) - asked

    in_ten_minutes, in_all = run_virtual(main())

    assert 50 < in_ten_minutes < 100
    assert in_all < 130


def test_such_a_task_is_still_found_hours_later(home: Path, runapi: SandboxTransport) -> None:
    """Giving up the watch is not giving up the task."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            runapi.sandbox.change({"slow_s": 3600.0})
            first = await tool.call("text_to_image", {"prompt": "a fox [slow]"}, wait_s=2)
            await asyncio.sleep(3 * 3600.0)
            return await tool.call("get_image_task", {"task_id": first["task"]["id"]})

    assert run_virtual(main())["task"]["state"] == "completed"


def test_closing_the_tool_stops_every_question(home: Path) -> None:
    """A library must not leave tasks running in its host's loop."""
    transport = scripted(gets=[(200, PENDING)])

    async def main() -> int:
        async with opened_tool(home, transport) as tool:
            await tool.call("text_to_image", FOX, wait_s=2)
        asked = len(transport.gets)
        await asyncio.sleep(100.0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return len(transport.gets) - asked

    assert run_virtual(main()) == 0


def test_an_equal_call_pays_again_only_once_the_first_was_delivered(home: Path, runapi: SandboxTransport) -> None:
    """Asking twice in a row is a wish for another picture; asking while it is being made is impatience."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            left = await tool.call("text_to_image", FOX, wait_s=1)
            joined = await tool.call("text_to_image", FOX)
            return [left, joined, await tool.call("text_to_image", FOX)]

    left, joined, fresh = run_virtual(main())

    assert left["task"]["id"] == joined["task"]["id"]
    assert joined["task"]["joined"] is True
    assert fresh["task"]["id"] != left["task"]["id"]
    assert runapi.billed == 2


def test_the_result_object_is_plain_json(home: Path) -> None:
    """It travels over JSON-RPC; NaN or a set in it would break the host."""
    answer: Answer = (200, {**DONE, "usage": {"cost": float("inf")}, "extra": float("nan")})
    result = run_call(home, scripted(gets=[answer]))

    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_service_that_answers_another_tasks_id_does_not_rename_ours(home: Path) -> None:
    """The id that was accepted is the one that can be asked for."""

    def answer(request: Seen) -> Answer:
        return (200, CREATED) if request.method == "POST" else (200, {**DONE, "id": "inner-7"})

    assert run_call(home, MockService(answer))["task"]["id"] == "tsk_abc123"


def test_a_task_begun_elsewhere_has_the_model_that_runapi_names(home: Path) -> None:
    """Only the service knows it; its price and what may be done with its image depend on it."""
    transport = numbered({**DONE, "model": "flux-2-flex-text-to-image"})

    result = run_call(home, transport, "get_image_task", {"task_id": "tsk_elsewhere"}, host="cli")

    assert (result["task"]["state"], result["task"]["model"]) == ("completed", "flux-2-flex-text-to-image")


def test_a_task_begun_elsewhere_is_asked_for_as_often_as_a_new_one(home: Path) -> None:
    """Nobody here knows how old it is; that must not make the person wait longer."""
    transport = numbered(PENDING)

    result = run_call(home, transport, "get_image_task", {"task_id": "tsk_elsewhere"}, wait_s=20)
    at_s = [request.at_s for request in transport.gets if request.path.endswith("/tsk_elsewhere")]

    assert result["task"]["state"] == "processing"
    assert max(later - earlier for earlier, later in pairwise(at_s)) <= 2.2


@pytest.mark.parametrize(
    ("how", "is_known"),
    [
        pytest.param("followed all along", True),
        pytest.param("made by another process", False),
        pytest.param("not seen for a minute", False),
    ],
)
def test_only_a_duration_that_was_measured_is_recorded(
    home: Path, runapi: SandboxTransport, how: str, is_known: bool
) -> None:
    """The polls of later tasks are planned by it; one that was guessed makes every picture late."""
    if how == "not seen for a minute":
        runapi.fault("status", on="poll", status=503, retry_after=60)

    async def main() -> None:
        async with opened_tool(home, runapi) as tool:
            wait_s = 1.0 if how == "made by another process" else 80.0
            await tool.call("text_to_image", FOX, session="s", wait_s=wait_s)
        async with opened_tool(home, runapi) as tool:
            await tool.call("get_image_task", {"task_id": records_of(home)[0].task_id}, session="s")

    run_virtual(main())
    [record] = records_of(home)

    assert record.state == "completed"
    assert record.duration_s == (pytest.approx(6.0, abs=1.5) if is_known else None)


def test_a_call_that_does_not_wait_ends_when_the_task_is_accepted(home: Path) -> None:
    """It has all it came for: the first poll, which the service wants late, is no reason to hold the answer back."""
    transport = scripted([json_answer(CREATED, retry_after="30")])
    transport.delay_s = 1.0

    async def main() -> tuple[dict[str, Any], float]:
        async with opened_tool(home, transport) as tool:
            return await tool.call("text_to_image", FOX, wait_s=0), asyncio.get_running_loop().time()

    result, took_s = run_virtual(main())

    assert (result["task"]["state"], result["task"]["id"]) == ("processing", "tsk_abc123")
    assert took_s == pytest.approx(1.0, abs=0.1)


def test_a_call_that_was_cancelled_before_it_began_sends_nothing(home: Path) -> None:
    """The person pressed stop while the host still prepared the call."""
    transport = scripted()
    cancel = CancelToken()
    cancel.set()

    error = run_call(home, transport, cancel=cancel)["error"]

    assert (error["code"], error["charged"]) == ("cancelled", "no")
    assert transport.posts == []


def test_a_call_of_a_closed_tool_is_cancelled_and_sends_nothing(home: Path) -> None:
    """A gateway that stops may still hand over what was on its way."""
    transport = scripted()

    async def main() -> dict[str, Any]:
        async with opened_tool(home, transport) as tool:
            pass
        return await tool.call("text_to_image", FOX)

    error = run_virtual(main())["error"]

    assert (error["code"], error["charged"]) == ("cancelled", "no")
    assert transport.seen == []


def test_a_cancel_is_not_missed_by_who_begins_to_watch_after_it() -> None:
    """It comes from another task of the host, at any moment between two waits."""
    cancel, before, after = CancelToken(), asyncio.Event(), asyncio.Event()
    cancel.watch(before)

    cancel.set()
    cancel.watch(after)

    assert before.is_set()
    assert after.is_set()
