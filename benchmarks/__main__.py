"""This client and the vendor's SDK, side by side against the same sandbox.

    python -m benchmarks                    everything, about a quarter of an hour on two cores
    python -m benchmarks --quick            a few minutes, to see that it works
    python -m benchmarks --only lateness    one part; may be given several times
    python -m benchmarks tables FILE        the tables and the plot of an earlier run

Prints Markdown; the raw figures go to a JSON file, and lateness.svg beside it. Ends with 1 when a target is missed.
Everything stays on this machine, and nothing else should run on it meanwhile. Needs Linux and the extra `dev`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import concurrency, lateness, leaks, machine, photos, pictures, push, start
from benchmarks.bench import Bench, say
from benchmarks.plot import draw
from benchmarks.report import as_markdown
from benchmarks.sandbox_process import SandboxProcess
from benchmarks.scale import FULL, QUICK
from benchmarks.simulation import simulate
from benchmarks.targets import check

PARTS = ("lateness", "push", "start", "concurrency", "leaks", "photos", "pictures", "simulation")
PLOT = "lateness.svg"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small numbers, for a look at the benchmark itself")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part to run; by default all")
    parser.add_argument("--results", type=Path, metavar="FILE", help="where the raw figures go; by default a new file")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the durations (default 1)")
    commands = parser.add_subparsers(dest="command", metavar="")
    tables = commands.add_parser("tables", help="print the tables of an earlier run and draw its plot")
    tables.add_argument("file", type=Path, help="its raw figures")
    chosen = parser.parse_args(arguments)
    if chosen.command == "tables":
        results, path = json.loads(chosen.file.read_text()), chosen.file
    else:
        path = chosen.results or Path(tempfile.mkdtemp(prefix="flux2-benchmark-")) / "results.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        results = asyncio.run(_run(chosen.only or PARTS, quick=chosen.quick, seed=chosen.seed))
        path.write_text(json.dumps(results, indent=1))
        say(f"raw figures: {path}")
    print(as_markdown(results))
    if "simulation" in results:
        (path.parent / PLOT).write_text(draw(results))
        say(f"plot: {path.parent / PLOT}")
    return 0 if all(target.is_met for target in check(results)) else 1


async def _run(parts: Sequence[str], *, quick: bool, seed: int) -> dict[str, Any]:
    begun_s = time.monotonic()
    results: dict[str, Any] = {"machine": machine.describe(), "quick": quick, "seed": seed}
    with tempfile.TemporaryDirectory(prefix="flux2-benchmark-homes-") as name:
        folder = Path(name)
        sandbox = SandboxProcess(seed=seed, folder=folder)
        await sandbox.start()
        bench = Bench(folder=folder, scale=QUICK if quick else FULL, seed=seed, sandbox=sandbox)
        try:
            if "lateness" in parts:
                results["lateness"] = await lateness.measure(bench)
            if "push" in parts:
                results["push"] = await push.measure(bench)
            if "start" in parts:
                results["start"] = await start.measure(bench)
            if "concurrency" in parts:
                results["concurrency"] = await concurrency.measure(bench)
            if "leaks" in parts:
                results["leaks"] = await leaks.measure(bench)
            if "photos" in parts or "pictures" in parts:
                results["photos"] = await photos.measure(bench)
            if "pictures" in parts:
                results["pictures"] = await pictures.measure(bench)
        finally:
            await sandbox.stop()
    if "simulation" in parts:
        results["simulation"] = simulate(seed)
    return results | {"took_s": time.monotonic() - begun_s}


if __name__ == "__main__":
    sys.exit(main())
