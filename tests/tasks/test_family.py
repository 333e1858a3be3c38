"""A conversation and the subagents that it has spawned: whose pictures are whose, by the host's own word."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.context import CallContext
from tests.support.harness import FOX, SandboxTransport, opened_tool
from tests.support.hosted import HostedEngine
from tests.support.journal import Watched
from tests.support.virtual_time import run_virtual

PARENT, MALLORY = CallContext(session="parent"), CallContext(session="mallory")
CHILD = CallContext(session="child", ancestors=("parent",), is_handed_over=True)
GRANDCHILD = CallContext(session="grandchild", ancestors=("child", "parent"), is_handed_over=True)
EDIT = {"prompt": "in blue", "source_image_urls": ["task:last"]}


async def made(tool: HostedEngine, caller: CallContext, prompt: str = "a red fox") -> dict[str, Any]:
    """Make a picture and return its task, with its links."""
    result = await tool.call("text_to_image", {"prompt": prompt}, caller=caller)
    return {**result["task"], "links": [image["url"] for image in result["images"]]}


async def used(tool: HostedEngine, caller: CallContext, ref: str) -> list[str]:
    """Fetch and edit a task; return what came of both."""
    results = [
        await tool.call("get_image_task", {"task_id": ref}, caller=caller),
        await tool.call("remix_image", {"prompt": "in blue", "source_image_urls": [ref]}, caller=caller),
    ]
    return [result["error"]["code"] if "error" in result else result["task"]["state"] for result in results]


def test_conversations_are_looked_up_once_for_a_call(home: Path, runapi: SandboxTransport) -> None:
    """Each look is a way to the journal and back, while the call waits; an edit may name a subagent's picture."""
    watch = Watched()

    async def main() -> list[list[str]]:
        looks = []
        async with opened_tool(home, runapi, opener=watch) as tool:
            for name, arguments in (("text_to_image", FOX), ("remix_image", EDIT), ("get_image_task", {})):
                watch.asked.clear()
                assert "error" not in await tool.call(name, arguments, caller=PARENT)
                looks.append([asked for asked in watch.asked if asked in ("descendants_of", "not_given")])
        return looks

    assert run_virtual(main()) == [["not_given"], ["descendants_of", "not_given"], ["descendants_of", "not_given"]]


@pytest.mark.parametrize("by", [CHILD, GRANDCHILD], ids=["a child", "a child's child"])
def test_a_conversation_uses_what_its_subagent_made(home: Path, runapi: SandboxTransport, by: CallContext) -> None:
    """Also in another process later, and where the host has forgotten the subagent; nobody else may."""

    async def main() -> dict[str, list[str]]:
        async with opened_tool(home, runapi) as tool:
            ref = (await made(tool, by))["ref"]
        async with opened_tool(home, runapi) as tool:
            return {caller.session or "": await used(tool, caller, ref) for caller in (PARENT, MALLORY)}

    found = run_virtual(main())

    assert found["parent"] == ["completed", "completed"]
    assert found["mallory"] == ["task_not_found", "source_refused"]


def test_a_subagent_uses_neither_its_parents_pictures_nor_its_siblings(home: Path, runapi: SandboxTransport) -> None:
    """The way is from the subagent to whoever spawned it, and not back."""

    async def main() -> list[list[str]]:
        async with opened_tool(home, runapi) as tool:
            sibling = CallContext(session="sibling", ancestors=("parent",))
            refs = [(await made(tool, caller))["ref"] for caller in (PARENT, sibling)]
            return [await used(tool, CHILD, ref) for ref in refs]

    assert run_virtual(main()) == [["task_not_found", "source_refused"]] * 2


def test_who_names_a_conversation_as_its_child_gets_nothing(home: Path, runapi: SandboxTransport) -> None:
    """Only the child's own call, with the host's word, makes it one."""

    async def main() -> list[str]:
        async with opened_tool(home, runapi) as tool:
            ref = (await made(tool, PARENT))["ref"]
            return await used(tool, CallContext(session="mallory", ancestors=("parent",)), ref)

    assert run_virtual(main()) == ["task_not_found", "source_refused"]


def test_the_last_picture_is_the_one_that_was_shown(home: Path, runapi: SandboxTransport) -> None:
    """A subagent's counts once its parent has fetched it; before, the person has not seen it."""

    async def main() -> list[Any]:
        async with opened_tool(home, runapi) as tool:
            own = await made(tool, PARENT, "a house")
            childs = await made(tool, CHILD, "a kite")
            before = await tool.call("remix_image", EDIT, caller=PARENT)
            await tool.call("get_image_task", {"task_id": childs["ref"]}, caller=PARENT)
            theirs = await tool.call("get_image_task", {"task_id": before["task"]["ref"]}, caller=MALLORY)
            nothing = await tool.call("remix_image", EDIT, caller=MALLORY)
            return [own, childs, before, theirs, nothing]

    async def later(prompt: str) -> list[Any]:
        async with opened_tool(home, runapi) as tool:
            childs = await made(tool, CHILD, prompt)
            await tool.call("get_image_task", {"task_id": childs["ref"]}, caller=PARENT)
            return [childs, await tool.call("remix_image", EDIT, caller=PARENT)]

    own, _, before, theirs, nothing = run_virtual(main())
    assert sources_of(runapi, before) == own["links"]
    assert theirs["error"]["code"] == "task_not_found"
    assert "no finished picture of this conversation" in nothing["error"]["message"]

    childs, after = run_virtual(later("a second kite"))
    assert sources_of(runapi, after) == childs["links"]


def test_a_picture_that_a_subagent_left_behind_is_told_to_its_parent(home: Path, runapi: SandboxTransport) -> None:
    """The subagent will not speak again; it was stopped before it got its picture."""

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, runapi) as tool:
            await tool.call("text_to_image", FOX, caller=CHILD, wait_s=0)
        await asyncio.sleep(60.0)
        async with opened_tool(home, runapi) as tool:
            callers = (MALLORY, PARENT, PARENT)
            return [
                await tool.call("text_to_image", {"prompt": f"number {n}"}, caller=c) for n, c in enumerate(callers)
            ]

    told = [[text for text in one["warnings"] if "earlier_image" in text] for one in run_virtual(main())]

    assert [len(texts) for texts in told] == [0, 1, 0]


def test_a_subagent_is_told_to_hand_its_picture_over(home: Path, runapi: SandboxTransport) -> None:
    """A caption is read by nobody there."""

    async def main() -> list[str]:
        async with opened_tool(home, runapi, host="native") as tool:
            results = [await tool.call("text_to_image", FOX, caller=caller) for caller in (CHILD, PARENT)]
            return [result["next"] for result in results]

    child, parent = run_virtual(main())

    assert "In your answer name its reference" in child
    assert "In your caption" in parent


def sources_of(runapi: SandboxTransport, result: dict[str, Any]) -> list[str]:
    """Return the links that were sent as a remix's sources."""
    sources: list[str] = runapi.sandbox.ledger.tasks[result["task"]["id"]].arguments["source_image_urls"]
    return sources
