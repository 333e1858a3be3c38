"""Random schedules on virtual time: each is a seed, and a seed is the whole schedule.

Some people and agents wish for images and ask until they have them; meanwhile faults fall, calls are stopped, and
processes die at a step or a moment drawn at random. Then comes a calm in which everybody asks a last time.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flux2_tool.sandbox import Fault, SandboxOptions
from tests.chaos.simulated_process import SimulatedProcess
from tests.chaos.world import KEY, ImageWanted, Verdict, World, check_invariants, keys_on_disk, late_resends, now
from tests.support.stores import is_postgres
from tests.support.virtual_time import run_virtual

MOST_CALLS: Final = 6
CALM_WAIT_S: Final = 300.0


@dataclass(slots=True, kw_only=True)
class RunResult:
    """What one schedule came to."""

    seed: int
    faults: dict[str, int] = field(default_factory=dict)
    kills: int = 0
    verdict: Verdict = field(default_factory=Verdict)


def play(seed: int, folder: Path) -> RunResult:
    """Play one schedule in a data folder of its own."""
    home = folder / f"s{seed}"
    try:
        return run_virtual(_Schedule(seed, home).play())
    finally:
        shutil.rmtree(home, ignore_errors=True)


class _Schedule:
    def __init__(self, seed: int, home: Path) -> None:
        self._seed = seed
        self._rng = random.Random(seed)  # noqa: S311
        self._home = home
        self._workers: dict[str, SimulatedProcess] = {}

    async def play(self) -> RunResult:
        rng = self._rng
        options = SandboxOptions(
            duration_s=rng.choice([0.5, 3.0, 6.0, 12.0, 40.0]),
            visible_after_s=rng.choice([0.0, 0.0, 1.0, 2.5]),
            guide_route=rng.random() > 0.15,
            status_link=rng.choice(["none", "none", "none", "location", "status_url"]),
            body_shape=rng.choice(["flat", "flat", "flat", "data", "header"]),
            drawn_images=False,
            seed=self._seed,
        )
        settings = {"save_dir": str(self._home / "kept")} if rng.random() < 0.2 else {}
        self.world = world = World(self._home, options=options, seed=self._seed, **settings)
        self._machines = rng.choice([["here"]] * 5 + [["here", "there"], ["here", "here:container"]])
        self._deadly = rng.random() < 0.7
        wanted = [self._new_wish(number) for number in range(rng.choice([1, 1, 1, 2, 3]))]
        troubles = [asyncio.ensure_future(self._throw_faults())]
        if self._deadly:
            troubles.append(asyncio.ensure_future(self._kill_at_moments()))
        # Since another boot the wall clock alone tells a request's age.
        if rng.random() < 0.3 and "there" not in self._machines:
            troubles.append(asyncio.ensure_future(self._set_clocks()))
        if rng.random() < (0.5 if is_postgres() else 0.2):
            troubles.append(asyncio.ensure_future(self._lose_the_wal()))
        await asyncio.gather(*(self._pursue(wish) for wish in wanted))
        for trouble in troubles:
            trouble.cancel()
        faults = dict(Counter(world.sandbox.faults.committed) + world.troubles)
        await self._calm()
        verdict = check_invariants(world.sandbox.ledger, world.records(), world.wanted, now=now())
        verdict.broken += world.overdue + keys_on_disk(self._home, KEY) + late_resends(world.sandbox.ledger)
        world.finish()
        return RunResult(seed=self._seed, faults=faults, kills=sum(world.deaths.values()), verdict=verdict)

    # ---- those who wish ----------------------------------------------------------------------------------------------

    def _new_wish(self, number: int) -> ImageWanted:
        kind = self._rng.choice(["native", "native", "mcp", "cli", "cli in a session"])
        # Two sessions may want the same picture: two images then.
        prompt = f"a red fox {self._rng.choice([0, number])}"
        session = None if kind == "cli" else f"session {number}"
        if session is None:
            prompt = f"a grey cat {number}"
        count = 3 if (self._seed + number) % 5 == 0 else 1
        return self.world.wish(prompt, session=session, host=kind.split()[0], count=count)

    async def _pursue(self, wish: ImageWanted) -> None:
        """Ask until the image is there or patience is over."""
        rng = self._rng
        await asyncio.sleep(rng.choice([0.0, 0.0, rng.uniform(0.0, 20.0)]))
        task_id: str | None = None
        for _ in range(MOST_CALLS):
            if wish.images or wish.ended:
                return
            wait_s = rng.choice([0.0, 3.0, 15.0, 50.0, 80.0])
            abort_after_s = rng.uniform(0.0, 10.0) if rng.random() < 0.2 else None
            asked = None if task_id is None or rng.random() < 0.5 else task_id
            racers = 2 if rng.random() < 0.2 and wish.session is not None and asked is None else 1
            # Without a session a request on another machine that is not known to be interrupted is a new one.
            machines = self._machines if wish.session is not None else ["here"]
            results = await asyncio.gather(
                *(
                    self._ask_once(wish, wait_s, abort_after_s, asked, machine=rng.choice(machines), lane=lane)
                    for lane in range(racers)
                )
            )
            for result in results:
                if result is not None and "task" in result:
                    task_id = result["task"]["id"] or task_id
            # Now and then until nobody may send again what was lost.
            pauses_s = [0.0, 0.5, rng.uniform(0.0, 60.0), rng.uniform(0.0, 60.0), rng.uniform(0.0, 1500.0)]
            await asyncio.sleep(rng.choice(pauses_s[:3] if rng.random() < 0.8 else pauses_s))

    async def _ask_once(
        self,
        wish: ImageWanted,
        wait_s: float,
        abort_after_s: float | None,
        task_id: str | None,
        *,
        machine: str,
        lane: int,
    ) -> dict[str, Any] | None:
        process = self._open("cli", machine) if wish.host == "cli" else self._worker(wish.host, machine, lane)
        result = await self.world.ask(
            process,
            wish,
            wait_s=wait_s,
            abort_after_s=abort_after_s,
            task_id=task_id,
            peer_dies=self._deadly and self._rng.random() < 0.1,
        )
        if wish.host == "cli":
            await process.aclose()
        return result

    def _worker(self, host: str, machine: str, lane: int) -> SimulatedProcess:
        """Return the long-lived process of a host, a new one when the last has died."""
        name = f"{host} {machine} {lane}"
        worker = self._workers.get(name)
        if worker is None or worker.is_dead or worker.has_lost_its_peer:
            worker = self._workers[name] = self._open(host, machine)
        return worker

    def _open(self, host: str, machine: str) -> SimulatedProcess:
        is_doomed = self._deadly and self._rng.random() < 0.45
        return self.world.open(host, machine=machine, cut_at=self._rng.randint(1, 60) if is_doomed else None)

    # ---- what goes wrong ---------------------------------------------------------------------------------------------

    async def _throw_faults(self) -> None:
        rng = self._rng
        self.world.sandbox.faults.queue(*(draw_fault(rng) for _ in range(rng.choice([0, 1, 2, 4]))))
        while True:
            await asyncio.sleep(rng.uniform(0.5, 40.0))
            self.world.sandbox.faults.queue(draw_fault(rng))

    async def _kill_at_moments(self) -> None:
        rng = self._rng
        while True:
            await asyncio.sleep(rng.uniform(0.5, 60.0))
            living = [process for process in self.world.processes if not process.is_dead]
            if living and rng.random() < 0.5:
                self.world.kill(rng.choice(living))
            elif living:
                stall_s = rng.uniform(5.0, 90.0) if rng.random() < 0.8 else rng.uniform(600.0, 1500.0)
                rng.choice(living).stalled_until_s = asyncio.get_running_loop().time() + stall_s

    async def _set_clocks(self) -> None:
        rng = self._rng
        while True:
            await asyncio.sleep(rng.uniform(0.5, 60.0))
            step_s = rng.choice([1.0, 60.0, 3600.0, 365 * 86400.0]) * rng.choice([-1.0, 1.0])
            self.world.step_clock(rng.choice(self._machines), step_s)

    async def _lose_the_wal(self) -> None:
        rng = self._rng
        while True:
            await asyncio.sleep(rng.uniform(0.5, 60.0))
            self.world.lose_files("-wal", "-shm")

    # ---- the end -----------------------------------------------------------------------------------------------------

    async def _calm(self) -> None:
        """End every process, let faults and running tasks pass, and have everybody ask once more."""
        world = self.world
        world.sandbox.faults.clear()
        self._deadly = False
        self._workers.clear()
        for process in world.processes:
            world.kill(process, "at the end") if self._rng.random() < 0.5 else await process.aclose()
        # Longer than any lease: a process of the other machine is never seen to be gone.
        await asyncio.sleep(60.0)
        await self._ask_a_last_time()
        last = world.open("native")
        await last.start(last.tool.resume())
        # What was followed in vain may have come to an end by this.
        await self._ask_a_last_time()
        for process in world.processes:
            await process.aclose()

    async def _ask_a_last_time(self) -> None:
        for wish in self.world.wanted:
            if not wish.images and wish.ended is None:
                await self._ask_once(wish, CALM_WAIT_S, None, None, machine="here", lane=0)


def draw_fault(rng: random.Random) -> Fault:
    """Return one fault; most fall on creates, because there the money is."""
    draw: Callable[[random.Random], Fault] = rng.choice(_CREATE_FAULTS if rng.random() < 0.6 else _POLL_FAULTS)
    return draw(rng)


def _status(on: Any, *codes: int, accepted: bool = False) -> Any:
    def draw(rng: random.Random) -> Fault:
        return Fault(
            kind="status",
            on=on,
            status=rng.choice(codes),
            accepted=accepted,
            body=rng.choice(["json", "html", "text", "empty"]),
            retry_after=rng.choice([None, None, 0.2, 2, "date:3", 30, "soon"]),
            times=rng.choice([1, 1, 1, 2, 4, 8]),
        )

    return draw


def _plain(kind: Any, on: Any, **options: Any) -> Any:
    return lambda rng: Fault(kind=kind, on=on, times=rng.choice([1, 1, 2, 3]), **options)


def _late(on: Any, *, accepted: bool) -> Any:
    return lambda rng: Fault(
        kind="latency", on=on, accepted=accepted, delay_s=rng.choice([0.5, 5.0, rng.uniform(1.0, 30.0), 50.0, 100.0])
    )


def _odd_create(rng: random.Random) -> Fault:
    """The task is made, and the answer is one that proves nothing."""
    code = rng.choice([301, 302, 303, 307, 308, 300, 304, 406, 418, 421, 424, 451, 460, 499, 599])
    times = rng.choice([1, 1, 2, 4])
    if code in (301, 302, 303, 307, 308) and rng.random() < 0.8:
        return Fault(kind="redirect", on="create", accepted=True, status=code, times=times)
    return Fault(
        kind="status", on="create", accepted=True, status=code, body=rng.choice(["json", "empty"]), times=times
    )


def _in_progress(rng: random.Random) -> Fault:
    return Fault(kind="in_progress", on="create", delay_s=rng.choice([0.5, 5.0, 30.0, rng.uniform(1.0, 200.0)]))


_CREATE_FAULTS: Final = (
    *[_plain("drop_before", "create")] * 4,
    *[_plain("drop_after", "create")] * 6,
    *[_plain("truncated_body", "create")] * 2,
    *[_plain("broken_json", "create")] * 3,
    *[_status("create", 429)] * 2,
    *[_status("create", 408, 500, 502, 503, 504)] * 3,
    *[_status("create", 500, 502, 503, 504, accepted=True)] * 4,
    *[_late("create", accepted=False)] * 2,
    *[_late("create", accepted=True)] * 3,
    _status("create", 404, 405, 501),
    _status("create", 409),
    _status("create", 409, accepted=True),
    *[_odd_create] * 4,
    *[_in_progress] * 3,
    *[_plain("stray", "create")] * 3,
    _status("create", 401, 402),
    *[_status("create", 400, 413, 415, 422)] * 3,
    _plain("redirect", "create"),
    _plain("failed", "create"),
    _plain("no_images", "create"),
    _plain("late_images", "create"),
    _plain("envelope", "create"),
)
_POLL_FAULTS: Final = (
    _plain("drop_before", "poll"),
    _plain("drop_after", "poll"),
    _plain("truncated_body", "poll"),
    _plain("broken_json", "poll"),
    _status("poll", 429),
    _status("poll", 404, 405, 500, 502, 503),
    _status("poll", 401),
    _late("poll", accepted=False),
    _late("poll", accepted=True),
    _plain("unknown_status", "poll"),
    _plain("no_images", "poll"),
    _plain("retry_after", "poll", retry_after=7),
    _plain("failed", "poll"),
    *[_plain("stray", "poll")] * 2,
    lambda rng: Fault(kind="unknown_status", on="poll", value="Task not found", times=rng.choice([1, 2, 3])),
    *[_late("storage", accepted=True)] * 2,
    lambda rng: Fault(kind="oversized_body", on=rng.choice(["create", "poll"]), size_bytes=4_200_000),
)
