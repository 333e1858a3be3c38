"""What a note returns: the record as the journal has it from then on, without another look at it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flux2_tool._clock import SystemClock
from flux2_tool.journal import CreateLimit, Failure, Outcome, Record, SqlJournal, ThreadedJournal
from tests.support.journal import NEVER, NOON, Machine, accept, begun, complete

IMAGES = (("https://cdn.example/1.png", "2026-11-30T12:00:07Z"), ("https://cdn.example/2.png", None))
COMPLETED = Outcome(
    state="completed", images=IMAGES, cost_usd=0.05, raw='{"a": "\N{SNOWMAN}"}', request_id="r", polls=3, duration_s=4.5
)
FAILED = Outcome(state="failed", error=Failure("content_policy", "No."), cost_usd=0.0, polls=2)
UNKNOWN = Outcome(state="unknown", error=Failure("unexpected_answer", "?"), conflict=True, abandoned=True)
LIMIT = CreateLimit(8, 0, "https://runapi.test", "0123456789abcdef")

Note = Callable[[SqlJournal, str], Record]


def _accepted(journal: SqlJournal, record_id: str) -> Record:
    return journal.note_accepted(record_id, now=NOON + 2.0, task_id="tsk_1", status_url="/tasks/1", request_id="r")


def _ended(outcome: Outcome) -> Note:
    return lambda journal, record_id: journal.note_end(record_id, outcome, now=NOON + 3.0)


NOTES: dict[str, Note] = {
    "a route": lambda journal, record_id: journal.note_route(record_id, "service", now=NOON + 1.0, creates=LIMIT)[2],
    "the same route": lambda journal, record_id: journal.note_route(record_id, "guide", now=NOON + 1.0)[2],
    "an acceptance": _accepted,
    **{f"an end: {outcome.state}": _ended(outcome) for outcome in (COMPLETED, FAILED, UNKNOWN)},
}


@pytest.mark.parametrize("name", NOTES)
def test_a_note_returns_the_record_as_it_is_then(machine: Machine, name: str) -> None:
    """The image task goes on by it: what it did not return would be forgotten with the next note."""
    journal = machine.open()
    record = begun(machine.begin(journal, NEVER))
    machine.wait(1.0)

    noted = NOTES[name](journal, record.record_id)

    assert noted == journal.get(record.record_id)
    assert noted != record


@pytest.mark.parametrize("name", ["an acceptance", "an end: failed"])
@pytest.mark.parametrize("of", ["another process", "what is completed"])
def test_a_note_that_changes_nothing_returns_what_is_there(machine: Machine, name: str, of: str) -> None:
    """Who wrote it knows better."""
    journal, other = machine.open("p1"), machine.open("p2")
    owner = other if of == "another process" else journal
    record = begun(machine.begin(owner, NEVER))
    accept(owner, record, "tsk_theirs")
    if of == "what is completed":
        complete(journal, record)
    before = journal.get(record.record_id)

    noted = NOTES[name](journal, record.record_id)

    assert noted == before == journal.get(record.record_id)


class _Counted:
    """A store that counts its reads and transactions, and is otherwise the one that it is given."""

    def __init__(self, store: Any) -> None:
        self.asked = 0
        guarded, transaction = store._guarded, store._transaction

        @contextlib.contextmanager
        def read() -> Iterator[None]:
            self.asked += 1
            with guarded():
                yield

        @contextlib.contextmanager
        def write(**how: Any) -> Iterator[None]:
            self.asked += 1
            with transaction(**how):
                yield

        store._guarded, store._transaction = read, write


def test_what_is_noted_of_a_picture_is_one_transaction_each(machine: Machine) -> None:
    """Each further look takes CPU time for each picture, and on a server a round trip."""
    store = machine.open()
    counted = _Counted(store)
    record = begun(machine.begin(store, NEVER))

    async def main() -> dict[str, int]:
        journal, found = ThreadedJournal(store, ThreadPoolExecutor(1), clock=SystemClock()), {}
        accepted = {"task_id": "tsk_1", "status_url": None, "request_id": None}
        for name, noting in (
            ("note_route", lambda: journal.note_route(record.record_id, "guide", now=NOON, creates=LIMIT)),
            ("note_accepted", lambda: journal.note_accepted(record.record_id, now=NOON, **accepted)),
            ("note_end", lambda: journal.note_end(record.record_id, COMPLETED, now=NOON)),
        ):
            counted.asked = 0
            await noting()
            found[name] = counted.asked
        await journal.close()
        return found

    assert asyncio.run(main()) == {"note_route": 1, "note_accepted": 1, "note_end": 1}
