"""Pictures begun together: the first results must not have the others polled more often, nor later."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from statistics import fmean

from flux2_tool.sandbox import SandboxOptions
from flux2_tool.sandbox.ledger import Task
from flux2_tool.tasks.poll_schedule import FIXED_DELAY_S
from tests.support.harness import SandboxTransport, opened_tool
from tests.support.virtual_time import run_virtual

_TOGETHER = 60
_SLOW_KIND = {"model": "flux-2-flex-text-to-image", "output_resolution": "2k"}


def _begun_together(home: Path, *, seed: int) -> list[Task]:
    """Make pictures of drawn durations in one process, all begun at once; return the sandbox's records."""
    runapi = SandboxTransport(SandboxOptions(drawn_images=False, seed=seed))

    async def main() -> None:
        async with opened_tool(home, runapi) as tool:
            pictures = [_SLOW_KIND | {"prompt": f"fox {number}"} for number in range(_TOGETHER)]
            results = await asyncio.gather(*(tool.call("text_to_image", picture) for picture in pictures))
        assert not [result for result in results if "error" in result]

    run_virtual(main())
    return list(runapi.sandbox.ledger.tasks.values())


def _against_the_fixed_interval(tasks: list[Task]) -> tuple[float, float]:
    """Return mean lateness and polls as shares of polling at once and then every 2 s, for the same durations."""
    durations_s = [task.finish_at - task.created_at for task in tasks]
    rounds = [math.ceil(duration_s / FIXED_DELAY_S) for duration_s in durations_s]
    late_s = fmean((task.first_seen_finished_at or math.inf) - task.finish_at for task in tasks)
    fixed_late_s = fmean(
        count * FIXED_DELAY_S - duration_s for count, duration_s in zip(rounds, durations_s, strict=True)
    )
    return late_s / fixed_late_s, fmean(task.polls for task in tasks) / fmean(count + 1 for count in rounds)


def test_pictures_begun_together_cost_no_more_polls(home: Path) -> None:
    """The shortest end first, and would make the rest believe that they are overdue; with a history and without."""
    cold = _against_the_fixed_interval(_begun_together(home, seed=1))
    warm = _against_the_fixed_interval(_begun_together(home, seed=2))

    assert cold[0] <= 0.85
    assert cold[1] <= 1.05
    assert warm[0] <= 0.4
    assert warm[1] <= 1.1
