"""The figures of pieces as Markdown: one table a piece, and every target with what was measured."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import Summary, lateness_ratio, polls_ratio
from benchmarks.kinds import KINDS
from benchmarks.lateness import ALL, HISTORIES
from benchmarks.targets import OURS, THEIRS, Target, beside_s, of_client

BEGIN: Final = "<!-- measured: begin -->"
END: Final = "<!-- measured: end -->"


def as_markdown(pieces: Mapping[str, Any], targets: Sequence[Target]) -> str:
    """Return all tables of pieces, in the order of a README."""
    told: dict[str, Callable[[Any], Iterator[str]]] = {
        "warm": _lateness,
        "cold": _lateness,
        "lies": _lateness,
        "virtual": _virtual,
        "simulation": _simulation,
        "webhooks": _webhooks,
        "start": _start,
        "few": _concurrency,
        "many": _concurrency,
        "day": _day,
        "leaks": _leaks,
        "photos": _photos,
        "pictures": _pictures,
    }
    lines = [*_targets(targets), "", *_machines(pieces)]
    for name, table in told.items():
        if name in pieces:
            lines += ["", *table(pieces[name]["figures"])]
    return "\n".join(lines)


def write_into(file: Path, text: str) -> None:
    """Replace what a file has between the two marks."""
    before, _, rest = file.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    file.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def _machines(pieces: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the pieces were measured on, once for those that agree."""
    found: dict[str, list[str]] = {}
    for name, piece in pieces.items():
        machine = piece["machine"]
        packages = ", ".join(f"{package} {version}" for package, version in machine["packages"].items())
        about = (
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}, "
            f"Python {machine['python']}, with {packages}; seed {piece['seed']}"
        )
        load = f"{name} (load before it {machine['load_before']:.2f}, {piece['took_s'] / 60:.1f} minutes)"
        found.setdefault(about, []).append(load)
    for about, names in found.items():
        yield f"Measured on {about}: {', '.join(names)}."
    if quick := [name for name, piece in pieces.items() if piece["quick"]]:
        yield f"\n**Quick: far too few samples to judge {', '.join(quick)} by.**"


