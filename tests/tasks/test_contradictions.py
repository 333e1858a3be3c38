"""A history that lies: the first task that contradicts it has all others of its kind polled at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import fmean

import pytest

from flux2_tool.sandbox import SandboxOptions
from flux2_tool.tasks.poll_schedule import FIXED_DELAY_S, MAX_GAP_S
from tests.support.harness import SandboxTransport, opened_tool
from tests.support.hosted import HostedEngine
from tests.support.virtual_time import run_virtual

_IN_FLIGHT = 6


def _service(duration_s: float) -> SandboxTransport:
    return SandboxTransport(SandboxOptions(duration_s=duration_s, drawn_images=False, seed=round(duration_s)))


def _make(home: Path, runapi: SandboxTransport, count: int, *, every_s: float) -> None:
    """Make pictures in one process, begun one after the other at an interval."""

    async def one(tool: HostedEngine, number: int) -> None:
        await asyncio.sleep(number * every_s)
        result = await tool.call("text_to_image", {"prompt": f"fox {number}"})
        assert "error" not in result, result

    async def main() -> None:
        async with opened_tool(home, runapi) as tool:
            await asyncio.gather(*(one(tool, number) for number in range(count)))

    run_virtual(main())


@pytest.mark.parametrize(("believed_s", "is_s"), [(60.0, 6.0), (40.0, 12.0)])
def test_one_contradiction_has_the_others_in_flight_polled_soon(home: Path, believed_s: float, is_s: float) -> None:
    """Only what had ended before it is late by more than the fixed interval."""
    _make(home, _service(believed_s), 40, every_s=0.0)
    faster = _service(is_s)
    _make(home, faster, _IN_FLIGHT, every_s=0.5)

    ended = {
        task.id: (task.finish_at, task.first_seen_finished_at or float("inf"))
        for task in faster.sandbox.ledger.tasks.values()
    }
    first_seen_at = min(seen_at for _, seen_at in ended.values())

    assert first_seen_at - min(finish_at for finish_at, _ in ended.values()) <= MAX_GAP_S
    assert max(seen_at - max(finish_at, first_seen_at) for finish_at, seen_at in ended.values()) <= 1.1 * FIXED_DELAY_S


def test_a_task_that_outlives_what_was_expected_tells_the_others(home: Path) -> None:
    """A service that became slow is not asked as often as one that is about to end."""
    _make(home, _service(3.0), 40, every_s=0.0)
    slower = _service(30.0)
    _make(home, slower, _IN_FLIGHT, every_s=4.0)

    polls = [task.polls for task in slower.sandbox.ledger.tasks.values()]
    assert fmean(polls[2:]) <= 30.0 / FIXED_DELAY_S + 2
    assert max(polls) <= 30.0 / FIXED_DELAY_S + 8
