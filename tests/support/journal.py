"""Journals of made-up processes, records as they would be written, and the ways a disk fails."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, cast

from flux2_tool.journal import (
    Claim,
    ClaimRules,
    Intent,
    Journal,
    JournalError,
    JournalPlace,
    Liveness,
    Moment,
    OpenJournal,
    Outcome,
    Owner,
    Record,
    SqliteJournal,
)
from flux2_tool.journal.sqlite import FILE_NAME
from tests.support import stores
from tests.support.stores import Opener, full_disk

NOON: Final = 1_795_435_200.0
SESSION: Final = ClaimRules(join="session")
ORPHANED: Final = ClaimRules(join="orphaned")
NEVER: Final = ClaimRules(join="never")


class Named:
    """An owner by name, which knows of some processes that they are dead or alive, and of the others nothing.

    Args:
        dead: The names of processes that are dead.
        alive: The names of processes that are alive.
        moment: Its boot and the seconds since then; by default those of processes for which time stands still.
    """

    def __init__(
        self,
        name: str,
        dead: Iterable[str] = (),
        *,
        alive: Iterable[str] = (),
        moment: Callable[[], Moment] = lambda: Moment("a boot", 0.0),
    ) -> None:
        self.name = name
        self.moment = moment
        self._dead = dead
        self._alive = alive

    def liveness(self, name: str) -> Liveness:
        if name in self._dead:
            return "dead"
        return "alive" if name in self._alive else "unknown"

    def close(self) -> None:
        """Nothing: the test says who is alive."""


class Machine:
    """Opens one journal for processes of any name."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.dead: set[str] = set()
        self.alive: set[str] = set()
        # Seconds since each boot; all processes are of one boot unless a test says otherwise.
        self.uptime_s = {"a boot": 0.0}
        self._made = 0
        self._open: list[SqliteJournal] = []

    def open(self, name: str = "p1", *, boot: str = "a boot") -> SqliteJournal:
        """Return the journal as a process sees it, in containers of one host or, with another `boot`, elsewhere."""
        self.uptime_s.setdefault(boot, 0.0)
        owner = Named(name, self.dead, alive=self.alive, moment=lambda: Moment(boot, self.uptime_s[boot]))
        journal = stores.open_store(self.home, owner=owner, now=NOON, time_s=lambda: NOON + self.uptime_s["a boot"])
        self._open.append(journal)
        return journal

    def wait(self, seconds: float) -> None:
        """Let time pass on every monotonic clock; the wall clock is what a test passes as `now`."""
        for boot in self.uptime_s:
            self.uptime_s[boot] += seconds

    def intent(self, dedup_key: str = "a fox", **values: Any) -> Intent:
        """Return a new intent; every one has ids of its own."""
        self._made += 1
        defaults: dict[str, Any] = {
            "record_id": f"record-{self._made}",
            "session": "a session",
            "dedup_key": dedup_key,
            "fingerprint": "0123456789abcdef",
            "base_url": "https://runapi.test",
            "tool": "text_to_image",
            "model": "flux-2-pro-text-to-image",
            "resolution": "1k",
            "label": "a-fox",
            "body": json.dumps({"prompt": dedup_key}).encode(),
            "idempotency_key": f"key-{self._made}",
            "client_request_id": f"request-{self._made}",
            "route": "guide",
            "price_usd": 0.05,
        }
        return Intent(**{**defaults, **values})

    def set_of(self, count: int, dedup_key: str = "a fox", **values: Any) -> list[Intent]:
        """Return the intents of one call for several pictures; one picture is in no set."""
        # Named after its first picture.
        of_set = {} if count == 1 else {"set_id": f"set-{self._made + 1}", "set_size": count}
        indexed: list[dict[str, Any]] = [{**of_set, **({"set_index": i} if of_set else {})} for i in range(count)]
        return [self.intent(dedup_key, **one, **values) for one in indexed]

    def begin(
        self, journal: SqliteJournal, rules: ClaimRules = SESSION, *, at_s: float = 0.0, count: int = 1, **values: Any
    ) -> Claim:
        """Claim an intent, or a set of them, some seconds after noon."""
        self.wait(at_s)
        try:
            return journal.claim(self.set_of(count, **values), rules, now=NOON + at_s)
        finally:
            self.wait(-at_s)

    def close(self) -> None:
        """Close what was opened."""
        for journal in self._open:
            journal.close()


