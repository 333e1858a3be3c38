"""Several pictures by one call: a result of several tasks, each under its own key, joined and refused as a whole."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from flux2_tool.context import CallContext
from flux2_tool.engine.save_targets import SaveTarget
from flux2_tool.engine.wait import CancelToken, Progress
from flux2_tool.sandbox import SandboxOptions
from flux2_tool.schema.manifest import load_manifest
from tests.chaos.world import records_of
from tests.support.harness import (
    FOX,
    Answer,
    MockService,
    SandboxTransport,
    Seen,
    opened_tool,
    run_call,
)
from tests.support.pictures import picture
from tests.support.virtual_time import run_virtual

FOUR = {**FOX, "count": 4}


def _creates(runapi: SandboxTransport) -> list[Any]:
    return runapi.sandbox.ledger.creates


def service(states: dict[int, str], *, refuse: tuple[int, ...] = ()) -> MockService:
    """Return a service whose tasks are numbered by their keys' order: each "completed" unless `states` says otherwise.

    Args:
        states: By number, from 1; a state may be changed between two calls.
        refuse: Numbers of requests that are refused with 402.
    """
    keys: list[str] = []

    def answer(request: Seen) -> Answer:
        if request.method == "POST":
            key = request.headers["idempotency-key"]
            if key not in keys:
                keys.append(key)
            number = keys.index(key) + 1
            if number in refuse:
                return (402, {"error": {"message": "no credits"}})
            return (200, {"id": f"tsk_{number}", "status": "pending"})
        number = int(request.path.rpartition("_")[2].removesuffix(".json"))
        state = states.get(number, "completed")
        images = {"images": [{"url": f"https://img.test/{number}.png"}]} if state == "completed" else {}
        return (200, {"id": f"tsk_{number}", "status": state, **images})

    return MockService(answer)


# ---- one result ------------------------------------------------------------------------------------------------------


def test_four_pictures_are_one_result_of_four_tasks(home: Path, runapi: SandboxTransport) -> None:
    """Each is a request under a key of its own, with the same content and without the count."""
    result = run_call(home, runapi, arguments=FOUR)

    creates = _creates(runapi)
    assert len({create.idempotency_key for create in creates}) == len(creates) == 4
    assert len({create.body for create in creates}) == 1
    assert "count" not in json.loads(creates[0].body)
    assert len(result["images"]) == len({image["url"] for image in result["images"]}) == 4
    assert [task["state"] for task in result["tasks"]] == ["completed"] * 4
    assert [image["task_ref"] for image in result["images"]] == [task["ref"] for task in result["tasks"]]
    assert (result["task"]["ref"], result["task"]["state"]) == (result["tasks"][0]["ref"], "completed")
    assert result["cost"] == {"usd": 0.2, "basis": "billed"}
    assert "The pictures are ready. In your caption say what they cost." in result["next"]
    jsonschema.validate(result, load_manifest().tools["text_to_image"].output_schema)


def test_four_take_as_long_as_one(home: Path, runapi: SandboxTransport) -> None:
    """They are made at once."""

    async def took_s(arguments: dict[str, Any]) -> float:
        begun_s = asyncio.get_running_loop().time()
        async with opened_tool(home, runapi) as tool:
            assert "error" not in await tool.call("text_to_image", arguments)
        return asyncio.get_running_loop().time() - begun_s

    one_s, four_s = run_virtual(took_s({"prompt": "one"})), run_virtual(took_s(FOUR))

    assert four_s == pytest.approx(one_s, rel=0.15)


def test_one_picture_has_one_entry_of_tasks(home: Path, runapi: SandboxTransport) -> None:
    """Programs read the same fields, however many were asked for."""
    result = run_call(home, runapi, arguments={**FOX, "count": 1})

    assert result["tasks"] == [{"id": result["task"]["id"], "ref": result["task"]["ref"], "state": "completed"}]
    assert result["images"][0]["task_ref"] == result["task"]["ref"]


def test_the_sources_of_several_edits_are_uploaded_once(home: Path, runapi: SandboxTransport, tmp_path: Path) -> None:
    """They are the same file."""
    (tmp_path / "fox.png").write_bytes(picture())

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            given = {"prompt": "at night", "source_image_urls": ["fox.png"], "count": 3}
            caller = CallContext(session="a session", workspace_dir=tmp_path)
            return await tool.call("remix_image", given, caller=caller)

    result = run_virtual(main())

    assert len(result["images"]) == 3
    assert len([path for _, path in runapi.requests if path.endswith("/files/prepare")]) == 1


def test_progress_says_how_many_are_ready(home: Path) -> None:
    """A person who waits for four sees them come."""
    lines: list[Progress] = []
    states = {1: "completed", 2: "processing"}

    result = run_call(home, service(states), arguments={**FOX, "count": 2}, on_progress=lines.append, wait_s=20)

    assert result["task"]["state"] == "processing"
    assert lines[0].message == "0 of 2 ready: sending the request"
    assert any(line.message.startswith("1 of 2 ready: making the image") for line in lines)


class SlowPictures(httpx.AsyncBaseTransport):
    """Answers the second poll of the second picture's task while the first picture is fetched."""

    def __init__(self) -> None:
        self._states = {1: "completed", 2: "processing"}
        self._tasks = service(self._states)
        self._is_fetching = asyncio.Event()
        self._polls = 0
        self.fetched: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "img.test":
            self.fetched.append(request.url.path)
            self._is_fetching.set()
            await asyncio.sleep(0.5)
            return httpx.Response(200, content=picture(), headers={"content-type": "image/png"})
        if request.method == "GET" and "tsk_2" in request.url.path:
            self._polls += 1
            if self._polls == 2:
                await self._is_fetching.wait()
                self._states[2] = "completed"
        return await self._tasks.handle_async_request(request)


