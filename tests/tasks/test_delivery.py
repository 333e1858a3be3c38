"""When a picture counts as given to its caller: once its call has returned, and not while it is about to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.engine.wait import CancelToken
from tests.support.harness import FOX, numbered, opened_tool
from tests.support.journal import slow_at
from tests.support.stores import records_of
from tests.support.virtual_time import run_virtual


@pytest.mark.parametrize("how", ["cancelled", "stopped"])
def test_a_picture_whose_call_left_at_its_end_is_not_paid_again(home: Path, how: str) -> None:
    """A slow disk may hold a call up when its picture is there; who leaves it then has got nothing."""
    transport, cancel = numbered(), CancelToken()

    async def main() -> tuple[list[str], dict[str, Any], dict[str, Any]]:
        async with opened_tool(home, transport, opener=slow_at("not_given", seconds=20.0)) as tool:
            call = asyncio.create_task(tool.call("text_to_image", FOX, session="s", cancel=cancel))
            await asyncio.sleep(15.0)
            states = [record.state for record in records_of(home)]
            if how == "cancelled":
                call.cancel()
            else:
                cancel.set()
            await asyncio.gather(call, return_exceptions=True)
            await asyncio.sleep(10.0)
            again = await tool.call("text_to_image", FOX, session="s")
            await asyncio.sleep(10.0)
            return states, again, await tool.call("text_to_image", FOX, session="s")

    states, again, third = run_virtual(main())

    assert states == ["completed"]
    assert (again["task"]["id"], again["task"]["joined"]) == ("tsk_1", True)
    assert (third["task"]["id"], len(transport.posts)) == ("tsk_2", 2)


def test_an_equal_call_joins_a_picture_that_is_about_to_be_returned(home: Path) -> None:
    """It has not been returned yet, so the two are one request: neither an image of its own, nor one left behind."""
    transport = numbered()

    async def main() -> list[dict[str, Any]]:
        async with opened_tool(home, transport, opener=slow_at("not_given", seconds=20.0)) as tool:
            first = asyncio.create_task(tool.call("text_to_image", FOX, session="s"))
            await asyncio.sleep(15.0)
            return [await tool.call("text_to_image", FOX, session="s"), await first]

    results = run_virtual(main())

    assert [result["task"]["id"] for result in results] == ["tsk_1"] * 2
    assert len(transport.posts) == 1
    assert not any("earlier_image" in text for result in results for text in result["warnings"])
