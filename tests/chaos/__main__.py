"""Play random schedules of faults and deaths, and check each against the sandbox's own ledger.

    python -m tests.chaos --schedules 10000 --kills 1000 --seed 7

plays 10,000 schedules, 1,000 of them with real processes killed by SIGKILL and the rest on virtual time with
processes that die at injected points, and prints one line: schedules, faults by kind, kills, billed, billed twice,
lost, foreign pictures. A schedule in which an invariant does not hold is named with its seed, and the exit code is 1.

    python -m tests.chaos --replay 7000123

plays one schedule again: on virtual time exactly; with real processes (seeds that `--kills` names) as nearly as the
machine allows. Run it from a checkout with the extra `dev` installed.

    python -m tests.chaos --journal postgres --schedules 2000 --kills 300

plays with journals in PostgreSQL: connections break instead of files that vanish, and servers are killed by SIGKILL and
started again, under the processes that are killed too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from tests.chaos.kills import ROOT, play_all
from tests.chaos.schedules import RunResult, play
from tests.chaos.world import KILLED_SERVER, Verdict
from tests.support.stores import STORES, choose, own_environ

SEEDS_PER_RUN: Final = 1_000_000
KILL_SEEDS_FROM: Final = 500_000
SHARD: Final = 50


@dataclass(slots=True)
class Totals:
    """What all schedules came to together."""

    schedules: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    cuts: int = 0
    sigkills: int = 0
    killed_schedules: int = 0
    server_kills: int = 0
    billed: int = 0
    billed_twice: int = 0
    lost: int = 0
    foreign: int = 0
    broken: list[str] = field(default_factory=list)

    def add(self, played: RunResult, *, is_real: bool) -> None:
        """Count one schedule."""
        self.schedules += 1
        self.faults.update(played.faults)
        self.server_kills += self.faults.pop(KILLED_SERVER, 0)
        if is_real:
            self.sigkills += played.kills
            self.killed_schedules += bool(played.kills)
        else:
            self.cuts += played.kills
        self.billed += played.verdict.billed
        self.billed_twice += played.verdict.billed_twice
        self.lost += played.verdict.lost
        self.foreign += played.verdict.foreign
        self.broken += [f"seed {played.seed}: {said}" for said in played.verdict.broken]

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.faults.most_common())
        return (
            f"{self.schedules} schedules; {self.faults.total()} faults ({kinds}); {self.cuts} deaths at injected "
            f"points, {self.sigkills} by SIGKILL in {self.killed_schedules} schedules, "
            f"{self.server_kills} kills of the database's server; {self.billed} billed, "
            f"{self.billed_twice} billed twice, {self.lost} lost, {self.foreign} foreign pictures"
        )


async def run(schedules: int, kills: int, seed: int) -> Totals:
    """Play schedules, `kills` of them with real processes, on all processors."""
    first = seed * SEEDS_PER_RUN
    virtual = schedules - kills
    shards = iter([(first + start, min(SHARD, virtual - start)) for start in range(0, virtual, SHARD)])
    totals = Totals()

    async def play_shards() -> None:
        for start, count in shards:
            for played in await _play_shard(start, count):
                totals.add(played, is_real=False)

    async def play_kills() -> None:
        with _scratch() as folder:
            for played in (await play_all(first + KILL_SEEDS_FROM, kills, folder)) if kills else []:
                totals.add(played, is_real=True)

    await asyncio.gather(play_kills(), *(play_shards() for _ in range(os.cpu_count() or 1)))
    return totals


async def _play_shard(start: int, count: int) -> list[RunResult]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos", "--shard", str(start), str(count)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        # A server of its own, which it may kill.
        env={**own_environ(), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the schedules from seed {start} ended with code {process.returncode}")
    found = [json.loads(line) for line in output.splitlines()]
    return [RunResult(**{**played, "verdict": Verdict(**played["verdict"])}) for played in found]


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder in memory where there is one: what is tested is the order of writes, and not the disk."""
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def _play_here(start: int, count: int) -> list[RunResult]:
    """Play in this process."""
    with _scratch() as folder:
        return [play(seed, folder) for seed in range(start, start + count)]


def main() -> int:
    """Return 0 when every invariant held in every schedule."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--schedules", type=int, default=1000, metavar="N", help="how many in all (1000)")
    parser.add_argument("--kills", type=int, default=120, metavar="N", help="how many with real processes (120)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="which ones (1)")
    parser.add_argument("--replay", type=int, metavar="SEED", help="play one again, and log what the package does")
    parser.add_argument("--shard", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--journal", choices=STORES, help="which store the journals are in (sqlite)")
    options = parser.parse_args()
    if options.journal is not None:
        choose(options.journal)
    if options.shard:
        logging.disable(logging.CRITICAL)
        for played in _play_here(*options.shard):
            sys.stdout.write(json.dumps(asdict(played)) + "\n")
        return 0
    if options.replay is not None:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
        totals = Totals()
        if options.replay % SEEDS_PER_RUN >= KILL_SEEDS_FROM:
            with _scratch() as folder:
                for played in asyncio.run(play_all(options.replay, 1, folder, lanes_count=1))[:1]:
                    totals.add(played, is_real=True)
        else:
            totals.add(_play_here(options.replay, 1)[0], is_real=False)
    else:
        totals = asyncio.run(run(options.schedules, min(options.kills, options.schedules), options.seed))
    sys.stdout.write("".join(f"{said}\n" for said in totals.broken) + f"{totals}\n")
    return 1 if totals.broken else 0


if __name__ == "__main__":
    sys.exit(main())