def test_one_completed_while_another_is_saved_is_in_the_result(home: Path, tmp_path: Path) -> None:
    """Called completed and counted as delivered without its picture, it would be lost, and paid for again."""
    runapi, folder = SlowPictures(), tmp_path / "out"

    result = run_call(home, runapi, arguments={**FOX, "count": 2}, wait_s=10, output=SaveTarget(folder=folder))

    assert [task["state"] for task in result["tasks"]] == ["completed", "completed"]
    assert [image["task_ref"] for image in result["images"]] == ["task:tsk_1", "task:tsk_2"]
    assert {image["path"] for image in result["images"]} == {str(path) for path in folder.iterdir()}
    assert runapi.fetched == ["/1.png", "/2.png"]
    assert not result["warnings"]


# ---- some fail -------------------------------------------------------------------------------------------------------


def test_some_failing_is_not_all_failing(home: Path) -> None:
    """What came is paid and shown; each other one is named with its reason."""
    result = run_call(home, service({2: "failed"}), arguments=FOUR)

    assert [image["url"] for image in result["images"]] == [f"https://img.test/{number}.png" for number in (1, 3, 4)]
    assert [task["state"] for task in result["tasks"]] == ["completed", "failed", "completed", "completed"]
    assert result["task"]["state"] == "completed"
    [warning] = [text for text in result["warnings"] if text.startswith("not_made: ")]
    assert "picture 2 of 4 (task:tsk_2)" in warning
    assert "(charged: no)" in warning
    assert "1 of 4 could not be made" in result["next"]
    assert result["cost"]["usd"] == pytest.approx(0.15)


def test_a_refused_request_beside_accepted_ones_is_a_warning(home: Path) -> None:
    """The account's credits end at the third picture."""
    result = run_call(home, service({}, refuse=(3, 4)), arguments=FOUR)

    assert len(result["images"]) == 2
    assert [task["state"] for task in result["tasks"]] == ["completed", "completed", "failed", "failed"]
    assert sum(text.startswith("not_made: ") for text in result["warnings"]) == 2


