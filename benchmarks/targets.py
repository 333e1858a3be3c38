"""What the measured figures have to reach, what each bound is for, and whether it is kept.

A target without its figures is not told as met. All are "at most": less is better.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from benchmarks.figures import Summary, lateness_ratio, polls_ratio
from benchmarks.lateness import ALL, AT_ONCE, IN_USE, lying
from benchmarks.our_client import OurClient
from benchmarks.vendor_client import VendorClient

OURS, THEIRS = OurClient.name, VendorClient.name
# A pool of a hundred connections, the journal, pipes.
MOST_OPEN_FILES: Final = 130
# On two processors: the loop's, the journal's, five of pipes and of the host's end, and the six of asyncio's pool for
# files, which begins another one whenever all that it has are busy.
MOST_THREADS: Final = 13
# Lateness and polls against the SDK's.
LATENESS_LIMITS: Final = {"warm": (0.33, 1.0), "cold": (0.75, 1.0)}
# Lateness and polls against fixed 2 s. At once: what can be reached while nothing has contradicted the lie yet. A plan
# for a sixth of the time makes 6 to 8 polls before the first task outlives it, and the fixed interval begins then;
# under six times the time the first poll is after 9 s, and the quickest kind has been ready for 3 s by then.
LIE_LIMITS: Final = {
    lying("too short", IN_USE): (1.5, 1.25),
    lying("too long", IN_USE): (1.5, 1.25),
    lying("too short", AT_ONCE): (1.1, 1.7),
    lying("too long", AT_ONCE): (1.8, 1.0),
}
# The time from ready to posted against image_generate's (`in_the_chat.py`).
IN_THE_CHAT_ASKING: Final = 0.6
IN_THE_CHAT_WEBHOOKS: Final = 0.25
# Calls after which memory must not grow: what is kept on purpose is full then.
_SETTLED_SHARE: Final = 0.25
_SUMMARY: Final = tuple(Summary.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One bound.

    Attributes:
        purpose: What it is for.
        half_width: Of the figure's 95 % interval; None where one run gives no interval.
        wished: What to try for beyond it.
        piece: What measures it.
    """

    name: str
    purpose: str
    limit: float
    measured: float
    unit: str = ""
    half_width: float | None = None
    wished: float | None = None
    piece: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the figure keeps the bound."""
        return self.measured <= self.limit


def of_client(entries: Sequence[Mapping[str, Any]], client: str, **conditions: Any) -> Summary | None:
    """Return the figures of a client under some conditions; None where nothing was measured."""
    for entry in entries:
        if entry["client"] == client and all(entry[name] == value for name, value in conditions.items()):
            return Summary(**{name: entry[name] for name in _SUMMARY})
    return None


def check(pieces: Mapping[str, Any]) -> list[Target]:
    """Return every target that these pieces' figures can tell about."""
    targets: dict[str, Callable[[Any], Iterator[Target]]] = {
        "simulation": _simulation,
        "virtual": _virtual,
        "warm": _warm,
        "cold": _cold,
        "lies": _lies,
        "webhooks": _webhooks,
        "start": _start,
        "few": _few,
        "many": lambda entries: _many(entries, pieces.get("few", [])),
        "day": _day,
        "leaks": _leaks,
        "photos": _photos,
        "pictures": _pictures,
    }
    return [
        replace(target, piece=name)
        for name, found in targets.items()
        if name in pieces
        for target in found(pieces[name])
    ]


def _simulation(kinds: Mapping[str, Any]) -> Iterator[Target]:
    for name, points in kinds.items():
        yield Target(
            name=f"the plan by itself, {name}: lateness against the least possible for its polls",
            purpose="no better plan is worth looking for",
            limit=1.1,
            measured=points["ours"]["warm"][1] / points["least_s"],
        )


def _virtual(entries: list[dict[str, Any]]) -> Iterator[Target]:
    purpose = ("what the client's loop makes of its plan, without the machine's share", "and how often it asks")
    for history, limits in (LATENESS_LIMITS | LIE_LIMITS).items():
        for target in _against(entries, history, limits, purpose):
            yield replace(target, name=f"on virtual time, {target.name}")


def _warm(entries: list[dict[str, Any]]) -> Iterator[Target]:
    purpose = ("a picture is there soon after it is ready", "and RunAPI is not asked more often for it")
    yield from _against(entries, "warm", LATENESS_LIMITS["warm"], purpose)
    yield _failed("warm", entries)


