"""The stage itself: if virtual time were wrong, every test that waits would prove nothing."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.virtual_time import START_S, StuckError, VirtualClock, run_virtual


def test_hours_pass_at_once_and_in_order() -> None:
    """Deadlines of 15 minutes are tested thousands of times."""

    async def main() -> list[tuple[str, float]]:
        told: list[tuple[str, float]] = []

        async def sleeper(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            told.append((name, VirtualClock().now() - START_S))

        await asyncio.gather(sleeper("late", 7200.0), sleeper("early", 0.5))
        return told

    told = run_virtual(main())

    assert [name for name, _ in told] == ["early", "late"]
    assert [at for _, at in told] == pytest.approx([0.5, 7200.0])


def test_time_stands_still_while_a_thread_works() -> None:
    """A picture is decoded in a thread; its download must not time out because virtual time jumped."""

    async def main() -> float:
        async with asyncio.timeout(60.0):
            await asyncio.to_thread(time.sleep, 0.05)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 0.0


def test_a_wait_for_nothing_is_an_error_and_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that can never finish must say so."""
    monkeypatch.setitem(run_virtual.__globals__, "_STUCK_AFTER_S", 0.01)

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StuckError):
        run_virtual(main())