def test_one_that_may_be_made_all_the_same_is_not_called_unmade(home: Path) -> None:
    """Whoever is told that there is none asks for others, and pays twice: the same call again gets all of them."""
    posts: list[str] = []

    def answer(request: Seen) -> Answer:
        if request.method == "POST":
            posts.append(request.headers["idempotency-key"])
            if len(posts) in (1, 3):  # each may be made
                return httpx.Response(503, headers={"retry-after": "1000"})
            return (200, {"id": f"tsk_{posts.index(posts[-1]) + 1}", "status": "pending"})
        number = request.path.rpartition("_")[2]
        images = [{"url": f"https://img.test/{number}.png"}]
        return (200, {"id": f"tsk_{number}", "status": "completed", "images": images})

    runapi = MockService(answer)

    told: list[Progress] = []

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            calls = [{"session": "s", "on_progress": told.append}, {"session": "s"}]
            return [await tool.call("text_to_image", FOUR, **options) for options in calls]

    first, again = run_virtual(main())

    assert any(one.message.startswith("0 of 4 ready, 2 of unknown outcome: ") for one in told)
    assert not any("failed" in one.message for one in told)
    assert sorted(task["state"] for task in first["tasks"]) == ["completed", "completed", "unknown", "unknown"]
    assert [text.partition(":")[0] for text in first["warnings"]] == ["not_known", "not_known"]
    assert all("Call the tool again with exactly the same arguments." in text for text in first["warnings"])
    assert "could not be made" not in first["next"]
    assert "Whether 2 of 4 were made, and charged, is not known" in first["next"]
    assert [task["state"] for task in again["tasks"]] == ["completed"] * 4
    assert len(set(posts)) == 4


def test_all_failing_raises_the_first_error_and_names_the_others(home: Path) -> None:
    """The error's class says what to do; nothing of the others is lost."""
    error = run_call(home, service({1: "failed", 2: "failed"}), arguments={**FOX, "count": 2})["error"]

    assert error["code"] == "generation_failed"
    assert "None of 2 pictures came. Number 1:" in error["message"]
    assert "picture 2 of 2 (task:tsk_2)" in error["warnings"][0]


def test_all_refused_for_credits_says_so_once(home: Path) -> None:
    """Nothing was made and nothing charged."""
    error = run_call(home, service({}, refuse=(1, 2)), arguments={**FOX, "count": 2})["error"]

    assert (error["code"], error["charged"]) == ("insufficient_credits", "no")


@pytest.mark.parametrize("at_once", [True, False])
def test_one_task_is_one_picture_of_a_set(home: Path, at_once: bool) -> None:
    """Whoever answers every request with the same task made one picture, whether the answers arrive together or not."""

    def answer(request: Seen) -> Answer:
        if request.method == "POST":
            return (200, {"id": "tsk_same", "status": "pending"})
        return (200, {"id": "tsk_same", "status": "completed", "images": [{"url": "https://img.test/1.png"}]})

    runapi = MockService(answer)
    result = run_call(home, runapi, arguments={**FOX, "count": 3}, max_creates=8 if at_once else 1)

    assert [image["task_ref"] for image in result["images"]] == ["task:tsk_same"]
    assert sum(text.startswith("not_known: ") and "(charged: unknown)" in text for text in result["warnings"]) == 2
    assert sorted((record.state, record.task_id) for record in records_of(home)) == [
        ("completed", "tsk_same"),
        ("unknown", None),
        ("unknown", None),
    ]
    assert len({post.headers["idempotency-key"] for post in runapi.posts}) == 3


# ---- some are late ---------------------------------------------------------------------------------------------------


def test_a_wait_that_ends_gives_what_is_ready_and_names_the_rest(home: Path) -> None:
    """`task` is the first that is missing, so that who follows it fetches that one."""
    states = {2: "processing", 4: "processing"}

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, service(states)) as tool:
            partly = await tool.call("text_to_image", FOUR, wait_s=20)
            states.clear()
            return partly, await tool.call("get_image_task", {"task_id": partly["task"]["id"]})

    partly, second = run_virtual(main())

    assert [task["state"] for task in partly["tasks"]] == ["completed", "processing", "completed", "processing"]
    assert [image["task_ref"] for image in partly["images"]] == ["task:tsk_1", "task:tsk_3"]
    assert (partly["task"]["ref"], partly["task"]["state"]) == ("task:tsk_2", "processing")
    assert 'get_image_task with task_id "tsk_2", then "tsk_4"' in partly["next"]
    assert "2 of 4 pictures are ready" in partly["next"]
    assert partly["cost"]["usd"] == pytest.approx(0.2)
    assert [image["task_ref"] for image in second["images"]] == ["task:tsk_2"]
    assert [record.delivered_at is not None for record in records_of(home)] == [True, True, True, False]