def _lateness(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield f"### Lateness and polls: {', '.join(_histories(entries))}\n"
    yield from _lateness_table(entries)


def _virtual(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield "### The whole client on virtual time, against a fixed interval of 2 s\n"
    yield from _lateness_table(entries)


def _lateness_table(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield from header(
        "history",
        "kind",
        "tasks each",
        "mean lateness, s",
        "SDK",
        "ratio",
        "p95, s",
        "SDK",
        "polls a task",
        "SDK",
        "ratio",
    )
    for history in _histories(entries):
        for kind in (*(kind.name for kind in KINDS), ALL):
            ours, theirs = (of_client(entries, client, history=history, kind=kind) for client in (OURS, THEIRS))
            if ours and theirs and ours.finished and theirs.finished:
                yield row(history, kind, _count(ours, theirs), *_lateness_cells(ours, theirs))


def _histories(entries: list[dict[str, Any]]) -> list[str]:
    measured = {entry["history"] for entry in entries}
    return [history for history in HISTORIES if history in measured]


def _webhooks(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield "### With webhooks\n"
    yield from header("client", "finished", "mean lateness, ms", "p95, ms", "slowest, ms", "polls a task")
    for client in (OURS, THEIRS):
        samples = of_client(entries, client)
        if samples and samples.finished:
            late_s = (samples.mean_lateness_s, samples.p95_lateness_s, samples.slowest_s)
            cells = [f"{seconds * 1000:.0f}" for seconds in late_s]
            yield row(client, str(samples.finished), *cells, f"{samples.mean_polls:.2f}")


def _lateness_cells(ours: Summary, theirs: Summary) -> Iterator[str]:
    yield f"{ours.mean_lateness_s:.2f}"
    yield f"{theirs.mean_lateness_s:.2f}"
    yield str(lateness_ratio(ours, theirs))
    yield f"{ours.p95_lateness_s:.2f}"
    yield f"{theirs.p95_lateness_s:.2f}"
    yield f"{ours.mean_polls:.2f}"
    yield f"{theirs.mean_polls:.2f}"
    yield str(polls_ratio(ours, theirs))


def _count(ours: Summary, theirs: Summary) -> str:
    return str(ours.finished) if ours.finished == theirs.finished else f"{ours.finished} and {theirs.finished}"


def _concurrency(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield f"### In flight: {', '.join(str(level) for level in sorted({entry['in_flight'] for entry in entries}))}\n"
    yield from header(
        *("in flight", "client", "finished", "most at once", "mean lateness, s", "p95, s", "polls a task"),
        *("CPU a task, ms", "peak memory, MB", "pictures a second", "sandbox's CPU"),
    )
    for entry in sorted(entries, key=lambda entry: entry["in_flight"]):
        yield row(
            *(str(entry["in_flight"]), entry["client"], f"{entry['finished']} of {entry['tasks']}"),
            *(str(entry["most_at_once"]), f"{entry['mean_lateness_s']:.2f}", f"{entry['p95_lateness_s']:.2f}"),
            *(f"{entry['mean_polls']:.2f}", f"{entry['cpu_ms']:.2f}", f"{entry['peak_bytes'] / 1e6:.0f}"),
            *(f"{entry['pictures_per_s']:.1f}", f"{entry['sandbox_cpu']:.0%}"),
        )
    for entry in entries:
        for failure, count in entry["failures"].items():
            yield f"\n{count} of {entry['client']} at {entry['in_flight']} failed: {failure}"


def _day(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield "### The journal with many records of one day\n"
    yield from header("records", "CPU a picture, ms")
    for entry in entries:
        yield row(f"{entry['records']:,}", f"{entry['cpu_ms']:.3f}")


def _start(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield "### A process a picture: medians\n"
    yield from header("client", "processes", "until the request, s", "after the picture, s", "together, s", "CPU, s")
    for client in (OURS, THEIRS):
        mine = [entry for entry in entries if entry["client"] == client]
        before_s, after_s, cpu_s = (
            statistics.median(entry[name] for entry in mine) for name in ("before_s", "after_s", "cpu_s")
        )
        cells = (before_s, after_s, beside_s(entries, client), cpu_s)
        yield row(client, str(len(mine)), *(f"{cell:.2f}" for cell in cells))


def _leaks(leaks: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {leaks['steps'][-1]['calls']:,} calls through one worker\n"
    yield from header("calls", "memory, MB", "open files", "threads", "CPU a call, ms")
    for step in leaks["steps"]:
        yield row(
            str(step["calls"]),
            f"{step['rss_bytes'] / 1e6:.1f}",
            str(step["open_files"]),
            str(step["threads"]),
            f"{step['cpu_ms_per_call']:.2f}",
        )


def _photos(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield "### Eight photos of a phone at once\n"
    yield from header("worker", "a file, kB", "peak memory with children, MB", "CPU, s", "seconds")
    for number, entry in enumerate(entries, 1):
        size, peak = f"{entry['file_bytes'] / 1000:.0f}", f"{entry['peak_bytes'] / 1e6:.0f}"
        yield row(str(number), size, peak, f"{entry['cpu_s']:.2f}", f"{entry['wall_s']:.2f}")


def _pictures(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield "### Eight worst pictures at once\n"
    yield from header(
        *("picture", "file, kB", "outcome", "peak memory with children, MB", "CPU, s", "seconds"),
        *("answered where the wait is 2 s, after, s", "CPU in the second second after it, s"),
    )
    for entry in entries:
        outcomes = "; ".join(f"{count} x {outcome}" for outcome, count in entry["outcomes"].items())
        yield row(
            entry["attack"],
            f"{entry['file_bytes'] / 1000:.0f}",
            outcomes,
            f"{entry['peak_bytes'] / 1e6:.0f}",
            f"{entry['cpu_s']:.1f}",
            f"{entry['wall_s']:.1f}",
            f"{entry['answered_s']:.1f}",
            f"{entry['late_cpu_s']:.2f}",
        )


def _simulation(kinds: Mapping[str, Any]) -> Iterator[str]:
    yield "### Simulated: polls a task and mean lateness in seconds\n"
    histories = list(next(iter(kinds.values()))["ours"])
    yield from header("kind", "fixed 2 s", *histories, "least lateness for the polls of fixed 2 s")
    for name, points in kinds.items():
        polls, lateness_s = points["fixed"]["2"]
        best_s = _between(points["optimum"], polls)
        cells = [f"{polls:.2f}: {lateness_s:.2f}"]
        cells += ["{:.2f}: {:.2f}".format(*points["ours"][history]) for history in histories]
        yield row(name, *cells, "-" if best_s is None else f"{polls:.2f}: {best_s:.2f}")


def _between(curve: Sequence[Sequence[float]], polls: float) -> float | None:
    """Return the lateness on a curve at a number of polls, between its points on a straight line."""
    for (left, left_s), (right, right_s) in itertools.pairwise(curve):
        if left <= polls <= right:
            return left_s + (right_s - left_s) * (polls - left) / (right - left)
    return None


def _targets(targets: Sequence[Target]) -> Iterator[str]:
    missed = sum(not target.is_met for target in targets)
    yield f"### Targets: {len(targets) - missed} met, {missed} missed\n"
    yield from header("target", "what it is for", "at most", "measured", "", "by")
    for target in targets:
        limit = f"{target.limit:g}{target.unit}" + ("" if target.wished is None else f" (try {target.wished:g})")
        width = "" if target.half_width is None else f" ± {target.half_width:.2f}"
        measured, verdict = f"{target.measured:.2f}{width}{target.unit}", "met" if target.is_met else "**missed**"
        yield row(target.name, target.purpose, limit, measured, verdict, f"`{target.piece}`")


def header(*columns: str) -> Iterator[str]:
    """Yield the first two lines of a table."""
    yield row(*columns)
    yield row(*("---" for _ in columns))


def row(*cells: str) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |"
