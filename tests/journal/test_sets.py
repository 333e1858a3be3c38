"""The pictures of one call in the journal: claimed together or not at all, joined together, each with its own end."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.context import CONNECTION
from flux2_tool.journal import Cap, Claim, ClaimRules, Record, SavedCopy, SqliteJournal
from tests.support.journal import NEVER, NOON, ORPHANED, SESSION, Machine, accept, complete, end

DAY = Cap(kind="day", limit_usd=0.5)


def _set(claim: Claim, count: int = 4) -> list[Record]:
    """Return the records of a new set."""
    assert claim.outcome == "new"
    assert len(claim.records) == count
    return list(claim.records)


def _show(journal: SqliteJournal, record: Record) -> None:
    """Write down that a picture was made and shown."""
    accept(journal, record, f"tsk_{record.record_id}")
    complete(journal, record)
    journal.note_delivered(record.record_id, now=NOON + 8.0)


def test_a_set_is_claimed_together_under_keys_of_its_own(machine: Machine) -> None:
    """One transaction; each picture is a request like any other."""
    records = _set(machine.begin(machine.open(), count=4))

    assert len({record.idempotency_key for record in records}) == 4
    assert [record.set_index for record in records] == [0, 1, 2, 3]
    assert {(record.set_id, record.set_size, record.state) for record in records} == {
        (records[0].set_id, 4, "sending"),
    }
    assert len({record.dedup_key for record in records}) == 1


def test_a_single_picture_is_in_no_set(machine: Machine) -> None:
    """As in every journal of an earlier version."""
    [record] = machine.begin(machine.open()).records

    assert (record.set_id, record.set_size, record.set_index) == (None, 1, 0)


@pytest.mark.parametrize("joinable", ["sending", "processing", "unknown", "completed"])
def test_a_set_is_joined_whole_while_any_picture_of_it_is_joinable(machine: Machine, joinable: str) -> None:
    """What was shown before comes too, and so does what failed: the caller asked for all of it."""
    journal = machine.open()
    records = _set(machine.begin(journal, count=4))
    for record in records[:2]:
        _show(journal, record)
    end(journal, records[2], "failed")
    if joinable in ("processing", "completed"):
        accept(journal, records[3])
    if joinable == "completed":
        complete(journal, records[3])
    if joinable == "unknown":
        end(journal, records[3], "unknown")

    joined = machine.begin(machine.open("p2"), count=4, at_s=9.0)

    assert joined.outcome == "joined"
    assert [record.record_id for record in joined.records] == [record.record_id for record in records]


def test_a_set_that_was_shown_or_failed_is_not_joined(machine: Machine) -> None:
    """Whoever has it may have another."""
    journal = machine.open()
    records = _set(machine.begin(journal, count=2), 2)
    _show(journal, records[0])
    end(journal, records[1], "failed")

    assert machine.begin(journal, count=2, at_s=9.0).outcome == "new"


def test_a_set_is_pruned_as_a_whole_or_not_at_all(machine: Machine) -> None:
    """A picture that nobody was shown keeps the others, so that an equal call still gets all that it asks for."""
    journal = machine.open()
    shown, partly, single = (
        _set(machine.begin(journal, dedup_key=name, count=count, at_s=-5000.0), count)
        for name, count in (("shown", 3), ("partly", 3), ("single", 1))
    )
    for record in (*shown, *partly[:2], *single):
        _show(journal, record)
    accept(journal, partly[2])
    complete(journal, partly[2])

    pruned = journal.prune(before=NOON - 1000.0)

    assert pruned == 4
    assert [record.record_id for record in journal.records()] == [record.record_id for record in partly]
    joined = machine.begin(journal, dedup_key="partly", count=3, at_s=9.0)
    assert [record.record_id for record in joined.records] == [record.record_id for record in partly]
    journal.note_delivered(partly[2].record_id, now=NOON + 10.0)
    assert journal.prune(before=NOON - 1000.0) == 3


@pytest.mark.parametrize(("first", "second"), [(4, 3), (4, 1), (1, 4)])
def test_another_number_of_pictures_is_another_request(machine: Machine, first: int, second: int) -> None:
    """Whoever asks for four does not get the one that is being made."""
    journal = machine.open()
    machine.begin(journal, count=first)

    assert machine.begin(journal, count=second, at_s=1.0).outcome == "new"


def test_an_expired_picture_alone_does_not_make_its_set_joinable(machine: Machine, tmp_path: Path) -> None:
    """Its link is worth nothing; with a saved copy it is."""
    journal = machine.open()
    records = _set(machine.begin(journal, count=2), 2)
    for record in records:
        accept(journal, record, f"tsk_{record.record_id}")
        complete(journal, record)
    late_s = 8 * 24 * 3600.0
    (tmp_path / "fox.png").write_bytes(b"a picture")
    expired = machine.begin(journal, dataclasses.replace(SESSION, is_trial=True), count=2, at_s=late_s)
    journal.note_saved(records[1].record_id, [SavedCopy(path=str(tmp_path / "fox.png"), width_px=8, height_px=8)])

    assert expired.outcome == "new"
    assert machine.begin(journal, count=2, at_s=late_s).outcome == "joined"


def test_the_guard_against_repeats_counts_pictures(machine: Machine) -> None:
    """A set of four fits a limit of four exactly, and two sets of three do not."""
    journal, rules = machine.open(), dataclasses.replace(NEVER, repeat_max=4, repeat_window_s=600.0)

    assert machine.begin(journal, rules, count=4, dedup_key="a cat").outcome == "new"
    assert machine.begin(journal, rules, count=1, dedup_key="a cat").outcome == "repeated"
    assert machine.begin(journal, rules, count=3).outcome == "new"
    refused = machine.begin(journal, rules, count=2)
    assert refused.outcome == "repeated"
    assert len(refused.repeated) == 3
    assert machine.begin(journal, rules, count=1).outcome == "new"


@pytest.mark.parametrize(
    ("made", "failed", "billed", "fits"),
    [
        pytest.param(0, 4, 0, 4, id="all failed, so all may be tried again"),
        pytest.param(2, 2, 0, 2, id="what was made counts"),
        pytest.param(2, 0, 2, 0, id="so does what failed and was billed"),
        pytest.param(3, 1, 0, 0, id="the failed ones of a call are one"),
    ],
)
def test_failed_pictures_of_a_call_count_as_one_repeat(
    machine: Machine, made: int, failed: int, billed: int, fits: int
) -> None:
    """Their call may be made once more, and a loop of such calls still ends."""
    journal, rules = machine.open(), dataclasses.replace(NEVER, repeat_max=4, repeat_window_s=600.0)
    records = _set(machine.begin(journal, rules, count=4))
    for number, record in enumerate(records):
        if number < made:
            _show(journal, record)
        else:
            end(journal, record, "failed", cost_usd=0.05 if number >= made + failed else None)
    trial = dataclasses.replace(rules, is_trial=True)

    outcomes = [machine.begin(journal, trial, count=count, at_s=9.0).outcome for count in (1, 2, 3, 4)]

    assert outcomes == ["new"] * fits + ["repeated"] * (4 - fits)


def test_a_cap_has_room_for_all_or_takes_none(machine: Machine) -> None:
    """What was refused reserves nothing."""
    journal, rules = machine.open(), ClaimRules(join="never", caps=(DAY,))

    assert machine.begin(journal, rules, count=4, reserved_usd=0.2).outcome == "over_budget"
    assert journal.spending(DAY).reserved_usd == 0.0
    assert machine.begin(journal, rules, count=2, reserved_usd=0.2).outcome == "new"
    assert journal.spending(DAY).reserved_usd == pytest.approx(0.4)
    assert journal.records()[-1].set_size == 2


def test_the_cap_per_image_counts_one(machine: Machine) -> None:
    """It is about what one picture may cost."""
    caps = (Cap(kind="image", limit_usd=0.05),)

    assert (
        machine.begin(machine.open(), ClaimRules(join="never", caps=caps), count=4, reserved_usd=0.05).outcome == "new"
    )
    assert machine.begin(machine.open(), ClaimRules(join="never", caps=caps), count=2, reserved_usd=0.06).outcome == (
        "over_budget"
    )


def test_without_a_session_a_set_is_joined_once_its_process_is_dead(machine: Machine) -> None:
    """A command that was interrupted is typed again; two terminals side by side get a set each."""
    records = _set(machine.begin(machine.open("p1"), ORPHANED, session=None, count=4))
    beside = machine.begin(machine.open("p2"), dataclasses.replace(ORPHANED, is_trial=True), session=None, count=4)
    machine.dead.add("p1")

    again = machine.begin(machine.open("p2"), ORPHANED, session=None, count=4, at_s=2.0)

    assert beside.outcome == "new"
    assert [record.record_id for record in again.records] == [record.record_id for record in records]


def test_a_connection_inherits_a_whole_set(machine: Machine) -> None:
    """The host reconnects, and the model repeats its call: all pictures move to the new session, also those shown."""
    rules = ClaimRules(join="session", inherited_session_prefix=CONNECTION)
    ask: dict[str, Any] = {"cross_session_dedup_key": "a fox", "count": 3}
    journal = machine.open("p1")
    records = _set(machine.begin(journal, rules, session="connection:p1", dedup_key="1", **ask), 3)
    _show(journal, records[0])
    machine.dead.add("p1")

    inherited = machine.begin(machine.open("p2"), rules, session="connection:p2", dedup_key="2", at_s=9.0, **ask)
    again = machine.begin(machine.open("p2"), rules, session="connection:p2", dedup_key="2", at_s=9.0, **ask)
    other = machine.begin(machine.open("p3"), rules, session="connection:p3", dedup_key="3", at_s=9.0, **ask)

    assert (inherited.outcome, again.outcome, other.outcome) == ("joined", "joined", "new")
    assert {record.session for record in inherited.records} == {"connection:p2"}
    assert [record.record_id for record in again.records] == [record.record_id for record in records]


def test_a_set_moves_whole_to_another_journal(machine: Machine, tmp_path: Path) -> None:
    """When the file was replaced, an equal call still finds what is in flight."""
    records = _set(machine.begin(machine.open(), count=4))
    other = Machine(tmp_path / "other")
    journal = other.open()
    journal.carry_over(records)

    joined = machine.begin(journal, count=4, at_s=1.0)

    assert joined.outcome == "joined"
    assert [record.set_index for record in joined.records] == [0, 1, 2, 3]
    other.close()
