"""What the measured figures have to reach, and whether they do. A target without its figures is not told as met."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Samples, merged, ratio_of_means
from benchmarks.lateness import AT_ONCE, IN_USE, LIES, lying
from benchmarks.our_client import OurClient
from benchmarks.vendor_client import VendorClient

OURS, THEIRS = OurClient.name, VendorClient.name
# A pool of a hundred connections, the journal, pipes.
MOST_OPEN_FILES = 130
_SAMPLES = tuple(Samples.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One bound. `wished` is what to try for beyond it."""

    name: str
    limit: float
    measured: float
    unit: str = ""
    wished: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the figure keeps the bound."""
        return self.measured <= self.limit


def samples(entry: Mapping[str, Any]) -> Samples:
    """Return the samples of one entry of the results."""
    return Samples(**{name: entry[name] for name in _SAMPLES})


def of_client(entries: list[dict[str, Any]], client: str, **conditions: Any) -> Samples:
    """Return all samples of a client under some conditions as one."""
    return merged(
        samples(entry)
        for entry in entries
        if entry["client"] == client and all(entry[name] == value for name, value in conditions.items())
    )


def check(results: Mapping[str, Any]) -> list[Target]:
    """Return every target that the parts of this run can tell about."""
    parts: dict[str, Callable[[Any], Iterator[Target]]] = {
        "lateness": _lateness,
        "push": _push,
        "start": _start,
        "concurrency": _concurrency,
        "leaks": _leaks,
        "photos": _photos,
        "pictures": _pictures,
        "simulation": _simulation,
    }
    return [target for name, targets in parts.items() if name in results for target in targets(results[name])]


def _lateness(entries: list[dict[str, Any]]) -> Iterator[Target]:
    for history, most in (("warm", 0.33), ("cold", 0.75)):
        ours, theirs = (of_client(entries, client, history=history) for client in (OURS, THEIRS))
        lateness, polls = ratio_of_means(ours.lateness_s, theirs.lateness_s), ratio_of_means(ours.polls, theirs.polls)
        yield Target(name=f"{history}: mean lateness against the SDK's", limit=most, measured=lateness.value)
        yield Target(name=f"{history}: polls against the SDK's", limit=1.0, measured=polls.value)
    for how in (IN_USE, AT_ONCE):
        for lie in LIES:
            ours, theirs = (of_client(entries, client, history=lying(lie, how)) for client in (OURS, THEIRS))
            name = f"history {lie}, {how}"
            lateness, polls = (
                ratio_of_means(ours.lateness_s, theirs.lateness_s),
                ratio_of_means(ours.polls, theirs.polls),
            )
            yield Target(name=f"{name}: mean lateness against fixed 2 s", limit=1.5, measured=lateness.value)
            yield Target(name=f"{name}: polls against fixed 2 s", limit=1.25, measured=polls.value)
    yield _failed("lateness", entries)


def _push(entries: list[dict[str, Any]]) -> Iterator[Target]:
    ours = of_client(entries, OURS)
    yield Target(name="webhooks: mean lateness", limit=50.0, measured=ours.mean_lateness_s * 1000, unit=" ms")
    yield Target(name="webhooks: 95 of 100 within", limit=50.0, measured=ours.p95_lateness_s * 1000, unit=" ms")
    # One in each kind is asked for before it is known that webhooks arrive.
    yield Target(name="webhooks: polls a task", limit=1.15, measured=ours.mean_polls)
    yield _failed("webhooks", entries)


def beside_s(entries: list[dict[str, Any]], client: str) -> float:
    """Return the median time that a process takes beside its picture, in seconds."""
    return statistics.median(one["before_s"] + one["after_s"] for one in entries if one["client"] == client)


def _start(entries: list[dict[str, Any]]) -> Iterator[Target]:
    ours_s, theirs_s = beside_s(entries, OURS), beside_s(entries, THEIRS)
    yield Target(name="a command beside its picture", limit=0.30, measured=ours_s, unit=" s")
    yield Target(name="a command beside its picture against the SDK's script", limit=1.5, measured=ours_s / theirs_s)


def _concurrency(entries: list[dict[str, Any]]) -> Iterator[Target]:
    levels = sorted({entry["in_flight"] for entry in entries})
    alone = of_client(entries, OURS, in_flight=levels[0])
    for level in levels[1:]:
        crowd = of_client(entries, OURS, in_flight=level)
        yield Target(
            name=f"{level} in flight: mean lateness against one alone",
            limit=1.5,
            measured=ratio_of_means(crowd.lateness_s, alone.lateness_s).value,
        )
    for level in levels:
        yield Target(
            name=f"{level} in flight: CPU time a task against the SDK's",
            limit=0.5 if level >= 100 else 1.0,
            measured=cpu_ms(entries, OURS, level) / cpu_ms(entries, THEIRS, level),
        )
    if len(levels) > 2:
        few, most = levels[1], levels[-1]
        yield Target(
            name=f"CPU time a task at {most} in flight against {few}",
            limit=1.25,
            measured=cpu_ms(entries, OURS, most) / cpu_ms(entries, OURS, few),
        )
    most = max(entry["peak_bytes"] for entry in entries if entry["client"] == OURS)
    yield Target(name=f"peak memory, up to {levels[-1]} in flight", limit=150.0, measured=most / 1e6, unit=" MB")
    yield _failed("in flight", [entry for entry in entries if entry["client"] == OURS])


def cpu_ms(entries: list[dict[str, Any]], client: str, in_flight: int) -> float:
    """Return the CPU time a task took, in milliseconds, over all turns."""
    found = [entry for entry in entries if entry["client"] == client and entry["in_flight"] == in_flight]
    cpu_s, tasks = (sum(entry[name] for entry in found) for name in ("cpu_s", "tasks"))
    return float(cpu_s / tasks * 1000)


def _leaks(leaks: Mapping[str, Any]) -> Iterator[Target]:
    steps = leaks["steps"]
    first, last = steps[0], steps[-1]
    half = next(step for step in steps if step["calls"] >= last["calls"] / 2)
    calls = f"after {last['calls']} calls against {half['calls']}"
    # What is kept on purpose fills up in the first half; a leak goes on in the second.
    yield Target(name=f"memory {calls}", limit=1.03, measured=last["rss_bytes"] / half["rss_bytes"])
    yield Target(name=f"threads {calls}", limit=1.0, measured=last["threads"] / half["threads"])
    yield Target(name="open files, most", limit=MOST_OPEN_FILES, measured=max(step["open_files"] for step in steps))
    yield Target(
        name=f"CPU time a call after {last['calls']} calls against {first['calls']}",
        limit=1.25,
        measured=last["cpu_ms_per_call"] / first["cpu_ms_per_call"],
    )
    yield Target(name="failed calls", limit=0, measured=leaks["failures"])


def _photos(entries: list[dict[str, Any]]) -> Iterator[Target]:
    middle_s, cpu_s = (statistics.median(entry[name] for entry in entries) for name in ("wall_s", "cpu_s"))
    most = max(entry["peak_bytes"] for entry in entries)
    yield Target(name="eight photos of a phone: seconds", limit=1.5, measured=middle_s, unit=" s")
    yield Target(name="eight photos of a phone: CPU time", limit=3.0, wished=2.5, measured=cpu_s, unit=" s")
    yield Target(name="eight photos of a phone: peak memory", limit=300.0, measured=most / 1e6, unit=" MB")


def _pictures(entries: list[dict[str, Any]]) -> Iterator[Target]:
    most = max(entry["peak_bytes"] for entry in entries)
    yield Target(name="eight worst pictures: peak memory", limit=400.0, measured=most / 1e6, unit=" MB")
    late_s = max(entry["answered_s"] - entry["short_wait_s"] for entry in entries)
    yield Target(name="eight worst pictures: answers after the wait", limit=1.0, measured=late_s, unit=" s")
    late_cpu_s = max(entry["late_cpu_s"] for entry in entries)
    yield Target(name="eight worst pictures: CPU a second after the wait", limit=0.1, measured=late_cpu_s, unit=" s")


def _simulation(kinds: Mapping[str, Any]) -> Iterator[Target]:
    for name, points in kinds.items():
        lateness_s = points["ours"]["warm"][1]
        yield Target(
            name=f"the plan by itself, {name}: lateness against the least possible for its polls",
            limit=1.1,
            measured=lateness_s / points["least_s"],
        )


def _failed(part: str, entries: list[dict[str, Any]]) -> Target:
    failed = sum(sum(entry["failures"].values()) for entry in entries)
    return Target(name=f"{part}: failed pictures", limit=0, measured=failed)
