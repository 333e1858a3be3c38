"""Copying a journal: everything, in order, once; or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flux2_tool.context import CallContext, kept_name
from flux2_tool.journal import Cap, Failure, JournalError, Outcome, SqlJournal, open_journal
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


def test_a_journal_whose_tasks_were_deleted_is_not_copied_into(machine: Machine, target: SqlJournal) -> None:
    """What they cost counts on in it."""
    record = begun(target.claim([machine.intent(reserved_usd=0.05)], NEVER, now=NOON))
    accept(target, record, "tsk_1")
    complete(target, record)
    target.note_delivered(record.record_id, now=NOON)
    assert target.prune(before=NOON + 1.0) == 1

    with pytest.raises(JournalError, match="not empty: it counts what deleted tasks cost"):
        JournalCopy(filled(machine), target).run(now=NOON)


@pytest.mark.parametrize(
    "name", ["a\0b", "🦊" * 900, "".join(map(chr, range(0x4E00, 0x5E00)))], ids=["NUL", "foxes", "long"]
)
def test_a_name_that_no_server_can_keep_is_copied_as_it_would_be_written(
    machine: Machine, target: SqlJournal, name: str
) -> None:
    """An earlier version wrote it to a file; its conversation finds its tasks, and its cap counts, in the copy."""
    old = open_journal(machine.home / "old", owner=Named("p1"), now=NOON)
    intent = machine.intent(session=name, sender=name, label="a\0fox", reserved_usd=0.05)
    record = begun(old.claim([intent], NEVER, now=NOON))
    old.note_end(record.record_id, Outcome(state="failed", error=Failure(code="c", message="a\0b")), now=NOON)
    old.note_ancestors(name, [f"parent of {name}"])
    target.close()
    into = machine.open("p2")

    JournalCopy(old, into).run(now=NOON)
    old.close()

    caller = CallContext(session=name, sender=name)
    [copied] = into.records()
    assert caller.may_use(copied.session)
    assert (copied.label, copied.sender) == ("a\N{REPLACEMENT CHARACTER}fox", caller.sender)
    assert into.descendants_of(kept_name(f"parent of {name}")) == [caller.session]
    assert into.wrong_sums() == 0


def test_a_journal_that_is_written_to_is_not_copied(machine: Machine, target: SqlJournal) -> None:
    """The next entry of whoever follows a task would be in the old one only."""
    source = filled(machine)
    begun(machine.begin(machine.open("p3"), NEVER, dedup_key="running"))

    with pytest.raises(JournalError, match="followed by a running process"):
        JournalCopy(source, target).run(now=NOON + 1.0)

    assert target.records() == []