def _cold(entries: list[dict[str, Any]]) -> Iterator[Target]:
    purpose = (
        "the first pictures of a new installation, too",
        "pictures begun together teach each other nothing wrong",
    )
    yield from _against(entries, "cold", LATENESS_LIMITS["cold"], purpose)
    yield _failed("cold", entries)


def _lies(entries: list[dict[str, Any]]) -> Iterator[Target]:
    purpose = ("a service that became faster or slower overnight costs little time", "and few requests")
    for history, limits in LIE_LIMITS.items():
        yield from _against(entries, history, limits, purpose)
    yield _failed("lies", entries)


def _against(
    entries: list[dict[str, Any]], history: str, limits: tuple[float, float], purposes: tuple[str, str]
) -> Iterator[Target]:
    ours, theirs = (of_client(entries, client, history=history, kind=ALL) for client in (OURS, THEIRS))
    if ours is None or theirs is None or not ours.finished or not theirs.finished:
        return
    names = ("mean lateness", "polls")
    ratios = (lateness_ratio(ours, theirs), polls_ratio(ours, theirs))
    for name, ratio, limit, purpose in zip(names, ratios, limits, purposes, strict=True):
        yield Target(
            name=f"{history}: {name} against the SDK's",
            purpose=purpose,
            limit=limit,
            measured=ratio.value,
            half_width=ratio.half_width,
        )


def _webhooks(entries: list[dict[str, Any]]) -> Iterator[Target]:
    ours = of_client(entries, OURS)
    if ours is None or not ours.finished:
        return
    soon = "a webhook is worth setting up"
    yield Target(
        name="webhooks: mean lateness", purpose=soon, limit=50.0, measured=ours.mean_lateness_s * 1000, unit=" ms"
    )
    yield Target(
        name="webhooks: 95 of 100 within", purpose=soon, limit=50.0, measured=ours.p95_lateness_s * 1000, unit=" ms"
    )
    # One in four hundred is polled because it is overdue.
    yield Target(
        name="webhooks: polls a task",
        purpose="where webhooks arrive the safety net stays silent",
        limit=1.05,
        measured=ours.mean_polls,
    )
    yield _failed("webhooks", entries)


def beside_s(entries: list[dict[str, Any]], client: str) -> float:
    """Return the median time that a process takes beside its picture, in seconds."""
    return float(statistics.median(one["before_s"] + one["after_s"] for one in entries if one["client"] == client))


def _start(entries: list[dict[str, Any]]) -> Iterator[Target]:
    ours_s, theirs_s = beside_s(entries, OURS), beside_s(entries, THEIRS)
    purpose = "the command line is as handy as a script"
    yield Target(name="a command beside its picture", purpose=purpose, limit=0.30, measured=ours_s, unit=" s")
    yield Target(
        name="a command beside its picture against the SDK's script",
        purpose=purpose,
        limit=1.5,
        measured=ours_s / theirs_s,
    )


def _few(entries: list[dict[str, Any]]) -> Iterator[Target]:
    yield from _cpu(entries)
    yield from _crowds(entries, entries)
    yield _failed("few in flight", [entry for entry in entries if entry["client"] == OURS])


def _many(entries: list[dict[str, Any]], few: list[dict[str, Any]]) -> Iterator[Target]:
    yield from _cpu(entries)
    yield from _crowds(entries, few)
    levels, fewer = _levels(entries), _levels(few)
    if len(fewer) > 1:
        yield Target(
            name=f"CPU time a task at {levels[-1]} in flight against {fewer[1]}",
            purpose="no step of a picture looks at all others",
            limit=1.25,
            measured=_cpu_ms(entries, OURS, levels[-1]) / _cpu_ms(few, OURS, fewer[1]),
        )
    most = max(entry["peak_bytes"] for entry in entries if entry["client"] == OURS)
    yield Target(
        name=f"peak memory, up to {levels[-1]} in flight",
        purpose="a gateway on a small machine",
        limit=120.0,
        measured=most / 1e6,
        unit=" MB",
    )
    yield _failed("many in flight", [entry for entry in entries if entry["client"] == OURS])


def _levels(entries: Sequence[Mapping[str, Any]]) -> list[int]:
    return sorted({entry["in_flight"] for entry in entries})


