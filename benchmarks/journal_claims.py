"""How many pictures a journal takes down in a second, and how long a claim takes, with 1, 10 and 100 processes at once.

Each process is a fork that does what a worker does, through the journal's threads, for one picture after the other in a
conversation of its own; so with 100 of them 100 pictures are in hand at every moment. The stores take turns.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.bench import say
from benchmarks.picture_chain import Picture, rules_of
from benchmarks.postgres_server import PostgresServer
from flux2_tool.journal import JournalError, ThisProcess, ThreadedJournal, open_journal, open_threaded_journal
from flux2_tool.journal.place import DatabaseUrl, JournalPlace

WARM_UP = 8
START_S = 300.0
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where the journal of a run is.

    Attributes:
        name: As tables call it.
        place: Makes a new, empty journal.
        server: Its server, None for SQLite.
    """

    name: str
    place: Callable[[], JournalPlace]
    server: PostgresServer | None = None


@dataclass(slots=True)
class Worked:
    """What one process did.

    Attributes:
        claims_s: How long each claim took.
        pictures_s: How long all the journal did for a picture took.
        cpu_s: The CPU time of the process.
        failures: Claims that were given up, by message.
    """

    claims_s: list[float] = field(default_factory=list)
    pictures_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    failures: list[str] = field(default_factory=list)


def measure(stores: Sequence[Store], levels: Sequence[int], *, turn_s: float, turns: int) -> list[dict[str, Any]]:
    """Return an entry for each store and number of processes."""
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for processes in levels:
        for turn in range(turns):
            for store in stores:
                say(f"{processes} processes, {store.name}, turn {turn + 1} of {turns}")
                found.setdefault((processes, store.name), []).append(_turn(store, processes, turn_s=turn_s))
        for store in stores:
            say(json.dumps(_together(processes, store.name, found[processes, store.name])))
    return [_together(processes, name, entries) for (processes, name), entries in found.items()]


def _turn(store: Store, processes: int, *, turn_s: float) -> dict[str, Any]:
    place = store.place()
    # The schema exists before the processes begin, as it does in use.
    with closing(open_journal(place, owner=ThisProcess(), now=time.time())):
        pass
    barrier = _FORK.Barrier(processes + 1, timeout=START_S)  # one that cannot open ends all
    ends = [_FORK.Pipe(duplex=False) for _ in range(processes)]
    forks = [
        _FORK.Process(target=_work, args=(place, f"agent:main:chat:{number}", barrier, turn_s, end), daemon=True)
        for number, (_, end) in enumerate(ends)
    ]
    for fork in forks:
        fork.start()
    barrier.wait()
    wal_bytes, cpu_s = _meters(store)
    worked: list[Worked] = [end.recv() for end, _ in ends]
    wal_after, cpu_after_s = _meters(store)
    for fork in forks:
        fork.join()
    return {
        "claims_s": [one for each in worked for one in each.claims_s],
        "pictures_s": [one for each in worked for one in each.pictures_s],
        "cpu_s": sum(each.cpu_s for each in worked),
        "server_cpu_s": cpu_after_s - cpu_s,
        "wal_bytes": wal_after - wal_bytes,
        "failures": [one for each in worked for one in each.failures],
        "took_s": turn_s,
    }


def _meters(store: Store) -> tuple[float, float]:
    return (0.0, 0.0) if store.server is None else (store.server.wal_bytes(), store.server.cpu_s())


def _work(place: JournalPlace, session: str, barrier: Any, turn_s: float, end: Connection) -> None:
    end.send(asyncio.run(_pictures(place, session, barrier, turn_s)))


async def _pictures(place: JournalPlace, session: str, barrier: Any, turn_s: float) -> Worked:
    journal, worked = await _opened(place), Worked()
    for _ in range(WARM_UP):
        await _picture(journal, session, Worked())
    barrier.wait()
    begun_s, cpu_s = time.monotonic(), time.process_time()
    while time.monotonic() < begun_s + turn_s:
        await _picture(journal, session, worked)
    worked.cpu_s = time.process_time() - cpu_s
    journal.close_now()
    return worked


async def _opened(place: JournalPlace) -> ThreadedJournal:
    """Open the journal, which a hundred processes do at this moment; in use they come one by one."""
    while True:
        try:
            return await open_threaded_journal(place, owner=ThisProcess(), now=time.time())
        except JournalError as exc:
            if exc.reason != "locked":
                raise


async def _picture(journal: ThreadedJournal, session: str, worked: Worked) -> None:
    picture, now, begun_s = Picture.of(session), time.time(), time.perf_counter()
    try:
        claim = await journal.claim([picture.intent], rules_of(session, now=now), now=now)
        if claim.outcome != "new":
            raise RuntimeError(f"the claim is {claim.outcome}")
        claimed_s = time.perf_counter()
        await journal.note_route(picture.record_id, "guide", now=time.time())
        await journal.note_accepted(picture.record_id, now=time.time(), **picture.accepted())
        await journal.note_end(picture.record_id, picture.outcome(), now=time.time())
        await journal.note_delivered(picture.record_id, now=time.time())
    except JournalError as exc:
        worked.failures.append(exc.reason)
        return
    worked.claims_s.append(claimed_s - begun_s)
    worked.pictures_s.append(time.perf_counter() - begun_s)


def _together(processes: int, name: str, turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    claims_s = sorted(one for turn in turns for one in turn["claims_s"])
    pictures_s = sorted(one for turn in turns for one in turn["pictures_s"])
    pictures = max(1, len(pictures_s))
    failures = [one for turn in turns for one in turn["failures"]]
    return {
        "processes": processes,
        "store": name,
        "pictures": len(pictures_s),
        "a_second": len(pictures_s) / sum(turn["took_s"] for turn in turns),
        "claim_ms": [quantile(claims_s, share) * 1000 for share in (0.5, 0.95, 0.99)],
        "picture_ms": [quantile(pictures_s, share) * 1000 for share in (0.5, 0.95, 0.99)],
        "cpu_ms": sum(turn["cpu_s"] for turn in turns) / pictures * 1000,
        "server_cpu_ms": sum(turn["server_cpu_s"] for turn in turns) / pictures * 1000,
        "wal_bytes": sum(turn["wal_bytes"] for turn in turns) / pictures,
        "failures": {reason: failures.count(reason) for reason in set(failures)},
    }


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of sorted values does not exceed; 0 for none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def sqlite_store(folder: Path) -> Store:
    """Return a store of files below a folder."""
    made: list[Path] = []

    def place() -> Path:
        made.append(folder / f"sqlite-{len(made)}")
        return made[-1]

    return Store(name="SQLite", place=place)


def postgres_store(server: PostgresServer, *, name: str = "PostgreSQL", port: int | None = None) -> Store:
    """Return a store of schemas of a server, perhaps behind a port that leads to it."""
    made: list[DatabaseUrl] = []

    def place() -> DatabaseUrl:
        made.append(DatabaseUrl(server.url(port=port), f"claims_{server.port if port is None else port}_{len(made)}"))
        return made[-1]

    return Store(name=name, place=place, server=server)
