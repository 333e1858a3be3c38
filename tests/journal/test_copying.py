"""Copying a journal: everything, in order, once; or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flux2_tool.journal import Cap, JournalError, SqlJournal, open_journal
from flux2_tool.journal.copying import JournalCopy
from tests.support.journal import NEVER, NOON, Machine, Named, accept, begun, complete

CAP = Cap(kind="day", limit_usd=5.0, since=NOON - 3600.0, until=NOON + 80000.0)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[SqlJournal]:
    """An empty journal in a file, whatever store the source is in."""
    journal = open_journal(tmp_path / "target", owner=Named("copier"), now=NOON)
    yield journal
    journal.close()


def filled(machine: Machine) -> SqlJournal:
    """Return a journal with every kind of entry, which nobody has open any more."""
    journal = machine.open("p1")
    for number, price in enumerate((0.05, 0.07, 0.14)):
        record = begun(machine.begin(journal, NEVER, reserved_usd=price, dedup_key=f"fox {number}"))
        accept(journal, record, f"tsk_{number}")
        complete(journal, record)
        journal.note_delivered(record.record_id, now=NOON + 8.0, elsewhere="parent" if number else None)
    journal.note_ancestors("a session", ["parent"])
    journal.prune(before=NOON + 0.5)
    begun(machine.begin(journal, NEVER, dedup_key="open", reserved_usd=0.5, at_s=1.0))
    journal.close()
    return machine.open("p2")


def test_everything_is_copied_and_counts_the_same(machine: Machine, target: SqlJournal) -> None:
    """What was spent counts on, also what deleted requests cost; the conversations of their tasks stay known."""
    source = filled(machine)
    before = source.spending(CAP)

    copied = JournalCopy(source, target).run(now=NOON + 9.0)

    assert copied.records == len(source.records()) == len(target.records())
    assert target.spending(CAP) == before
    assert [record.record_id for record in target.records()] == [record.record_id for record in source.records()]
    assert target.conversations_of("tsk_1") == source.conversations_of("tsk_1")
    assert target.descendants_of("parent") == ["a session"]
    assert target.wrong_sums() == 0


def test_a_journal_with_tasks_is_not_copied_into(machine: Machine, target: SqlJournal) -> None:
    """Two histories of one account cannot be told apart afterwards."""
    begun(target.claim([machine.intent()], NEVER, now=NOON))

    with pytest.raises(JournalError, match="not empty: it has 1 task"):
        JournalCopy(filled(machine), target).run(now=NOON)

    assert len(target.records()) == 1


def test_a_journal_that_is_written_to_is_not_copied(machine: Machine, target: SqlJournal) -> None:
    """The next entry of whoever follows a task would be in the old one only."""
    source = filled(machine)
    begun(machine.begin(machine.open("p3"), NEVER, dedup_key="running"))

    with pytest.raises(JournalError, match="followed by a running process"):
        JournalCopy(source, target).run(now=NOON + 1.0)

    assert target.records() == []
