"""The sums of spending beside the records: always what the records say, whatever happens to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flux2_tool.journal import Cap, ClaimRules, SqliteJournal
from tests.support.journal import NEVER, NOON, Machine, accept, begun, complete, end
from tests.support.stores import raw

DAY = Cap(kind="day", limit_usd=1.0, since=NOON - 12 * 3600.0, until=NOON + 12 * 3600.0)
SESSION_CAP = Cap(kind="session", limit_usd=1.0, session="a session")
ANN = Cap(kind="sender", limit_usd=1.0, sender="ann", since=DAY.since, until=DAY.until)
NOBODY = Cap(kind="sender", limit_usd=1.0, sender=None, since=DAY.since, until=DAY.until)

_INDEXES_OF_FLAT_COSTS = (
    "records_open_by_dedup_key",
    "records_open_by_cross_session_dedup_key",
    "records_in_session",
    "records_of_connections",
    "records_by_end",
    "records_by_kind",
)


def used(journal: SqliteJournal, cap: Cap) -> tuple[float, float]:
    """Return what is spent and what is reserved."""
    spending = journal.spending(cap)
    return round(spending.spent_usd, 9), round(spending.reserved_usd, 9)


def test_a_reservation_becomes_the_billed_amount(machine: Machine) -> None:
    """In each cap it belongs to, and in no other."""
    journal = machine.open()
    record = begun(machine.begin(journal, reserved_usd=0.07, sender="ann"))
    reserved = [used(journal, cap) for cap in (DAY, SESSION_CAP, ANN, NOBODY)]
    accept(journal, record)
    complete(journal, record)

    assert reserved == [(0.0, 0.07)] * 3 + [(0.0, 0.0)]
    assert [used(journal, cap) for cap in (DAY, SESSION_CAP, ANN, NOBODY)] == [(0.05, 0.0)] * 3 + [(0.0, 0.0)]


@pytest.mark.parametrize("cap", [DAY, SESSION_CAP, ANN], ids=["day", "conversation", "person"])
@pytest.mark.parametrize(("cost_usd", "spent_usd"), [(0.03, 0.03), (None, 0.0)], ids=["billed", "free"])
def test_a_failed_task_counts_what_it_was_billed(
    machine: Machine, cap: Cap, cost_usd: float | None, spent_usd: float
) -> None:
    """Failures are free by rule; where the bill says otherwise, the bill uses up the cap."""
    journal = machine.open()
    record = begun(machine.begin(journal, reserved_usd=0.05, sender="ann"))
    accept(journal, record)
    end(journal, record, "failed", cost_usd=cost_usd)

    assert used(journal, cap) == (spent_usd, 0.0)


@pytest.mark.parametrize("cap", [DAY, SESSION_CAP, ANN], ids=["day", "conversation", "person"])
def test_pruned_spending_stays_in_every_cap(machine: Machine, cap: Cap) -> None:
    """ "It does not reset by itself" must hold after a clean-up too."""
    journal = machine.open()
    record = begun(machine.begin(journal, reserved_usd=0.05, sender="ann"))
    complete(journal, record)
    journal.note_delivered(record.record_id, now=NOON + 9.0)

    assert journal.prune(before=NOON + 3600.0) == 1
    assert used(journal, cap) == (0.05, 0.0)
    assert journal.wrong_sums() == 0


def test_a_forgotten_request_releases_its_reservation(machine: Machine) -> None:
    """A person has found out that it was not made."""
    journal = machine.open()
    record = begun(machine.begin(journal, reserved_usd=0.05))
    end(journal, record, "unknown")
    before = used(journal, DAY)
    journal.forget(record.record_id, now=NOON + 2.0)

    assert (before, used(journal, DAY)) == ((0.0, 0.05), (0.0, 0.0))


def test_spending_of_the_future_counts_for_no_day_before_it(machine: Machine) -> None:
    """The clock was a year ahead for an hour; the cap of each day until then must not be used up by it."""
    journal = machine.open()
    year_s = 365 * 86400.0
    complete(journal, begun(machine.begin(journal, at_s=year_s, reserved_usd=0.9)), at_s=year_s)
    today = machine.begin(journal, ClaimRules(join="never", caps=(DAY,)), reserved_usd=0.5)

    assert today.outcome == "new"
    assert used(journal, SESSION_CAP) == (0.05, 0.5)


def test_a_record_that_moves_to_another_session_takes_its_spending_along(machine: Machine) -> None:
    """A new connection that inherits a picture has caused its cost."""
    values: dict[str, Any] = {"cross_session_dedup_key": "a fox", "reserved_usd": 0.05}
    begun(machine.begin(machine.open("p1"), session="connection:p1", dedup_key="by p1", **values))
    machine.dead.add("p1")
    heir = machine.open("p2")
    rules = ClaimRules(join="session", inherited_session_prefix="connection:")
    machine.begin(heir, rules, session="connection:p2", dedup_key="by p2", **values)

    sessions = [Cap(kind="session", limit_usd=1.0, session=f"connection:{name}") for name in ("p1", "p2")]
    assert [used(heir, cap) for cap in sessions] == [(0.0, 0.0), (0.0, 0.05)]


@pytest.mark.sqlite_only("the first schema in PostgreSQL has the sums")
def test_sums_of_an_older_journal_are_filled_from_its_records(machine: Machine, home: Path) -> None:
    """The first claim after an upgrade must know what was spent before it."""
    journal = machine.open()
    complete(journal, begun(machine.begin(journal, NEVER, reserved_usd=0.05, sender="ann")))
    begun(machine.begin(journal, NEVER, reserved_usd=0.07))
    expected = [used(journal, cap) for cap in (DAY, SESSION_CAP, ANN, NOBODY)]
    journal.close()
    with raw(home) as old:
        for trigger in ("new", "changed", "moved", "deleted"):
            old.execute(f"DROP TRIGGER spending_of_{trigger}")
        old.execute("DROP TABLE spending")
        for index in _INDEXES_OF_FLAT_COSTS:
            old.execute(f"DROP INDEX {index}")
        old.execute("CREATE INDEX records_by_request_key ON records (cross_session_dedup_key)")
        old.execute("CREATE INDEX records_spending_by_service ON records (created_at)")
        steps = "'0012_spending_sums', '0015_flat_costs', '0017_changed_spending'"
        old.execute(f"DELETE FROM migrations WHERE name IN ({steps})")  # noqa: S608 - own names
    upgraded = machine.open("p2")

    assert [used(upgraded, cap) for cap in (DAY, SESSION_CAP, ANN, NOBODY)] == expected
    assert upgraded.wrong_sums() == 0


@pytest.mark.sqlite_only("PostgreSQL's function does so from its first version on")
def test_only_a_changed_amount_is_counted(machine: Machine, home: Path) -> None:
    """Once in each of its three sums: an acceptance changes none, and each costs CPU time for each picture."""
    journal = machine.open()
    record = begun(machine.begin(journal, reserved_usd=0.07, sender="ann"))
    with raw(home) as watching:
        watching.execute("CREATE TABLE counted (scope TEXT)")
        watching.execute(
            "CREATE TRIGGER counting AFTER UPDATE ON spending BEGIN INSERT INTO counted VALUES (NEW.scope); END"
        )
        accept(journal, record)
        of_acceptance = watching.execute("SELECT count(*) FROM counted").fetchone()
        complete(journal, record)
        of_end = sorted(scope for (scope,) in watching.execute("SELECT scope FROM counted"))

    assert (of_acceptance[0], of_end) == (0, ["all", "sender", "session"])
    assert used(journal, DAY) == (0.05, 0.0)


@pytest.mark.sqlite_only("PostgreSQL's function does so from its first version on")
def test_a_journal_that_counts_as_before_is_brought_up_to_date(machine: Machine, home: Path) -> None:
    """Two ways to count, one beside the other, would count everything twice."""
    journal = machine.open()
    first = begun(machine.begin(journal, NEVER, reserved_usd=0.05))
    journal.close()
    with raw(home) as old:
        old.execute("DROP TRIGGER spending_of_moved")
        old.execute("DROP TRIGGER spending_of_changed")
        old.execute(
            "CREATE TRIGGER spending_of_changed AFTER UPDATE OF state ON records BEGIN"
            " UPDATE spending SET reserved = reserved - 50000000, spent = spent + 50000000; END"
        )
        old.execute("DELETE FROM migrations WHERE name = '0017_changed_spending'")
    upgraded = machine.open("p1")
    complete(upgraded, first)

    assert used(upgraded, DAY) == (0.05, 0.0)
    assert upgraded.wrong_sums() == 0


def test_wrong_sums_are_found_and_counted_anew(machine: Machine, home: Path) -> None:
    """Somebody edited the file, or a bug did; pruned spending has no record any more and must survive."""
    journal = machine.open()
    for number in range(2):
        record = begun(machine.begin(journal, NEVER, reserved_usd=0.05, at_s=number * 1000.0))
        complete(journal, record)
        journal.note_delivered(record.record_id, now=NOON + 1.0)
    journal.prune(before=NOON + 1.0)
    with raw(home) as edited:
        edited.execute("UPDATE spending SET spent = spent + 1 WHERE scope = 'all'")
    wrong = journal.wrong_sums()
    journal.prune(before=NOON - 1.0)

    assert wrong > 0
    assert journal.wrong_sums() == 0
    assert used(journal, DAY) == (0.1, 0.0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "accept", "complete", "fail", "lose", "drop", "deliver", "prune", "forget", "copy"]),
        st.integers(0, 5),
        st.sampled_from([0.05, 0.07, 0.001, 1e-9, 0.0]),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_the_sums_are_what_the_records_say_after_any_steps(tmp_path_factory: Any, steps: Any) -> None:
    """By the same query that `doctor` uses; with amounts that have no exact binary form."""
    machine = Machine(tmp_path_factory.mktemp("sums") / "home")
    journal, records = machine.open(), []
    for what, number, usd in steps:
        if what == "begin":
            values = {"session": f"s{number}" if number else None, "sender": "ann" if number % 2 else None}
            records.append(begun(machine.begin(journal, NEVER, reserved_usd=usd, at_s=number * 800.0, **values)))
            continue
        if what == "prune":
            journal.prune(before=NOON + number * 800.0)
        if not records:
            continue
        record = records[number % len(records)]
        known = journal.get(record.record_id)
        if known is None:
            continue
        if what == "accept":
            accept(journal, record)
        elif what in ("complete", "fail", "lose", "drop"):
            state = {"complete": "completed", "fail": "failed", "lose": "unknown", "drop": "not_created"}[what]
            end(journal, record, state, cost_usd=usd)
        elif what == "deliver":
            journal.note_delivered(record.record_id, now=NOON)
        elif what == "forget":
            journal.forget(record.record_id, now=NOON)
        elif what == "copy":  # all that decides which sums are its, and what it counts in them
            at = known.created_at + number * 800.0
            copied = replace(known, session=f"s{number}", sender="bob", created_at=at, reserved_usd=usd, cost_usd=usd)
            journal.carry_over([copied])
    wrong = journal.wrong_sums()
    machine.close()

    assert wrong == 0