def _cpu(entries: list[dict[str, Any]]) -> Iterator[Target]:
    for level in _levels(entries):
        yield Target(
            name=f"{level} in flight: CPU time a task against the SDK's",
            purpose="the journal, the checks and the progress that the SDK does not have cost half of its own, no more",
            limit=1.5 if level <= 100 else 1.7,
            measured=_cpu_ms(entries, OURS, level) / _cpu_ms(entries, THEIRS, level),
        )


def _crowds(entries: list[dict[str, Any]], few: list[dict[str, Any]]) -> Iterator[Target]:
    """Yield how late a picture in a crowd is, against one of those that are alone in their process."""
    alone = of_client(few, OURS, in_flight=1)
    for level in _levels(entries):
        crowd = of_client(entries, OURS, in_flight=level)
        if level > 1 and alone and crowd and alone.finished and crowd.finished:
            ratio = lateness_ratio(crowd, alone)
            yield Target(
                name=f"{level} in flight: mean lateness against one alone",
                purpose="many at a time do not wait for each other",
                limit=1.5,
                measured=ratio.value,
                half_width=ratio.half_width,
            )


def _cpu_ms(entries: Sequence[Mapping[str, Any]], client: str, in_flight: int) -> float:
    return next(
        float(entry["cpu_ms"]) for entry in entries if entry["client"] == client and entry["in_flight"] == in_flight
    )


def _day(entries: list[dict[str, Any]]) -> Iterator[Target]:
    first, last = entries[0], entries[-1]
    yield Target(
        name=f"the journal's CPU time a picture with {last['records']} records of a day against {first['records']}",
        purpose="a busy day does not slow down",
        limit=1.25,
        measured=last["cpu_ms"] / first["cpu_ms"],
    )


def _leaks(leaks: Mapping[str, Any]) -> Iterator[Target]:
    steps = leaks["steps"]
    first, last = steps[0], steps[-1]
    settled = next(step for step in steps if step["calls"] >= last["calls"] * _SETTLED_SHARE)
    purpose = "a gateway runs for months"
    calls = f"after {last['calls']} calls against {settled['calls']}"
    yield Target(name=f"memory {calls}", purpose=purpose, limit=1.02, measured=last["rss_bytes"] / settled["rss_bytes"])
    for name, key, limit in (("threads", "threads", MOST_THREADS), ("open files", "open_files", MOST_OPEN_FILES)):
        yield Target(name=f"{name}, most", purpose=purpose, limit=limit, measured=max(step[key] for step in steps))
    yield Target(
        name=f"CPU time a call after {last['calls']} calls against {first['calls']}",
        purpose=purpose,
        limit=1.25,
        measured=last["cpu_ms_per_call"] / first["cpu_ms_per_call"],
    )
    yield Target(name="leaks: failed calls", purpose="figures of what works", limit=0, measured=leaks["failures"])


def _photos(entries: list[dict[str, Any]]) -> Iterator[Target]:
    middle_s, cpu_s = (statistics.median(entry[name] for entry in entries) for name in ("wall_s", "cpu_s"))
    most, name = max(entry["peak_bytes"] for entry in entries), "eight photos of a phone"
    purpose = "photos sent in a chat are ready to be remixed at once"
    yield Target(name=f"{name}: seconds", purpose=purpose, limit=1.5, measured=middle_s, unit=" s")
    yield Target(name=f"{name}: CPU time", purpose=purpose, limit=3.0, wished=2.5, measured=cpu_s, unit=" s")
    yield Target(name=f"{name}: peak memory", purpose="with its children", limit=300.0, measured=most / 1e6, unit=" MB")


def _pictures(entries: list[dict[str, Any]]) -> Iterator[Target]:
    purpose = "no source picture takes a gateway down"
    most = max(entry["peak_bytes"] for entry in entries)
    late_s = max(entry["answered_s"] - entry["short_wait_s"] for entry in entries)
    late_cpu_s = max(entry["late_cpu_s"] for entry in entries)
    for name, limit, measured, unit in (
        ("peak memory", 400.0, most / 1e6, " MB"),
        ("answers after the wait", 1.0, late_s, " s"),
        ("CPU a second after the wait", 0.1, late_cpu_s, " s"),
    ):
        yield Target(name=f"eight worst pictures: {name}", purpose=purpose, limit=limit, measured=measured, unit=unit)


def _failed(part: str, entries: list[dict[str, Any]]) -> Target:
    failed = sum(sum(entry["failures"].values()) for entry in entries)
    return Target(name=f"{part}: failed pictures", purpose="figures of what works", limit=0, measured=failed)
