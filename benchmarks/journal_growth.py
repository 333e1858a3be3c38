"""How the cost of a journal's operations grows with its rows, from a thousand to a million, in one process.

A busy machine makes seconds uncertain, so CPU time is told too: of this process, and for PostgreSQL of its server. What
a claim, a look-up or a periodic operation costs must not depend on how many rows there are.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

from benchmarks.bench import say
from benchmarks.journal_claims import Store, quantile
from benchmarks.journal_rows import ACCOUNT, BASE_URL, DEDUP_KEY, MODEL, RESOLUTION, SESSION, Mix, fill
from benchmarks.picture_chain import Picture, rules_of
from flux2_tool.journal import Conversation, ThisProcess, open_journal
from flux2_tool.journal.place import JournalPlace
from flux2_tool.journal.store import SqlJournal

# A guard that looks this far back finds none of the pictures that are made here one after the other.
NO_WINDOW_S = 1e-6
WARM_UP = 10
STALE_S = 900.0
MIXES: tuple[Mix, ...] = get_args(Mix)


def measure(stores: Sequence[Store], sizes: Sequence[int], *, pictures: int, turns: int) -> list[dict[str, Any]]:
    """Return an entry for each mix, number of rows and store."""
    found: list[dict[str, Any]] = []
    for mix in MIXES:
        places = {store.name: store.place() for store in stores}
        begun = time.time()
        filled = 0
        for size in sizes:
            for store in stores:
                say(f"{mix}, {size} rows, {store.name}: filling")
                fill(places[store.name], mix, first=filled + 1, last=size, total=sizes[-1], now=begun)
            filled = size
            say(f"{mix}, {size} rows: measuring")
            measured: dict[str, list[dict[str, list[float]]]] = {store.name: [] for store in stores}
            for _ in range(turns):
                for store in stores:
                    measured[store.name].append(_turn(store, places[store.name], pictures))
            for store in stores:
                found.append(
                    {
                        "mix": mix,
                        "rows": size,
                        "store": store.name,
                        "bytes_a_row": _bytes(store, places[store.name]) / size,
                        **_figures(measured[store.name]),
                    }
                )
                say(json.dumps(found[-1]))
    return found


def _turn(store: Store, place: JournalPlace, pictures: int) -> dict[str, list[float]]:
    """Return seconds of each operation, and CPU seconds of each kind of operation as a whole."""
    found: dict[str, list[float]] = {}
    with closing(open_journal(place, owner=ThisProcess(), now=time.time())) as journal:
        for _ in range(WARM_UP):
            _picture(journal, {})
            _look_up(journal, "", {})
        for name, operate in (("claim", _claims), ("lookup", _lookups), ("periodic", _periodic)):
            cpu_s, server_cpu_s = time.process_time(), 0.0 if store.server is None else store.server.cpu_s()
            done = operate(journal, pictures, found)
            server_cpu_s = 0.0 if store.server is None else store.server.cpu_s() - server_cpu_s
            found[f"{name} CPU"] = [(time.process_time() - cpu_s + server_cpu_s) / done]
    return found


def _claims(journal: SqlJournal, pictures: int, found: dict[str, list[float]]) -> int:
    for _ in range(pictures):
        _picture(journal, found)
    return pictures


def _picture(journal: SqlJournal, found: dict[str, list[float]]) -> str:
    """Make a picture of the prompt that half of "alike" asks for."""
    picture, now = Picture.of(SESSION, dedup_key=DEDUP_KEY), time.time()
    rules = rules_of(SESSION, now=now, repeat_window_s=NO_WINDOW_S)
    begun_s = time.perf_counter()
    claim = journal.claim([picture.intent], rules, now=now)
    found.setdefault("claim", []).append(time.perf_counter() - begun_s)
    if claim.outcome != "new":
        raise RuntimeError(f"the claim is {claim.outcome}")
    begun_s = time.perf_counter()
    journal.note_route(picture.record_id, "guide", now=now)
    journal.note_accepted(picture.record_id, now=now, **picture.accepted())
    journal.note_end(picture.record_id, picture.outcome(), now=now)
    journal.note_delivered(picture.record_id, now=now)
    found.setdefault("notes", []).append(time.perf_counter() - begun_s)
    return picture.accepted()["task_id"]


def _lookups(journal: SqlJournal, pictures: int, found: dict[str, list[float]]) -> int:
    task_id = _picture(journal, {})
    for _ in range(pictures):
        _look_up(journal, task_id, found)
    return pictures


def _look_up(journal: SqlJournal, task_id: str, found: dict[str, list[float]]) -> None:
    """Do what calls look up, in a busy conversation and in one without pictures."""
    now = time.time()
    account = {"fingerprint": ACCOUNT, "base_url": BASE_URL}
    begun_s = time.perf_counter()
    for session in (SESSION, "agent:main:nobody"):
        journal.newest(**account, session=session)
        journal.newest(**account, session=session, delivered_first=True)
        journal.recent(Conversation(**account, session=session, descendants=frozenset({"agent:sub:1"})), limit=5)
        journal.not_given([session], since=now - STALE_S, now=now)
    journal.find_task(task_id, **account)
    journal.conversations_of(task_id)
    for cap in rules_of(SESSION, now=now).caps:
        journal.spending(cap)
    for resolution in (RESOLUTION, "8k"):
        journal.durations(base_url=BASE_URL, model=MODEL, resolution=resolution, limit=40)
    found.setdefault("lookup", []).append(time.perf_counter() - begun_s)


def _periodic(journal: SqlJournal, pictures: int, found: dict[str, list[float]]) -> int:
    """Do what a gateway does every ten or thirty seconds."""
    for _ in range(pictures):
        now, begun_s = time.time(), time.perf_counter()
        journal.heartbeat(now=now)
        journal.mark_unconfirmed(sent_before=now - STALE_S, now=now)
        journal.unowned(fingerprint=ACCOUNT, base_url=BASE_URL, now=now, resend_since=now - STALE_S)
        journal.records(states=("completed",), since=now - STALE_S, ended_since=now)
        found.setdefault("periodic", []).append(time.perf_counter() - begun_s)
    return pictures


def _figures(turns: Sequence[dict[str, list[float]]]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name in ("claim", "notes", "lookup", "periodic"):
        seconds = sorted(one for turn in turns for one in turn[name])
        figures |= {f"{name}_ms": statistics.median(seconds) * 1000, f"{name}_p95_ms": quantile(seconds, 0.95) * 1000}
    for name in ("claim", "lookup", "periodic"):
        # The quietest turn: what others do on the machine makes CPU time longer, and never shorter.
        figures[f"{name}_cpu_ms"] = min(turn[f"{name} CPU"][0] for turn in turns) * 1000
    return figures


def _bytes(store: Store, place: JournalPlace) -> float:
    """Return how much the table of records takes, with its indexes."""
    if isinstance(place, Path):
        return float((place / "journal.db").stat().st_size)
    assert store.server is not None  # noqa: S101 - only a server has other places
    return store.server.ask(f"SELECT pg_total_relation_size('{place.schema}.records')")