def test_openclaws_own_tool_gets_all_or_the_same_call_again(home: Path, tmp_path: Path) -> None:
    """It shows nothing of a set that is not complete, so that nothing of it counts as shown."""
    states = {2: "processing"}
    runapi = service(states)
    caller = CallContext(session="image_generate", source_dirs=(tmp_path,))

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            await tool.call("text_to_image", {**FOX, "count": 2}, caller=caller, wait_s=20)
            await asyncio.sleep(10)
            states[2] = "failed"
            return await tool.call("text_to_image", {**FOX, "count": 2}, caller=caller)

    again = run_virtual(main())

    assert again["task"]["joined"]
    assert [image["task_ref"] for image in again["images"]] == ["task:tsk_1"]
    assert len(runapi.posts) == 2


def test_a_repeated_call_joins_the_set_with_what_was_there_already(home: Path) -> None:
    """Also in another process, after the first one ended; nothing is requested again."""
    states = {2: "processing", 3: "processing"}
    runapi = service(states)
    partly = run_call(home, runapi, arguments={**FOX, "count": 3}, wait_s=20, host="cli", session="a session")
    states.clear()

    whole = run_call(home, runapi, arguments={**FOX, "count": 3}, host="cli", session="a session")

    assert partly["task"]["state"] == "processing"
    assert whole["task"]["joined"]
    assert [image["task_ref"] for image in whole["images"]] == ["task:tsk_1", "task:tsk_2", "task:tsk_3"]
    assert len({seen.headers["idempotency-key"] for seen in runapi.posts}) == 3


