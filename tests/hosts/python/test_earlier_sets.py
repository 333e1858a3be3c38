"""A result of several pictures is fetched again as a whole."""

from __future__ import annotations

import asyncio

import pytest

from flux2_tool import Flux2Tool, ToolResult
from flux2_tool.schema.results import PictureTask
from tests.engine.test_sets import service as numbered_service
from tests.hosts.python.conftest import Service
from tests.support.keys import KEY
from tests.support.virtual_time import VirtualClock, run_virtual


def test_the_loop_of_the_docs_ends_with_every_picture() -> None:
    """Of three paid pictures none may be left behind because another was ready first."""
    states = {1: "processing", 2: "processing", 3: "processing"}
    runapi, seen = numbered_service(states), list[list[str]]()

    async def main() -> ToolResult:
        environ = {"FLUX2_TOOL_JOURNAL": "off"}
        async with Flux2Tool(api_key=KEY, environ=environ, transport=runapi, clock=VirtualClock()) as flux:
            result = await flux.text_to_image("three foxes", count=3, wait_s=20)
            ready = iter((2, 1, 3))
            while result.task.state == "processing":
                seen.append([task.state for task in result.tasks])
                states[next(ready)] = "completed"
                result = await flux.get_image_task(result, wait_s=20)
            return result

    result = run_virtual(main())

    waits, done = "processing", "completed"
    assert seen == [[waits] * 3, [waits, done, waits], [done, done, waits]]
    assert [task.state for task in result.tasks] == [done] * 3
    assert [image.url for image in result.images] == [f"https://img.test/{number}.png" for number in (1, 2, 3)]
    assert [image.task_ref for image in result.images] == [task.ref for task in result.tasks]
    assert result.cost.usd == pytest.approx(0.15)
    assert len(runapi.posts) == 3


def test_another_tool_fetches_a_kept_result_as_a_whole(service: Service) -> None:
    """A program keeps it as JSON and goes on after a restart."""

    async def main() -> tuple[ToolResult, ToolResult]:
        async with service.tool() as flux:
            kept = (await flux.text_to_image("two foxes", count=2)).model_dump_json()
        async with service.tool() as flux:
            return (earlier := ToolResult.model_validate_json(kept)), await flux.get_image_task(earlier)

    earlier, again = asyncio.run(main())

    assert [image.task_ref for image in again.images] == [image.task_ref for image in earlier.images]
    assert len(again.images) == 2


def test_those_that_failed_stay_in_it_with_their_reasons() -> None:
    """With an id and without one: whoever reads the last result alone must not think that fewer were asked for."""
    states = {2: "processing", 3: "failed"}
    runapi = numbered_service(states, refuse=(4,))

    async def main() -> tuple[ToolResult, ToolResult]:
        environ = {"FLUX2_TOOL_JOURNAL": "off"}
        async with Flux2Tool(api_key=KEY, environ=environ, transport=runapi, clock=VirtualClock()) as flux:
            begun = await flux.text_to_image("four foxes", count=4, wait_s=20)
            states[2] = "completed"
            return begun, await flux.get_image_task(begun)

    begun, done = run_virtual(main())

    assert [task.state for task in begun.tasks] == ["completed", "processing", "failed", "failed"]
    assert [task.state for task in done.tasks] == ["completed", "completed", "failed", "failed"]
    assert [image.url for image in done.images] == ["https://img.test/1.png", "https://img.test/2.png"]
    failed, refused = (text for text in done.warnings if text.startswith("not_made: "))
    assert "(task:tsk_3)" in failed
    assert refused.startswith("not_made: picture 4 of 4 was not made: ")
    assert "(charged: no)" in refused


def test_one_without_an_id_yet_ends_no_loop_unseen_and_none_late(service: Service) -> None:
    """It cannot be waited for, and may still be made and charged."""

    async def main() -> list[ToolResult]:
        async with service.tool() as flux:
            made = await flux.text_to_image("two foxes", count=2)
            unconfirmed = PictureTask(id=None, ref=None, state="processing")
            task = made.task.model_copy(update={"state": "processing"})
            begun = made.model_copy(update={"task": task, "tasks": (made.tasks[0], unconfirmed, made.tasks[1])})
            once = await flux.get_image_task(begun)
            return [once, await flux.get_image_task(once)]

    for result in asyncio.run(main()):
        assert result.task.state == "completed"
        assert [task.state for task in result.tasks] == ["completed", "unknown", "completed"]
        assert len(result.images) == 2
        [warning] = [text for text in result.warnings if text.startswith("not_known: ")]
        assert "picture 2 of 3" in warning
        assert "may be made and charged" in warning
