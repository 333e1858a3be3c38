"""An account's pace that several processes share: each limiter is one process's, and they tell each other."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest

from flux2_tool.runapi.rate_limit import Pace, RateLimiter
from tests.support.virtual_time import VirtualClock, run_virtual

PACE = Pace(version=1, refusals=1, in_a_row=1, gap_s=0.2, closed_s=5.0)


async def permits(limiter: RateLimiter, count: int) -> list[float]:
    """Return when a process may send its next requests."""
    return [await limiter.acquire() for _ in range(count)]


@pytest.mark.parametrize("senders", [1, 2, 5])
def test_processes_after_a_429_send_as_one_would(senders: int) -> None:
    """One after the other, and not all at the moment when the account may send again."""

    async def main() -> list[float]:
        limiters = [RateLimiter(VirtualClock()) for _ in range(senders)]
        for place, limiter in enumerate(limiters):
            limiter.adopt(replace(PACE, senders=senders, place=place))
        each = await asyncio.gather(*(permits(limiter, 4) for limiter in limiters))
        return sorted(itertools.chain(*each))

    sent_s = run_virtual(main())

    assert sent_s == pytest.approx([5.0 + 0.2 * number for number in range(4 * senders)])


def test_a_429_elsewhere_holds_back_who_waits_already() -> None:
    """A request that was about to be sent has to wait as long as every other."""

    async def main() -> float:
        limiter = RateLimiter(VirtualClock())
        limiter.adopt(replace(PACE, closed_s=1.0))
        await limiter.acquire()
        waiting = asyncio.ensure_future(limiter.acquire())
        await asyncio.sleep(0.1)
        limiter.adopt(replace(PACE, version=2, refusals=2, closed_s=30.0))
        return await waiting

    assert run_virtual(main()) == pytest.approx(1.1 + 30.0)


def test_news_of_the_end_wake_who_waits() -> None:
    """What others have found out need not be waited for once more."""

    async def main() -> float:
        limiter = RateLimiter(VirtualClock())
        limiter.adopt(replace(PACE, gap_s=2.0, closed_s=1.0, senders=50, place=49))
        waiting = asyncio.ensure_future(limiter.acquire())
        await asyncio.sleep(3.0)
        limiter.adopt(replace(PACE, version=2, gap_s=0.0, closed_s=0.0))
        return await waiting

    assert run_virtual(main()) == pytest.approx(3.0)


def test_outdated_news_change_nothing() -> None:
    """Messages may overtake each other."""

    async def main() -> bool:
        limiter = RateLimiter(VirtualClock())
        limiter.adopt(replace(PACE, version=3, gap_s=0.0, closed_s=0.0))
        limiter.adopt(replace(PACE, version=2))
        return limiter.is_slowed

    assert not run_virtual(main())


def test_good_responses_are_told_some_at_a_time() -> None:
    """Telling each would cost as many writes as there are requests."""

    async def main() -> list[int]:
        told = []

        def tell(limiter: RateLimiter) -> None:
            change = limiter.take_change()
            assert change is not None
            told.append(change.responses)
            limiter.was_told(None)

        limiter = RateLimiter(VirtualClock(), on_change=tell)
        limiter.adopt(PACE)
        for _ in range(30):
            limiter.record_response(is_rate_limited=False, sent_at_s=await limiter.acquire())
        return told

    told = run_virtual(main())

    assert told[:-1] == [3] * (len(told) - 1)
    assert sum(told) == 11, "from then on the account is not slowed"


def test_a_response_to_what_was_sent_before_a_429_relieves_nothing() -> None:
    """A hundred requests in flight would undo the pause that the 429 asked for."""

    async def main() -> float:
        limiter = RateLimiter(VirtualClock())
        sent_at_s = await limiter.acquire()
        await asyncio.sleep(1.0)
        limiter.record_response(is_rate_limited=True, sent_at_s=sent_at_s, retry_after_s=30.0)
        for _ in range(100):
            limiter.record_response(is_rate_limited=False, sent_at_s=sent_at_s)
        return await limiter.acquire()

    assert run_virtual(main()) >= 31.0


def test_who_cannot_tell_goes_by_what_it_meets_itself() -> None:
    """The database may be away; the account is still limited, and still recovers."""

    async def main() -> tuple[float, bool]:
        def tell(limiter: RateLimiter) -> None:
            limiter.take_change()
            limiter.was_told(None)

        limiter = RateLimiter(VirtualClock(), on_change=tell)
        limiter.record_response(is_rate_limited=True, sent_at_s=await limiter.acquire(), retry_after_s=3.0)
        first_s = await limiter.acquire()
        for _ in range(20):
            limiter.record_response(is_rate_limited=False, sent_at_s=await limiter.acquire())
        return first_s, limiter.is_slowed

    assert run_virtual(main()) == (3.0, False)