def begun(claim: Claim) -> Record:
    """Return the record of a claim that must be new."""
    assert claim.outcome == "new"
    assert claim.record is not None
    return claim.record


def accept(journal: SqliteJournal, record: Record, task_id: str = "tsk_1", *, at_s: float = 1.0) -> None:
    """Write down that RunAPI took it."""
    journal.note_accepted(record.record_id, now=NOON + at_s, task_id=task_id, status_url=None, request_id="req_1")


def complete(journal: SqliteJournal, record: Record, *, at_s: float = 7.0) -> None:
    """Write down that the picture is there."""
    images = (("https://cdn.example/fox.png", "2026-11-30T12:00:07Z"),)
    end(journal, record, "completed", at_s=at_s, images=images, cost_usd=0.05)


def end(journal: SqliteJournal, record: Record, state: Any, *, at_s: float = 1.0, **values: Any) -> None:
    """Write down that it ended in a state, some seconds after noon."""
    journal.note_end(record.record_id, Outcome(state=state, **values), now=NOON + at_s)


def slow_at(operation: str, *, seconds: float) -> OpenJournal:
    """Return an opener of journals in which one operation takes so long, as on a disk that hangs."""

    async def opened(folder: JournalPlace | None, *, owner: Owner, now: float) -> Journal:
        return cast("Journal", _Slow(await Opener()(folder, owner=owner, now=now), operation, seconds))

    return opened


class _Slow:
    def __init__(self, journal: Journal, operation: str, seconds: float) -> None:
        self._journal = journal
        self._operation = operation
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._journal, name)
        if name != self._operation:
            return method

        async def late(*args: Any, **values: Any) -> Any:
            await asyncio.sleep(self._seconds)
            return await method(*args, **values)

        return late


class Watched:
    """Opens journals that say what is asked of them.

    Args:
        opener: Opens them.
        after: Called with each operation's name when it has ended.

    Attributes:
        asked: The operations, in order.
    """

    def __init__(
        self, opener: OpenJournal | None = None, *, after: Callable[[str], object] = lambda _name: None
    ) -> None:
        self.asked: list[str] = []
        self.after = after
        self._opener = opener or Opener()

    async def __call__(self, place: JournalPlace | None, *, owner: Owner, now: float) -> Journal:
        return cast("Journal", _Watched(self, await self._opener(place, owner=owner, now=now)))


class _Watched:
    def __init__(self, watch: Watched, journal: Journal) -> None:
        self._watch = watch
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._journal, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def asked(*args: Any, **values: Any) -> Any:
            self._watch.asked.append(name)
            result = await method(*args, **values)
            self._watch.after(name)
            return result

        return asked


_IDLE: Final = """
import sqlite3, sys
journal = sqlite3.connect(sys.argv[1], isolation_level=None)
journal.execute(sys.argv[2])
print(*journal.execute("SELECT count(*) FROM records").fetchone(), flush=True)
input()
"""


@contextlib.contextmanager
def open_elsewhere(home: Path, *, locked: bool = False) -> Iterator[None]:
    """Have another program keep the journal open, with the files that it has now, and perhaps in a transaction."""
    begin = "BEGIN IMMEDIATE" if locked else "BEGIN DEFERRED"
    command = [sys.executable, "-c", _IDLE, str(home / FILE_NAME), begin]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline()
        yield
        program.communicate(b"\n")


__all__ = [
    "JournalError",
    "Machine",
    "Named",
    "Watched",
    "accept",
    "begun",
    "complete",
    "end",
    "full_disk",
    "open_elsewhere",
    "slow_at",
]