def test_calls_side_by_side_share_one_set(home: Path, runapi: SandboxTransport) -> None:
    """A model that repeats itself within a turn pays once."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            return await asyncio.gather(*(tool.call("text_to_image", FOUR) for _ in range(2)))

    first, second = run_virtual(main())

    assert runapi.billed == 4
    assert [image["url"] for image in first["images"]] == [image["url"] for image in second["images"]]
    assert sorted([first["task"]["joined"], second["task"]["joined"]]) == [False, True]


def test_another_count_is_another_request(home: Path, runapi: SandboxTransport) -> None:
    """Two are not a part of four."""

    async def main() -> None:
        async with opened_tool(home, runapi) as tool:
            four, two = {**FOX, "count": 3}, FOX
            await asyncio.gather(*(tool.call("text_to_image", arguments) for arguments in (four, two)))

    run_virtual(main())

    assert runapi.billed == 4


def test_a_stopped_wait_names_every_task(home: Path) -> None:
    """They go on at RunAPI and may be charged."""
    cancel = CancelToken()

    def stop(progress: Progress) -> None:
        if "making the image" in progress.message:
            cancel.set()

    states = dict.fromkeys((1, 2), "processing")
    error = run_call(home, service(states), arguments={**FOX, "count": 2}, cancel=cancel, on_progress=stop)["error"]

    assert (error["code"], error["charged"], error["task_ref"]) == ("cancelled", "unknown", "task:tsk_1")
    assert '"tsk_1", then "tsk_2"' in error["hint"]


@pytest.mark.parametrize("slow", [2, 3])
def test_a_stopped_wait_names_what_may_be_accepted(home: Path, runapi: SandboxTransport, slow: int) -> None:
    """A request without an answer may be charged like one with a task, and the same call finds out about it."""
    cancel = CancelToken()
    for _ in range(slow):
        runapi.fault("latency", accepted=True, delay_s=60.0)

    def stop(progress: Progress) -> None:
        if progress.elapsed_s >= 5.0:
            cancel.set()

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            stopped = await tool.call("text_to_image", {**FOX, "count": 3}, cancel=cancel, on_progress=stop)
            return stopped, await tool.call("text_to_image", {**FOX, "count": 3}, wait_s=120)

    stopped, again = run_virtual(main())

    error = stopped["error"]
    assert (error["code"], error["charged"]) == ("cancelled", "unknown")
    assert f"Whether {slow} of 3 requests were accepted is not known; they may be charged too." in error["message"]
    assert "Call again with exactly the same arguments" in error["hint"]
    assert ("get_image_task" in error["hint"]) == (slow < 3)
    assert (again["task"]["joined"], len(again["images"]), runapi.billed) == (True, 3, 3)


def test_a_stopped_wait_promises_nothing_of_what_another_call_requests(home: Path, runapi: SandboxTransport) -> None:
    """With one create slot the third waits for its turn, and keeps it for as long as any call waits."""
    cancel = CancelToken()
    runapi.fault("latency", accepted=True, delay_s=20.0)

    def stop(progress: Progress) -> None:
        if progress.elapsed_s >= 5.0:
            cancel.set()

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, runapi, max_creates=1) as tool:
            arguments = {**FOX, "count": 3}
            stopped, other = await asyncio.gather(
                tool.call("text_to_image", arguments, cancel=cancel, on_progress=stop),
                tool.call("text_to_image", arguments, wait_s=120),
            )
            return stopped, other

    stopped, other = run_virtual(main())

    assert "so 2 of 3 will be requested" in stopped["error"]["message"]
    assert "cost nothing" not in stopped["error"]["message"]
    assert len(other["images"]) == runapi.billed == 3


@pytest.mark.transport_only("the polls that see them end come one after the other; a sentence is of those in one state")
def test_a_set_left_behind_is_told_of_at_once(home: Path) -> None:
    """In one sentence, and not in four."""
    states = dict.fromkeys((1, 2, 3, 4), "processing")

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, service(states)) as tool:
            cancel = CancelToken()

            def stop(progress: Progress) -> None:
                if "making the image" in progress.message:
                    cancel.set()

            await tool.call("text_to_image", FOUR, cancel=cancel, on_progress=stop)
            states.clear()
            return (
                await tool.call("text_to_image", {"prompt": "a boat"}),
                await tool.call("text_to_image", {"prompt": "a car"}),
            )

    next_one, after = run_virtual(main())

    [told] = [warning for warning in next_one["warnings"] if warning.startswith("earlier_image: ")]
    assert "task:tsk_1, task:tsk_2, task:tsk_3, task:tsk_4" in told
    assert [warning for warning in after["warnings"] if "which were not shown" in warning] == []


# ---- money -----------------------------------------------------------------------------------------------------------


def test_a_cap_takes_all_or_says_how_many_fit(home: Path, runapi: SandboxTransport) -> None:
    """Nothing is sent that the person did not expect."""
    error = run_call(home, runapi, arguments=FOUR, daily_cap_usd=0.12)["error"]

    assert error["code"] == "budget_exceeded"
    assert "4 images would cost $0.20 ($0.05 each)" in error["message"]
    assert "2 of 4 fit. Nothing was sent." in error["message"]
    assert "Call again with count 2" in error["hint"]
    assert _creates(runapi) == []


def test_a_cap_below_one_picture_says_that_no_count_helps(home: Path, runapi: SandboxTransport) -> None:
    """Neither now nor later."""
    error = run_call(home, runapi, arguments=FOUR, daily_cap_usd=0.04)["error"]

    assert "4 images would cost $0.20 ($0.05 each)" in error["message"]
    assert "not one of them can ever be made" in error["message"]


def test_the_cap_per_image_is_for_each(home: Path, runapi: SandboxTransport) -> None:
    """Four of five cents are not one of twenty."""
    assert len(run_call(home, runapi, arguments=FOUR, max_image_usd=0.05)["images"]) == 4
    assert run_call(home, runapi, arguments={**FOUR, "prompt": "b"}, max_image_usd=0.04)["error"]["code"] == (
        "budget_exceeded"
    )


def test_unknown_prices_count_each(home: Path) -> None:
    """Max's price is not published."""
    given = {"prompt": "a fox", "model": "flux-2-max-text-to-image", "aspect_ratio": "1:1", "count": 3}
    error = run_call(home, service({}), arguments=given, tiers=["pro", "max"], daily_cap_usd=1.2)["error"]

    assert "3 images would cost $1.50 (an unknown price, counted as $0.50 each)" in error["message"]
    assert "2 of 3 fit" in error["message"]


