"""Change the code in small ways, one at a time, and count the changes that some test notices.

    python -m tests.mutations

applies the chosen changes of `catalog/`, one for each behaviour that would cost money, show somebody else's picture or
give a key away, and 300 random ones of the modules about these. Each is run in a copy of the tree, against the tests
that run the changed lines, quickest first, until one fails. It prints a table by module, and each change that no test
noticed; the exit code is 1 if fewer than nine in ten were noticed.

    python -m tests.mutations --chosen --only 409

runs the chosen changes whose name or file contains "409". Results are kept for the state of the tree in a folder of
the system's temporary one, so that a run can be continued; `--again` forgets them. Run it from a checkout with the
extra `dev` installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from tests.mutations.mutant import Mutant
from tests.mutations.population import chosen_mutants, random_mutants
from tests.mutations.recording import TreeState, recorded
from tests.mutations.selection import BUDGET_S, Selector
from tests.mutations.workspace import Result, Workspace

ROOT: Final = Path(__file__).resolve().parents[2]
LEAST_SHARE: Final = 0.9
NOTICED: Final = frozenset({"failed", "hung", "died", "not importable"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    options = _options(argv)
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    mutants: list[Mutant] = []
    if not options.random:
        mutants += chosen_mutants(ROOT)
    if not options.chosen:
        mutants += random_mutants(ROOT, count=options.count, seed=options.seed)
    mutants = [one for one in mutants if options.only in one.name or options.only in one.path]
    mutants = mutants[options.part[0] - 1 :: options.part[1]]
    tests = recorded(ROOT, work, jobs=options.jobs)
    results = _run(
        mutants, Selector(ROOT, tests, budget_s=options.budget), work, jobs=options.jobs, again=options.again
    )
    return _report(mutants, results)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chosen", action="store_true", help="only the chosen changes")
    parser.add_argument("--random", action="store_true", help="only the random ones")
    parser.add_argument("--only", default="", metavar="TEXT", help="only those whose name or file contains this")
    parser.add_argument("--count", type=int, default=300, metavar="N", help="how many random ones (300)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="which ones (1)")
    parser.add_argument("--part", type=_part, default=(1, 1), metavar="K/N", help="only the Kth of N parts of all")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), metavar="N", help="at a time (2)")
    help_text = f"how many seconds' worth of tests a change gets at least ({BUDGET_S:g})"
    parser.add_argument("--budget", type=float, default=BUDGET_S, metavar="S", help=help_text)
    parser.add_argument("--again", action="store_true", help="forget the results of earlier runs")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "flux2-tool-mutations")
    return parser.parse_args(argv)


def _part(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    return int(number), int(count)


def _run(mutants: list[Mutant], selector: Selector, work: Path, *, jobs: int, again: bool) -> dict[str, Result]:
    """Return the result of each mutant by its key; those known from an earlier run are not run again."""
    state = TreeState.of(ROOT)
    all_tests = hashlib.sha256(repr(sorted(state.test_files.items())).encode()).hexdigest()[:16]
    kept = work / f"results-{state.base}.jsonl"
    if again:
        kept.unlink(missing_ok=True)
    results: dict[str, Result] = {}
    if kept.exists():
        for line in kept.read_text(encoding="utf-8").splitlines():
            key, depends_on, found = json.loads(line)
            # What a test has noticed it notices again; what none has noticed, a new one may.
            if depends_on in (all_tests, *state.test_files.values()):
                results[key] = Result(**found)
    left = [one for one in {one.key: one for one in mutants}.values() if one.key not in results]
    if not left:
        return results
    free: SimpleQueue[Workspace] = SimpleQueue()
    with ThreadPoolExecutor(jobs) as pool:
        folders = [work / f"copy-{number + 1}" for number in range(jobs)]
        for workspace in pool.map(lambda folder: Workspace(ROOT, folder, selector), folders):
            free.put(workspace)

    def run(mutant: Mutant) -> tuple[Mutant, Result]:
        workspace = free.get()
        try:
            return mutant, workspace.run(mutant)
        finally:
            free.put(workspace)

    with ThreadPoolExecutor(jobs) as pool, kept.open("a", encoding="utf-8") as file:
        for done, ended in enumerate(as_completed([pool.submit(run, mutant) for mutant in left]), start=1):
            mutant, result = ended.result()
            results[mutant.key] = result
            depends_on = state.test_files.get(result.test.partition("::")[0], all_tests)
            file.write(json.dumps([mutant.key, depends_on, result.as_dict()]) + "\n")
            file.flush()
            said = "noticed" if result.outcome in NOTICED else "NOT NOTICED"
            line = f"{done}/{len(left)} {said} {result.took_s:.1f} s, {mutant.path}: {mutant.name}"
            print(line, file=sys.stderr, flush=True)
    while not free.empty():
        free.get().close()
    return results


def _report(mutants: list[Mutant], results: dict[str, Result]) -> int:
    """Print the table and what no test noticed; return the exit code."""
    counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    missed = []
    for mutant in mutants:
        result = results[mutant.key]
        is_noticed = result.outcome in NOTICED
        for row in ((mutant.area, mutant.path), (mutant.area, ""), ("~", "")):
            counts[row].update(all=1, noticed=int(is_noticed))
        if not is_noticed:
            missed.append((mutant, result))
    for mutant, result in missed:
        why = "no test runs it" if result.outcome == "untested" else f"{result.ran} tests passed"
        print(f"\nnot noticed: {mutant.name} ({mutant.area}, {why})\n{mutant.diff()}")
    print(f"\n{'module':<52}{'changes':>8}{'noticed':>8}{'share':>8}")
    for (area, path), count in sorted(counts.items()):
        name = path or ("all" if area == "~" else f"all about {area}" if area != "lower" else "all the lower ones")
        print(f"{name:<52}{count['all']:>8}{count['noticed']:>8}{count['noticed'] / count['all']:>8.0%}")
    total = counts["~", ""]
    return 0 if total["noticed"] >= LEAST_SHARE * total["all"] else 1


if __name__ == "__main__":
    sys.exit(main())
