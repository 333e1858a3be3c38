"""The results of a run as Markdown: one table a part, and every target with what was measured."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.figures import Samples, ratio_of_means
from benchmarks.kinds import KINDS
from benchmarks.lateness import HISTORIES
from benchmarks.targets import OURS, THEIRS, beside_s, check, cpu_ms, of_client

_ALL = "all four"


def as_markdown(results: Mapping[str, Any]) -> str:
    """Return all tables of a run."""
    parts: dict[str, Callable[[Any], Iterator[str]]] = {
        "lateness": _lateness,
        "push": _push,
        "start": _start,
        "concurrency": _concurrency,
        "leaks": _leaks,
        "photos": _photos,
        "pictures": _pictures,
        "simulation": _simulation,
    }
    lines = list(_head(results))
    for name, told in parts.items():
        if name in results:
            lines += ["", *told(results[name])]
    lines += ["", *_targets(results)]
    return "\n".join(lines)


def _head(results: Mapping[str, Any]) -> Iterator[str]:
    machine = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    yield (
        f"Measured on {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {machine['python']}, with {packages}. Seed {results['seed']}; "
        f"load before the run {machine['load_before']:.2f}; it took {results['took_s'] / 60:.0f} minutes."
    )
    if results["quick"]:
        yield "\n**A quick run: far too few samples to judge by.**"


def _lateness(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield "### Lateness and polls\n"
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
    for history in HISTORIES:
        for kind in (*(kind.name for kind in KINDS), _ALL):
            conditions = {"history": history} | ({} if kind == _ALL else {"kind": kind})
            ours, theirs = (of_client(entries, client, **conditions) for client in (OURS, THEIRS))
            if ours.finished and theirs.finished:
                yield row(history, kind, _count(ours, theirs), *_lateness_cells(ours, theirs))


def _push(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield "### With webhooks\n"
    yield from header("client", "finished", "mean lateness, ms", "p95, ms", "slowest, ms", "polls a task")
    for client in (OURS, THEIRS):
        samples = of_client(entries, client)
        if samples.finished:
            late_s = (samples.mean_lateness_s, samples.p95_lateness_s, max(samples.lateness_s))
            cells = [f"{seconds * 1000:.0f}" for seconds in late_s]
            yield row(client, str(samples.finished), *cells, f"{samples.mean_polls:.2f}")


def _lateness_cells(ours: Samples, theirs: Samples) -> Iterator[str]:
    yield f"{ours.mean_lateness_s:.2f}"
    yield f"{theirs.mean_lateness_s:.2f}"
    yield str(ratio_of_means(ours.lateness_s, theirs.lateness_s))
    yield f"{ours.p95_lateness_s:.2f}"
    yield f"{theirs.p95_lateness_s:.2f}"
    yield f"{ours.mean_polls:.2f}"
    yield f"{theirs.mean_polls:.2f}"
    yield str(ratio_of_means(ours.polls, theirs.polls))


def _count(ours: Samples, theirs: Samples) -> str:
    return str(ours.finished) if ours.finished == theirs.finished else f"{ours.finished} and {theirs.finished}"


def _concurrency(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield "### In flight\n"
    yield from header(
        *("in flight", "client", "finished", "most at once", "mean lateness, s", "p95, s", "polls a task"),
        *("CPU a task, ms", "peak memory, MB", "pictures a second", "sandbox's CPU"),
    )
    for level in sorted({entry["in_flight"] for entry in entries}):
        for client in (OURS, THEIRS):
            found = [entry for entry in entries if entry["in_flight"] == level and entry["client"] == client]
            samples = of_client(found, client)
            tasks, wall_s = (sum(entry[name] for entry in found) for name in ("tasks", "wall_s"))
            yield row(
                str(level),
                client,
                f"{samples.finished} of {tasks}",
                str(max(entry["most_at_once"] for entry in found)),
                f"{samples.mean_lateness_s:.2f}",
                f"{samples.p95_lateness_s:.2f}",
                f"{samples.mean_polls:.2f}",
                f"{cpu_ms(entries, client, level):.2f}",
                f"{max(entry['peak_bytes'] for entry in found) / 1e6:.0f}",
                f"{tasks / wall_s:.1f}",
                f"{sum(entry['sandbox_cpu_s'] for entry in found) / wall_s:.0%}",
            )
    for entry in entries:
        for failure, count in entry["failures"].items():
            yield f"\n{count} of {entry['client']} at {entry['in_flight']} failed: {failure}"


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
    yield "### Ten thousand calls through one worker\n" if leaks["steps"][-1]["calls"] >= 10_000 else "### Leaks\n"
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


def _targets(results: Mapping[str, Any]) -> Iterator[str]:
    targets = check(results)
    missed = sum(not target.is_met for target in targets)
    yield f"### Targets: {len(targets) - missed} met, {missed} missed\n"
    yield from header("target", "at most", "measured", "")
    for target in targets:
        limit = f"{target.limit:g}{target.unit}" + ("" if target.wished is None else f" (try {target.wished:g})")
        yield row(target.name, limit, f"{target.measured:.2f}{target.unit}", "met" if target.is_met else "**missed**")


def header(*columns: str) -> Iterator[str]:
    """Yield the first two lines of a table."""
    yield row(*columns)
    yield row(*("---" for _ in columns))


def row(*cells: str) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |"