def test_the_guard_against_repeats_counts_pictures(home: Path, runapi: SandboxTransport) -> None:
    """A set of four fits exactly; after three, one is left."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            three = await tool.call("text_to_image", {**FOX, "count": 3})
            tool.engine.received([task["id"] for task in three["tasks"]])
            two = await tool.call("text_to_image", {**FOX, "count": 2})
            one = await tool.call("text_to_image", FOX)
            tool.engine.received([one["task"]["id"]])
            return [three, two, one, await tool.call("text_to_image", FOX)]

    three, two, one, more = run_virtual(main())

    assert "error" not in three
    assert two["error"]["code"] == "repeated_request"
    assert "3 were requested already, so only 1 of these 2 may be" in two["error"]["message"]
    assert "Call again with count 1" in two["error"]["hint"]
    assert "error" not in one
    assert "was already made 4 times" in more["error"]["message"]


def test_a_set_that_failed_may_be_tried_again_as_its_error_says(home: Path, runapi: SandboxTransport) -> None:
    """It made nothing and cost nothing; a model that repeats it without end is stopped like with single pictures."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            return [(await tool.call("text_to_image", {**FOUR, "prompt": "a fox [fail]"}))["error"] for _ in range(5)]

    first, *others, stopped = run_virtual(main())

    assert "Try once more with the same arguments" in first["hint"]
    assert [error["code"] for error in (first, *others)] == ["generation_failed"] * 4
    assert stopped["code"] == "repeated_request"
    assert "16 failed" in stopped["message"]
    assert "this request makes no image" in stopped["hint"]


@pytest.mark.parametrize("journal", ["off", "best_effort"])
def test_a_set_needs_no_journal_on_disk_where_none_is_required(
    home: Path, runapi: SandboxTransport, journal: str
) -> None:
    """The same rules hold in memory."""
    assert len(run_call(home, runapi, arguments=FOUR, journal=journal)["images"]) == 4


def test_one_create_slot_makes_all_one_after_the_other(home: Path, runapi: SandboxTransport) -> None:
    """The operator's bound on requests holds for a set, too."""
    assert len(run_call(home, runapi, arguments=FOUR, max_creates=1)["images"]) == 4


def test_a_rate_limit_amid_a_set_is_waited_out(home: Path, runapi: SandboxTransport) -> None:
    """What RunAPI refuses for a moment is sent again under its key."""
    runapi.fault("status", status=429, retry_after=3)

    assert len(run_call(home, runapi, arguments=FOUR)["images"]) == 4
    assert runapi.billed == 4


# ---- files -----------------------------------------------------------------------------------------------------------


def test_several_pictures_under_one_file_name_are_numbered(home: Path, tmp_path: Path) -> None:
    """In the order of the set; a folder takes each under a name of its own."""
    runapi = SandboxTransport(SandboxOptions(duration_s=3.0, seed=1))
    options: dict[str, Any] = {"arguments": {**FOX, "count": 3}, "host": "cli"}

    named = run_call(home, runapi, output=SaveTarget.of(str(tmp_path / "fox.png")), **options)
    folder = run_call(home, runapi, output=SaveTarget.of(str(tmp_path / "all/")), new=True, **options)

    assert [Path(image["path"]).name for image in named["images"]] == ["fox-1.png", "fox-2.png", "fox-3.png"]
    assert len({image["path"] for image in folder["images"]}) == len(list((tmp_path / "all").iterdir())) == 3


# ---- the newest, and one of them ----------------------------------------------------------------------------------


def test_task_last_is_the_last_of_a_set_and_each_can_be_fetched(home: Path, runapi: SandboxTransport) -> None:
    """ "The second one" is its reference."""

    async def main() -> tuple[dict[str, Any], ...]:
        async with opened_tool(home, runapi) as tool:
            made = await tool.call("text_to_image", FOUR)
            last = await tool.call("get_image_task", {"task_id": "task:last"})
            second = await tool.call("get_image_task", {"task_id": made["images"][1]["task_ref"]})
            return made, last, second

    made, last, second = run_virtual(main())

    assert last["images"][0]["url"] == made["images"][3]["url"]
    assert [image["url"] for image in second["images"]] == [made["images"][1]["url"]]
    assert len(second["tasks"]) == 1


# ---- a crash ---------------------------------------------------------------------------------------------------------


def test_a_process_killed_amid_a_set_loses_and_repeats_nothing(home: Path) -> None:
    """Some had been accepted, of others the response was lost; the next call has all of them under their keys."""
    runapi = SandboxTransport(SandboxOptions(duration_s=6.0, drawn_images=False, seed=1))
    runapi.fault("drop_after")
    runapi.fault("drop_after")
    first = run_call(home, runapi, arguments=FOUR, wait_s=0, host="cli", session="s")

    whole = run_call(home, runapi, arguments=FOUR, host="cli", session="s")

    assert first.get("error") is None or first["error"]["charged"] == "unknown"
    assert len(whole["images"]) == 4
    assert runapi.billed == 4
    assert len(records_of(home)) == 4
