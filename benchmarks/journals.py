"""The task journal in SQLite and in PostgreSQL, side by side: pictures a second, latency, and how costs grow with rows.

    python -m benchmarks.journals                    everything, about half an hour on two cores
    python -m benchmarks.journals --quick            a minute, to see that it works
    python -m benchmarks.journals --only claims      one part: claims, or growth
    python -m benchmarks.journals --folder DIR       on the disk that is to be measured

Starts a PostgreSQL server of its own in the folder, which syncs each claim to the disk as in production; SQLite's files
are on the same disk. A third journal is the same server a round trip of a millisecond away. Prints Markdown; the raw
figures go to a JSON file. Ends with 1 when a cost is not flat or a claim failed. Needs Linux, the extras `dev` and
`postgres`, and the programs of a PostgreSQL server.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import journal_claims, journal_growth, machine
from benchmarks.bench import say
from benchmarks.distant import distant
from benchmarks.journal_claims import Store, postgres_store, sqlite_store
from benchmarks.postgres_server import running_postgres
from benchmarks.report import header, row

PARTS = ("claims", "growth")
ROUND_TRIP_S = 0.001
# What a claim, the look-ups or the periodic operations may cost at the most rows against the fewest, in CPU time.
FLAT = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured.

    Attributes:
        levels: How many processes at once.
        turn_s: How long each store is measured at a time.
        turns: How often.
        sizes: How many rows.
        pictures: How many pictures, and look-ups, are made with so many rows in a turn.
    """

    levels: tuple[int, ...]
    turn_s: float
    turns: int
    sizes: tuple[int, ...]
    pictures: int


FULL = Scale(levels=(1, 10, 100), turn_s=10.0, turns=3, sizes=(1_000, 10_000, 100_000, 1_000_000), pictures=200)
QUICK = Scale(levels=(1, 4), turn_s=1.0, turns=1, sizes=(100, 1_000), pictures=20)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.journals", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small numbers, for a look at the benchmark itself")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part to run; by default all")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="on the disk to measure; by default temporary files")
    parser.add_argument("--turn", type=float, metavar="S", help="seconds of each turn of the processes (10)")
    parser.add_argument("--results", type=Path, metavar="FILE", help="where the raw figures go; by default a new file")
    chosen = parser.parse_args(arguments)
    path = chosen.results or Path(tempfile.mkdtemp(prefix="flux2-journals-")) / "results.json"
    scale = QUICK if chosen.quick else FULL
    if chosen.turn is not None:
        scale = replace(scale, turn_s=chosen.turn)
    results = _run(chosen.only or PARTS, scale, chosen.folder)
    results["quick"] = chosen.quick
    path.write_text(json.dumps(results, indent=1))
    say(f"raw figures: {path}")
    print("\n".join(as_markdown(results)))
    return 0 if all(is_met for _, _, is_met in _targets(results)) else 1


def _run(parts: Sequence[str], scale: Scale, folder: Path | None) -> dict[str, Any]:
    begun_s = time.monotonic()
    results: dict[str, Any] = {"machine": machine.describe(), "seed": 0}
    with tempfile.TemporaryDirectory(prefix="flux2-journals-", dir=folder) as name:
        scratch = Path(name)
        results["disk"] = machine.disk_of(scratch)
        with running_postgres(scratch) as server:
            results["server"] = server.version()
            near: list[Store] = [sqlite_store(scratch), postgres_store(server)]
            if "claims" in parts:
                with distant(server.port, round_trip_s=ROUND_TRIP_S) as port:
                    far = postgres_store(server, name="PostgreSQL, 1 ms away", port=port)
                    results["claims"] = journal_claims.measure(
                        [*near, far], scale.levels, turn_s=scale.turn_s, turns=scale.turns
                    )
            if "growth" in parts:
                results["growth"] = journal_growth.measure(
                    near, scale.sizes, pictures=scale.pictures, turns=scale.turns
                )
    return results | {"took_s": time.monotonic() - begun_s}


def as_markdown(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield all tables of a run."""
    about = results["machine"]
    yield (
        f"Measured on {about['processor']}, {about['cores']} cores, {about['memory_gb']} GB, {about['system']},"
        f" Python {about['python']}, PostgreSQL {results['server']}, disk {results['disk']}, with fsync;"
        f" load before the run {about['load_before']:.2f}; it took {results['took_s'] / 60:.0f} minutes."
    )
    if results["quick"]:
        yield "\n**A quick run: far too few samples to judge by.**"
    if "claims" in results:
        yield "\n### Pictures a second\n"
        yield from _claims(results["claims"])
    if "growth" in results:
        yield "\n### Cost by rows\n"
        yield from _growth(results["growth"])
    yield "\n### Targets\n"
    yield from header("target", "measured", "")
    for name, measured, is_met in _targets(results):
        yield row(name, measured, "met" if is_met else "**missed**")


def _claims(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from header(
        *("processes", "journal", "pictures", "a second", "claim, median ms", "p95", "p99"),
        *("all of a picture, median ms", "p95", "p99", "CPU a picture, ms", "server's CPU, ms", "WAL a picture, kB"),
    )
    for entry in entries:
        has_server = entry["wal_bytes"] > 0
        yield row(
            str(entry["processes"]),
            entry["store"],
            str(entry["pictures"]),
            f"{entry['a_second']:.0f}",
            *(f"{ms:.1f}" for ms in (*entry["claim_ms"], *entry["picture_ms"])),
            f"{entry['cpu_ms']:.2f}",
            f"{entry['server_cpu_ms']:.2f}" if has_server else "-",
            f"{entry['wal_bytes'] / 1000:.1f}" if has_server else "-",
        )


def _growth(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from header(
        *("rows", "mix", "journal", "claim, median ms", "p95", "the four notes, median ms"),
        *("14 look-ups, median ms", "4 periodic ones, median ms"),
        *("CPU a picture, ms", "CPU of the look-ups, ms", "CPU of the periodic ones, ms", "bytes a row"),
    )
    for entry in entries:
        yield row(
            f"{entry['rows']:,}",
            entry["mix"],
            entry["store"],
            *(f"{entry[name]:.2f}" for name in ("claim_ms", "claim_p95_ms", "notes_ms", "lookup_ms", "periodic_ms")),
            *(f"{entry[name]:.2f}" for name in ("claim_cpu_ms", "lookup_cpu_ms", "periodic_cpu_ms")),
            f"{entry['bytes_a_row']:.0f}",
        )


def _targets(results: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Yield each target, what was measured, and whether that meets it."""
    failures = sum(sum(entry["failures"].values()) for entry in results.get("claims", ()))
    if "claims" in results:
        yield "claims that were given up: none", str(failures), failures == 0
    grown = results.get("growth", ())
    for mix, store in sorted({(entry["mix"], entry["store"]) for entry in grown}):
        [first, *_, last] = [entry for entry in grown if (entry["mix"], entry["store"]) == (mix, store)]
        for name, of in (("claim", "a picture"), ("lookup", "look-ups"), ("periodic", "periodic operations")):
            ratio = last[f"{name}_cpu_ms"] / max(first[f"{name}_cpu_ms"], 0.01)
            target = f"{store}, {mix}: CPU of {of}, {last['rows']:,} rows against {first['rows']:,}: at most {FLAT:g}"
            yield target, f"{ratio:.2f}", ratio <= FLAT


if __name__ == "__main__":
    sys.exit(main())
