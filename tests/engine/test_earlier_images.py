"""What became of the images that a conversation was not given: told once, with its next result."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.context import CallContext
from flux2_tool.engine.wait import CancelToken
from tests.support.harness import SandboxTransport, opened_tool
from tests.support.hosted import HostedEngine
from tests.support.virtual_time import run_virtual

LEFT = {"prompt": "a red fox in the snow"}
NEXT = {"prompt": "a green parrot"}


async def stopped(tool: HostedEngine, *, session: str) -> str:
    """Begin an image, stop its call once RunAPI has the task, and return the task's reference."""
    cancel = CancelToken()

    def stop(progress: Any) -> None:
        if progress.task_id is not None:
            cancel.set()

    left = await tool.call("text_to_image", LEFT, session=session, cancel=cancel, on_progress=stop)
    assert left["error"]["code"] == "cancelled"
    ref: str = left["error"]["task_ref"]
    return ref


def earlier(result: dict[str, Any]) -> list[str]:
    return [text for text in result["warnings"] if text.startswith("earlier_image: ")]


def test_the_next_result_says_what_became_of_a_stopped_call(home: Path, runapi: SandboxTransport) -> None:
    """It goes on and is charged; nobody else would tell the person."""

    async def main() -> tuple[str, list[dict[str, Any]]]:
        async with opened_tool(home, runapi) as tool:
            ref = await stopped(tool, session="s")
            await asyncio.sleep(60.0)
            return ref, [await tool.call("text_to_image", {"prompt": text}, session="s") for text in ("one", "two")]

    ref, (told, after) = run_virtual(main())

    [warning] = earlier(told)
    for part in (ref, "a red fox in the snow", "finished", "charged", "get_image_task"):
        assert part in warning
    assert earlier(after) == []


def test_one_that_still_runs_is_told_as_such(home: Path, runapi: SandboxTransport) -> None:
    """Whether it will be charged is not known yet; it must not be requested again."""

    async def main() -> tuple[str, dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            ref = await stopped(tool, session="s")
            return ref, await tool.call("get_image_task", {"task_id": ref}, session="s", wait_s=0)

    async def other() -> tuple[str, dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            ref = await stopped(tool, session="s")
            return ref, await tool.call("text_to_image", NEXT, session="s", wait_s=0)

    ref, same = run_virtual(main())
    assert earlier(same) == []

    ref, told = run_virtual(other())
    [warning] = earlier(told)
    assert ref in warning
    assert "goes on at RunAPI and may be charged" in warning


@pytest.mark.parametrize("session", ["another", None])
def test_no_other_conversation_is_told(home: Path, runapi: SandboxTransport, session: str | None) -> None:
    """A prompt and a task id are nobody else's."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            await stopped(tool, session="s")
            await asyncio.sleep(60.0)
            return await tool.call("text_to_image", NEXT, session=session)

    assert earlier(run_virtual(main())) == []


def test_what_was_given_is_not_told(home: Path, runapi: SandboxTransport) -> None:
    """Also in the seconds before it counts as delivered."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            ref = await stopped(tool, session="s")
            fetched = await tool.call("get_image_task", {"task_id": ref}, session="s")
            return [fetched, await tool.call("text_to_image", NEXT, session="s")]

    assert [earlier(result) for result in run_virtual(main())] == [[], []]


def test_what_another_call_waits_for_is_not_told(home: Path, runapi: SandboxTransport) -> None:
    """Two pictures of one turn; each call returns its own."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            calls = [tool.call("text_to_image", arguments, session="s") for arguments in (LEFT, NEXT)]
            return list(await asyncio.gather(*calls))

    assert [earlier(result) for result in run_virtual(main())] == [[], []]


def test_a_person_at_a_command_line_is_not_told(home: Path, runapi: SandboxTransport) -> None:
    """It lists its tasks itself."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi, host="cli") as tool:
            await stopped(tool, session="s")
            await asyncio.sleep(60.0)
            return await tool.call("text_to_image", NEXT, session="s")

    assert earlier(run_virtual(main())) == []


def test_what_a_watching_host_gets_is_not_given(home: Path, runapi: SandboxTransport) -> None:
    """The plugin that waits for a late picture shows it to nobody: the conversation's own call does."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            late = await tool.call("text_to_image", LEFT, session="s", wait_s=0)
            watching = CallContext(session="s", is_watching=True)
            seen = await tool.call("get_image_task", {"task_id": late["task"]["ref"]}, caller=watching)
            await asyncio.sleep(60.0)
            return [late, seen, await tool.call("text_to_image", LEFT, session="s")]

    late, seen, joined = run_virtual(main())

    assert (late["task"]["state"], seen["task"]["state"]) == ("processing", "completed")
    assert joined["task"]["joined"]
    assert joined["task"]["id"] == late["task"]["id"]
    assert runapi.billed == 1


def test_another_process_tells_what_this_one_left(home: Path, runapi: SandboxTransport) -> None:
    """Once; the journal knows who was told."""

    async def main() -> list[list[str]]:
        async with opened_tool(home, runapi) as tool:
            await stopped(tool, session="s")
        await asyncio.sleep(60.0)
        told = []
        for number in range(3):
            async with opened_tool(home, runapi) as tool:
                told.append(earlier(await tool.call("text_to_image", {"prompt": f"number {number}"}, session="s")))
        return told

    first, *others = run_virtual(main())

    assert len(first) == 1
    assert "get_image_task" in first[0]
    assert others == [[], []]


@pytest.mark.parametrize("arguments", [{"prompt": ""}, {"prompt": "a fox", "output_resolution": "4k"}])
def test_an_error_tells_it_too(home: Path, runapi: SandboxTransport, arguments: dict[str, Any]) -> None:
    """It may be the last result of its conversation."""

    async def main() -> tuple[str, dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            ref = await stopped(tool, session="s")
            await asyncio.sleep(60.0)
            refused = await tool.call("text_to_image", arguments, session="s")
            return ref, refused["error"], await tool.call("text_to_image", NEXT, session="s")

    ref, error, after = run_virtual(main())

    assert error["code"] == "invalid_arguments"
    assert [ref in text for text in error["warnings"]] == [True]
    assert earlier(after) == []


def test_a_call_that_is_stopped_tells_nothing(home: Path, runapi: SandboxTransport) -> None:
    """Nobody reads its result; the next one tells it."""

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            await stopped(tool, session="s")
            await asyncio.sleep(60.0)
            cancel = CancelToken()
            cancel.set()
            unread = await tool.call("text_to_image", NEXT, session="s", cancel=cancel)
            return unread["error"], await tool.call("text_to_image", NEXT, session="s")

    unread, told = run_virtual(main())

    assert "warnings" not in unread
    assert len(earlier(told)) == 1


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("a fox", "a fox"),
        ("  a fox\n\nin the  snow ", "a fox in the snow"),
        ("春节海报，" * 20, ("春节海报，" * 12) + "…"),
        ("fox " * 40, ("fox " * 14) + "fox…"),
    ],
)
def test_a_result_has_the_beginning_of_its_prompt(
    home: Path, runapi: SandboxTransport, prompt: str, title: str
) -> None:
    """For an alternative text, and for lists."""

    async def main() -> dict[str, Any]:
        async with opened_tool(home, runapi) as tool:
            return await tool.call("text_to_image", {"prompt": prompt}, session="s")

    assert run_virtual(main())["task"]["title"] == title
