"""Give hostile input of every kind, and count what came of it.

    python -m tests.fuzz --seeds 20000 --from 1

plays 20,000 seeds of each kind, on all cores, and prints for each kind the inputs, crashes and key leaks. Whatever
went wrong is named with its seed, and the exit code is 1.

    python -m tests.fuzz --replay answers 1234

plays one seed again. Run it from a checkout with the extra `dev` installed.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Final

from tests.fuzz.runs import RunResult, play_answers, play_arguments, play_lines, play_probe

KINDS: Final[dict[str, Callable[[int], RunResult]]] = {
    "answers": play_answers,
    "arguments": play_arguments,
    "lines": play_lines,
    "probe": play_probe,
}
_CHUNK: Final = 50
_COLLECT_EVERY: Final = 20
_SHOWN: Final = 10


@contextmanager
def _without_collection() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def play_all(kind: str, seeds: Sequence[int], *, processes: int = 1) -> RunResult:
    """Play all seeds of a kind and return what they came to together."""
    total = RunResult()
    if processes == 1:
        for number, seed in enumerate(seeds):
            # Where a response is nested to the limit of recursion, nothing could be finalised: only between them.
            if number % _COLLECT_EVERY == 0:
                gc.collect()
            with _without_collection():
                total.add(KINDS[kind](seed))
        return total
    with ProcessPoolExecutor(processes) as pool:
        for played in pool.map(KINDS[kind], seeds, chunksize=_CHUNK):
            total.add(played)
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """Play what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2000, help="how many of each kind; default 2000")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed; default 0")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one per core")
    parser.add_argument("--replay", nargs=2, metavar=("KIND", "SEED"), help="play one seed again")
    chosen = parser.parse_args(argv)
    clean = True
    plays = [(kind, range(chosen.first, chosen.first + chosen.seeds)) for kind in KINDS]
    if chosen.replay:
        plays = [(chosen.replay[0], range(int(chosen.replay[1]), int(chosen.replay[1]) + 1))]
    for kind, seeds in plays:
        played = play_all(kind, seeds, processes=min(chosen.processes, len(seeds)))
        print(f"{kind}: {len(seeds)} seeds, {played.line()}", flush=True)
        for problem in [*played.crashes, *played.leaks, *played.faults][:_SHOWN]:
            print(f"  {problem}".encode("ascii", "backslashreplace").decode(), file=sys.stderr)
        clean = clean and played.is_clean
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
