"""Ending what was recorded for calls that were told otherwise: only what is surely not sent."""

from __future__ import annotations

import pytest

from flux2_tool.journal import Cap, JournalError
from tests.support.journal import NEVER, NOON, Machine, accept, begun

CAP = Cap(kind="day", limit_usd=1.0, since=NOON - 1.0, until=NOON + 1.0)


def test_what_is_not_sent_is_ended_and_frees_its_price(machine: Machine) -> None:
    """All pictures of a set; an id that was not recorded after all is no error."""
    journal = machine.open()
    intents = machine.set_of(2, reserved_usd=0.05)
    journal.claim(intents, NEVER, now=NOON)

    journal.end_unsent([*(one.record_id for one in intents), "never recorded"], now=NOON)

    assert [(one.state, one.owner, one.finished_at) for one in journal.records()] == [("not_created", None, NOON)] * 2
    assert (journal.spending(CAP).reserved_usd, journal.wrong_sums()) == (0.0, 0)


def test_what_was_accepted_or_is_of_another_process_stays(machine: Machine) -> None:
    """It may be paid for."""
    journal, other = machine.open("p1"), machine.open("p2")
    accepted = begun(machine.begin(journal, NEVER, dedup_key="accepted"))
    accept(journal, accepted, "tsk_1")
    theirs = begun(machine.begin(other, NEVER, dedup_key="theirs"))

    journal.end_unsent([accepted.record_id, theirs.record_id], now=NOON)

    assert [one.state for one in journal.records()] == ["processing", "sending"]


def test_a_claim_whose_call_has_ended_records_nothing(machine: Machine) -> None:
    """It may have waited for a lock for longer than its call."""
    journal = machine.open()

    with pytest.raises(JournalError, match="has ended"):
        journal.claim([machine.intent()], NEVER, now=NOON, is_left=lambda: True)

    assert journal.records() == []
