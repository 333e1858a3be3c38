"""Alarms: events that are waited for with a limit."""

from __future__ import annotations

import asyncio

import pytest

from flux2_tool._clock import Alarm, SystemClock
from tests.support.virtual_time import run_virtual


def test_an_alarm_ends_every_wait_for_it_at_once() -> None:
    async def main() -> tuple[list[bool], float]:
        alarm, clock = Alarm(), SystemClock()
        waiting = [asyncio.create_task(clock.wait(alarm, 60.0)) for _ in range(2)]
        waiting.append(asyncio.create_task(alarm.wait()))
        await asyncio.sleep(5.0)
        alarm.set()
        return await asyncio.gather(*waiting), clock.monotonic()

    assert run_virtual(main()) == ([True, True, True], 5.0)


@pytest.mark.parametrize("limit_s", [0.0, -1.0, 7.0])
def test_a_wait_ends_at_its_limit_and_leaves_the_alarm_as_it_is(limit_s: float) -> None:
    async def main() -> tuple[bool, bool, float]:
        alarm, clock = Alarm(), SystemClock()
        heard = await clock.wait(alarm, limit_s)
        return heard, alarm.is_set(), clock.monotonic()

    assert run_virtual(main()) == (False, False, max(0.0, limit_s))


def test_an_alarm_that_is_set_or_cleared_is_an_event() -> None:
    async def main() -> list[bool]:
        alarm, clock = Alarm(), SystemClock()
        alarm.set()
        heard = [await clock.wait(alarm, 1.0)]
        alarm.clear()
        return [*heard, await clock.wait(alarm, 1.0), await clock.wait(alarm, 1.0)]

    assert run_virtual(main()) == [True, False, False]


def test_a_wait_for_an_alarm_can_be_cancelled() -> None:
    """And is, also when the alarm is set at that moment: whoever stops a call is not held up by its task."""

    async def main() -> bool:
        alarm, clock = Alarm(), SystemClock()
        waiting = asyncio.create_task(clock.wait(alarm, 60.0))
        await asyncio.sleep(1.0)
        waiting.cancel()
        alarm.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return alarm.is_set()

    assert run_virtual(main())
