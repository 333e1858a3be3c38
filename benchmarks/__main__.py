"""This client and the vendor's SDK, side by side against the same sandbox.

    python -m benchmarks                    all pieces, about half an hour on two idle cores
    python -m benchmarks --only warm        one piece, at most five minutes; may be given several times
    python -m benchmarks --only warm --keep what was measured becomes the figures to compare with (figures.json)
    python -m benchmarks --quick            small numbers, to see that it works
    python -m benchmarks tables             the tables of the kept figures; --write puts them into README.md

Prints Markdown, compares with the kept figures, and ends with 1 when a target is missed. Everything stays on this
machine, and nothing else should run on it meanwhile. Needs Linux and the extra `dev`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import kept, machine
from benchmarks.bench import Bench, say
from benchmarks.pieces import LONGEST_S, PIECES
from benchmarks.plot import draw
from benchmarks.report import as_markdown, write_into
from benchmarks.sandbox_process import SandboxProcess
from benchmarks.scale import FULL, QUICK

PLOT = "lateness.svg"
README = Path(__file__).with_name("README.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small numbers, for a look at the benchmark itself")
    parser.add_argument("--only", action="append", choices=PIECES, help="a piece to run; by default all")
    parser.add_argument("--keep", action="store_true", help="keep what was measured, to compare later runs with")
    parser.add_argument("--results", type=Path, metavar="FILE", help="also write the figures of this run to a file")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the durations (default 1)")
    commands = parser.add_subparsers(dest="command", metavar="")
    tables = commands.add_parser("tables", help="print the tables of the kept figures")
    tables.add_argument("file", type=Path, nargs="?", default=kept.FILE, help="figures of another run")
    tables.add_argument("--write", action="store_true", help="put them into README.md, and draw its plot")
    chosen = parser.parse_args(arguments)
    if chosen.command == "tables":
        return _tables(chosen.file, is_written=chosen.write)
    if chosen.quick and chosen.keep:
        parser.error("a quick run has too few samples to be kept")
    before = kept.read()
    measured = asyncio.run(_run(chosen.only or tuple(PIECES), quick=chosen.quick, seed=chosen.seed))
    if chosen.results is not None:
        kept.write(measured, chosen.results)
    targets = kept.targets_of(measured, before)
    print(as_markdown(measured, targets))
    print("\n" + "\n".join(kept.compare(measured, before)))
    if chosen.keep:
        kept.write(before | measured)
        say(f"kept in {kept.FILE}")
    return 0 if all(target.is_met for target in targets) else 1


def _tables(file: Path, *, is_written: bool) -> int:
    pieces = kept.read(file)
    targets = kept.targets_of(pieces, pieces)
    text = as_markdown(pieces, targets)
    if is_written:
        write_into(README, text)
        if "simulation" in pieces:
            README.with_name(PLOT).write_text(draw(kept.figures_of(pieces)))
    else:
        print(text)
    return 0 if all(target.is_met for target in targets) else 1


async def _run(names: Sequence[str], *, quick: bool, seed: int) -> dict[str, Any]:
    """Return each piece's figures, with what they were measured on; each has a sandbox of its own."""
    measured: dict[str, Any] = {}
    for name in names:
        begun_s, about = time.monotonic(), machine.describe()
        say(f"{name}: {PIECES[name].about}, about {PIECES[name].minutes:g} minutes")
        with tempfile.TemporaryDirectory(prefix="flux2-benchmark-homes-") as folder:
            sandbox = SandboxProcess(seed=seed, folder=Path(folder))
            await sandbox.start()
            bench = Bench(folder=Path(folder), scale=QUICK if quick else FULL, seed=seed, sandbox=sandbox)
            try:
                figures = await PIECES[name].measure(bench)
            finally:
                await sandbox.stop()
        took_s = round(time.monotonic() - begun_s, 1)
        measured[name] = {"machine": about, "quick": quick, "seed": seed, "took_s": took_s, "figures": figures}
        say(f"{name}: {took_s:.0f} s" + (f", more than {LONGEST_S:.0f}" if took_s > LONGEST_S else ""))
    return measured


if __name__ == "__main__":
    sys.exit(main())
