"""Schedules with real processes: they share a journal file, talk to a sandbox over sockets, and are killed by SIGKILL.

Each schedule wants one image with a key of its own. Processes are killed at moments drawn at random or just
after a POST has arrived, one or two at a time, then somebody asks a last time and the ledger is judged. Most
processes are forks of a fork server; now and then it is the worker itself, `python -m flux2_tool worker`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from flux2_tool.engine.wait import SUBMIT_GRACE_S
from flux2_tool.sandbox import Ledger, Sandbox, SandboxOptions, running_sandbox
from tests.chaos.schedules import RunResult, draw_fault
from tests.chaos.workers import WorkerProcess
from tests.chaos.world import KILLED_SERVER, ImageWanted, check_invariants, keys_on_disk
from tests.support.fast_clock import FastClock
from tests.support.stores import is_postgres, records_of, server, url

SPEED: Final = 20.0
LANES: Final = 6
# One schedule in so many kills the worker itself; it starts slowly and lives in real time.
WORKER_EVERY: Final = 15
# What a busy machine may take for a process's start and end, in real seconds.
REAL_SLACK_S: Final = 5.0
# What a call may wait in addition for a server that is away; that is measured in real time too.
AWAY_SLACK_S: Final = 25.0
STUCK_AFTER_S: Final = 90.0
# How often the database's server may be killed while somebody asks a last time.
MOST_REFUSALS: Final = 20
ROOT: Final = Path(__file__).resolve().parents[2]


class ForkServer:
    """The other end of `fork_server.py`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._orders = 0
        self._waiting: dict[int, Child] = {}
        self._reader = asyncio.ensure_future(self._read())

    def start(self, order: dict[str, Any]) -> Child:
        """Begin a process that makes one call."""
        self._orders += 1
        child = Child()
        self._waiting[self._orders] = child
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**order, "id": self._orders}).encode() + b"\n")
        return child

    async def close(self) -> None:
        """End the fork server and every child that is left."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            news = json.loads(line)
            child = self._waiting[news["id"]]
            if "pid" in news:
                child.pid.set_result(news["pid"])
            elif "result" in news:
                child.result, child.took_s = news["result"], news["took_s"]
                child.answered.set()
            else:
                del self._waiting[news["id"]]
                child.ended.set_result(news["ended"])
                child.answered.set()


class Child:
    """One forked process."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.pid: asyncio.Future[int] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self.answered = asyncio.Event()
        self.result: dict[str, Any] | None = None
        self.took_s = 0.0
        self.budget_s = 0.0

    async def kill(self) -> bool:
        """Kill it; return whether it was still alive."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(await self.pid, signal.SIGKILL)
        return await self.ended == -signal.SIGKILL


@asynccontextmanager
async def open_fork_server() -> AsyncIterator[ForkServer]:
    """Start the fork server."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.chaos.fork_server",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    fork_server = ForkServer(process)
    try:
        yield fork_server
    finally:
        await fork_server.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One sandbox, for one schedule at a time."""

    base_url: str
    sandbox: Sandbox
    epoch_s: float


async def play_all(first_seed: int, count: int, folder: Path, *, lanes_count: int = LANES) -> list[RunResult]:
    """Play schedules until this many of them had a killed process, or three times as many were played."""
    seeds = iter(range(first_seed, first_seed + 3 * count))
    played: list[RunResult] = []

    async def work(lane: Lane) -> None:
        while sum(1 for one in played if one.kills) < count:
            seed = next(seeds, None)
            if seed is None:
                return
            async with asyncio.timeout(300.0 if is_postgres() else STUCK_AFTER_S):
                played.append(await _KillSchedule(seed, folder / f"k{seed}", lane, fork_server, killer).play())

    with contextlib.ExitStack() as sandboxes:
        if is_postgres():
            url()  # a server for all of them
        killer = ServerKiller(first_seed)
        async with open_fork_server() as fork_server:
            lanes = []
            for _ in range(lanes_count):
                epoch_s = time.time()
                options = SandboxOptions(drawn_images=False, duration_s=6.0, seed=first_seed)
                clock = FastClock(epoch_s, SPEED).now
                base_url, sandbox = sandboxes.enter_context(running_sandbox(options, clock=clock))
                lanes.append(Lane(base_url=base_url, sandbox=sandbox, epoch_s=epoch_s))
            try:
                await asyncio.gather(*(work(lane) for lane in lanes))
            finally:
                await killer.close()
    if killer.kills:
        played[-1].faults[KILLED_SERVER] = killer.kills
    return played


class ServerKiller:
    """Kills the database's server now and then, and starts it again.

    Attributes:
        kills: How many, by now.
        is_down: Whether it is not there again yet.
    """

    def __init__(self, seed: int) -> None:
        self.kills = 0
        self.is_down = False
        self._rng = random.Random(seed)  # noqa: S311
        self._server = server() if is_postgres() else None
        self._over = asyncio.Event()
        self._work = asyncio.ensure_future(self._kill())

    async def close(self) -> None:
        """Kill no more."""
        self._over.set()
        await self._work

    async def _kill(self) -> None:
        while self._server is not None and not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), self._rng.uniform(2.0, 10.0))
                return
            self.kills += 1
            self.is_down = True
            await asyncio.to_thread(self._server.crash, self._rng.choice([0.0, 0.0, self._rng.uniform(0.0, 0.5)]))
            self.is_down = False


class _KillSchedule:
    def __init__(self, seed: int, home: Path, lane: Lane, fork_server: ForkServer, killer: ServerKiller) -> None:
        self._seed = seed
        self._rng = random.Random(seed)  # noqa: S311
        self._home = home
        self._lane = lane
        self._fork_server = fork_server
        self._killer = killer
        self._key = f"sk-kill-{seed}-{hashlib.sha256(str(seed).encode()).hexdigest()[:12]}"
        self._kills = 0
        self._overdue: list[str] = []
        self._children: list[Child] = []

    async def play(self) -> RunResult:
        rng, sandbox = self._rng, self._lane.sandbox
        # A worker has its own clock, and its leases would be measured by the fast one of the others.
        self._with_worker = self._seed % WORKER_EVERY == 0 and not is_postgres()
        host = rng.choice(["native", "native", "cli"])
        wish = ImageWanted(
            prompt=f"a red fox {self._seed}",
            session=None if host == "cli" and rng.random() < 0.5 and not self._with_worker else "main/a session",
            host=host,
        )
        sandbox.faults.clear()
        sandbox.change({"duration_s": rng.choice([0.5, 4.0, 8.0]), "guide_route": rng.random() > 0.15})
        before = Counter(sandbox.faults.committed)
        try:
            for _ in range(rng.choice([1, 1, 2, 3])):
                sandbox.faults.queue(*(_quick(draw_fault(rng)) for _ in range(rng.choice([0, 1, 2, 3]))))
                if not wish.images:
                    await self._ask_and_kill(wish)
            sandbox.faults.clear()
            faults = dict(Counter(sandbox.faults.committed) - before)
            if not wish.images:
                await self._ask_a_last_time(wish)
            for child in self._children:
                await child.ended
            now = FastClock(self._lane.epoch_s, SPEED).now()
            verdict = check_invariants(self._ledger(), records_of(self._home), [wish], now=now)
            verdict.broken += self._overdue + keys_on_disk(self._home, self._key)
        finally:
            shutil.rmtree(self._home, ignore_errors=True)
        return RunResult(seed=self._seed, faults=faults, kills=self._kills, verdict=verdict)

    # ---- those who ask, and die --------------------------------------------------------------------------------------

    async def _ask_and_kill(self, wish: ImageWanted) -> None:
        """Ask once, with one process or two that race, and kill them on the way."""
        rng = self._rng
        if self._with_worker:
            await self._lose_a_worker(wish)
            return
        # A command that ends has shown its image; only where processes stay can two of them really race.
        racers = 2 if wish.host == "native" and rng.random() < 0.3 else 1
        posts = len(self._lane.sandbox.ledger.creates)
        go = None if racers == 1 else self._home.with_suffix(f".go{len(self._children)}")
        children = [self._start(wish, wait_s=rng.choice([3.0, 30.0, 80.0]), go=go) for _ in range(racers)]
        if go is not None:
            for child in children:
                await child.pid
            go.touch()
        for child in children[: rng.randint(1, racers)]:
            if rng.random() < 0.5:
                await asyncio.sleep(rng.uniform(0.0, 0.5))
            else:
                await self._first_post(child, posts)
                await asyncio.sleep(rng.choice([0.0, rng.uniform(0.0, 0.05), rng.uniform(0.0, 0.4)]))
            self._kills += await child.kill()
        for child in children:
            await child.answered.wait()
            self._take_from(wish, child)

    async def _lose_a_worker(self, wish: ImageWanted) -> None:
        posts = len(self._lane.sandbox.ledger.creates)
        worker = await self._start_worker(wish)
        if self._rng.random() < 0.3:
            await asyncio.sleep(self._rng.uniform(0.0, 3.0))
        else:
            while len(self._lane.sandbox.ledger.creates) == posts and not worker.answered.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            await asyncio.sleep(self._rng.choice([0.0, self._rng.uniform(0.0, 2.0)]))
        if self._rng.random() < 0.5:
            self._kills += await worker.kill()
        else:
            if self._rng.random() < 0.7:
                await worker.answered.wait()
            await worker.lose_its_peer()
        self._take(wish, worker.result)

    async def _start_worker(self, wish: ImageWanted) -> WorkerProcess:
        return await WorkerProcess.start(
            home=self._home,
            base_url=self._lane.base_url,
            key=self._key,
            session="a session",
            prompt=wish.prompt,
            wait_s=30.0,
        )

    async def _ask(self, wish: ImageWanted, *, wait_s: float) -> None:
        if self._with_worker:
            worker = await self._start_worker(wish)
            await worker.answered.wait()
            self._take(wish, worker.result)
            await worker.close()
            return
        child = self._start(wish, wait_s=wait_s)
        await child.answered.wait()
        self._take_from(wish, child)

    async def _ask_a_last_time(self, wish: ImageWanted) -> None:
        """Ask until the database's server has lived as long as who asks: all else is written later, by the next one."""
        for _ in range(MOST_REFUSALS):
            kills, was_down = self._killer.kills, self._killer.is_down
            await self._ask(wish, wait_s=300.0)
            for child in self._children[-1:]:  # none where a worker was asked
                await child.ended
            if (kills == self._killer.kills and not was_down) or wish.images:
                return

    async def _first_post(self, child: Child, posts: int) -> None:
        while len(self._lane.sandbox.ledger.creates) == posts and not child.answered.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.002)

    def _start(self, wish: ImageWanted, *, wait_s: float, go: Path | None = None) -> Child:
        child = self._fork_server.start(
            {
                "home": str(self._home),
                "base_url": self._lane.base_url,
                "key": self._key,
                "host": wish.host,
                "session": wish.session,
                "prompt": wish.prompt,
                "wait_s": wait_s,
                "speed": SPEED,
                "epoch_s": self._lane.epoch_s,
                "go": None if go is None else str(go),
            }
        )
        self._children.append(child)
        child.budget_s = wait_s + SUBMIT_GRACE_S + (AWAY_SLACK_S if is_postgres() else REAL_SLACK_S) * SPEED
        return child

    def _take_from(self, wish: ImageWanted, child: Child) -> None:
        self._take(wish, child.result)
        if child.result is not None and child.took_s > child.budget_s:
            self._overdue.append(f"a call took {child.took_s:.1f} s of {child.budget_s:.1f} s")

    def _take(self, wish: ImageWanted, result: dict[str, Any] | None) -> None:
        wish.last = result or wish.last
        if result is not None and result.get("task", {}).get("state") == "completed":
            wish.images += [image["url"] for image in result["images"]]

    def _ledger(self) -> Ledger:
        """The ledger of this schedule's key alone."""
        whole = self._lane.sandbox.ledger
        mark = hashlib.sha256(self._key.encode()).hexdigest()[:12]
        mine = Ledger(whole.seed)
        mine.creates = [create for create in whole.creates if create.key_fingerprint == mark]
        mine.tasks = {name: task for name, task in whole.tasks.items() if task.key_fingerprint == mark}
        mine.authorization_leaks = whole.authorization_leaks
        return mine


def _quick(fault: Any) -> Any:
    """Return a fault whose real delays suit the fast clock."""
    return replace(fault, delay_s=min(fault.delay_s / SPEED, 2.5))
