"""Ownership of records: leases, dead processes, and what a stalled process may still write."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from flux2_tool.journal import OwnershipLostError, ThisProcess
from flux2_tool.journal.sqlite_leases import LEASE_S
from tests.support.journal import NOON, Machine, accept, begun, complete, end


def test_a_living_process_owns_its_records_while_it_sends_heartbeats(machine: Machine) -> None:
    """Two processes that follow one task would poll twice and could disagree."""
    mine, other = machine.open("p1"), machine.open("p2")
    record = begun(machine.begin(mine))

    assert other.take_over(record.record_id, now=NOON + LEASE_S - 1.0) is None
    mine.heartbeat(now=NOON + LEASE_S - 1.0)
    assert other.take_over(record.record_id, now=NOON + 2 * LEASE_S - 2.0) is None
    assert (
        other.unowned(fingerprint=record.fingerprint, base_url=record.base_url, now=NOON + 5.0, resend_since=NOON) == []
    )


def test_an_expired_lease_is_taken_over_once(machine: Machine) -> None:
    """The owner may sit on a machine that lost its network."""
    mine, other, third = machine.open("p1"), machine.open("p2"), machine.open("p3")
    record = begun(machine.begin(mine))
    late = NOON + LEASE_S + 1.0
    machine.wait(LEASE_S + 1.0)

    taken = other.take_over(record.record_id, now=late)

    assert taken is not None
    assert taken.owner == "p2"
    assert third.take_over(record.record_id, now=late + 1.0) is None
    assert mine.take_over(record.record_id, now=late + 1.0) is None


def test_a_dead_owner_on_this_machine_is_detected_at_once(machine: Machine) -> None:
    """Nobody wants to wait half a minute after a crash."""
    record = begun(machine.begin(machine.open("p1")))
    machine.dead.add("p1")
    other = machine.open("p2")

    left = other.unowned(fingerprint=record.fingerprint, base_url=record.base_url, now=NOON + 0.1, resend_since=NOON)

    assert [one.record_id for one in left] == [record.record_id]
    assert other.take_over(record.record_id, now=NOON + 0.1) is not None


def test_a_finished_record_cannot_be_taken_over(machine: Machine) -> None:
    """There is nothing left to follow, and its picture belongs to its session."""
    mine, other = machine.open("p1"), machine.open("p2")
    record = begun(machine.begin(mine))
    complete(mine, record)

    assert other.take_over(record.record_id, now=NOON + 1000.0) is None


def test_unowned_lists_only_the_accounts_own_unfinished_tasks(machine: Machine) -> None:
    """Another key must never be used for them, nor another address."""
    journal = machine.open("p1")
    accepted = begun(machine.begin(journal, dedup_key="accepted"))
    accept(journal, accepted)
    conflict = begun(machine.begin(journal, dedup_key="conflict"))
    end(journal, conflict, "unknown", conflict=True)
    late = begun(machine.begin(journal, dedup_key="late", at_s=-700.0))
    late_accepted = begun(machine.begin(journal, dedup_key="late but accepted", at_s=-700.0))
    accept(journal, late_accepted, "tsk_2")
    lost = begun(machine.begin(journal, dedup_key="lost"))
    end(journal, lost, "unknown")
    patience = begun(machine.begin(journal, dedup_key="followed in vain"))
    accept(journal, patience, "tsk_3")
    journal.release(patience.record_id, abandoned=True)
    begun(machine.begin(journal, dedup_key="other key", fingerprint="ffff"))
    begun(machine.begin(journal, dedup_key="other address", base_url="https://other.test"))
    machine.dead.add("p1")

    account: dict[str, Any] = {"fingerprint": accepted.fingerprint, "base_url": accepted.base_url}
    left = machine.open("p2").unowned(**account, now=NOON + 2.0, resend_since=NOON - 600.0)
    on_demand = machine.open("p2").unowned(**account, now=NOON + 2.0, resend_since=NOON - 600.0, include_abandoned=True)

    assert {one.dedup_key for one in left} == {"accepted", "late but accepted", "lost"}
    assert {one.dedup_key for one in on_demand} - {one.dedup_key for one in left} == {"followed in vain"}
    assert late.dedup_key == "late"


def test_taking_over_an_abandoned_task_ends_its_abandonment(machine: Machine) -> None:
    """Otherwise, should that process die, no process would resume the task by itself."""
    journal = machine.open("p1")
    record = begun(machine.begin(journal))
    accept(journal, record)
    journal.release(record.record_id, abandoned=True)

    taken = journal.take_over(record.record_id, now=NOON + 900.0)

    assert taken is not None
    assert taken.abandoned is False


def test_unowned_requests_past_the_window_become_unknown(machine: Machine) -> None:
    """Its process was killed during the POST; whether to send it again is a person's decision."""
    journal, living = machine.open("p1"), machine.open("p2")
    begun(machine.begin(journal, dedup_key="old", at_s=-700.0))
    begun(machine.begin(journal, dedup_key="new"))
    begun(machine.begin(living, dedup_key="living", at_s=-700.0))
    living.heartbeat(now=NOON)
    accept(journal, begun(machine.begin(journal, dedup_key="accepted", at_s=-700.0)))
    machine.dead.add("p1")

    machine.open("p3").mark_unconfirmed(sent_before=NOON - 600.0, now=NOON + 1.0)

    assert {record.dedup_key: record.state for record in living.records()} == {
        "old": "unknown",
        "new": "sending",
        "living": "sending",
        "accepted": "processing",
    }


def test_closing_releases_only_the_processes_own_records(machine: Machine) -> None:
    """A program may hold two tools on one folder and close one of them."""
    first, second = machine.open("p1"), machine.open("p2")
    mine = begun(machine.begin(first, dedup_key="mine"))
    theirs = begun(machine.begin(second, dedup_key="theirs"))
    first.close()

    assert second.take_over(mine.record_id, now=NOON + 1.0) is not None
    assert machine.open("p3").take_over(theirs.record_id, now=NOON + 1.0) is None


def test_a_stalled_process_undoes_nothing(machine: Machine) -> None:
    """A laptop sleeps, another process completes the task, the laptop wakes up and reports its POST as lost."""
    sleeper, other = machine.open("p1"), machine.open("p2")
    record = begun(machine.begin(sleeper))
    machine.wait(100.0)
    other.take_over(record.record_id, now=NOON + 100.0)
    accept(other, record)
    end(sleeper, record, "unknown", at_s=101.0, error=("service_unavailable", "lost"))
    in_between = other.get(record.record_id)
    complete(other, record)
    end(sleeper, record, "unknown", at_s=102.0, error=("service_unavailable", "lost"))
    with pytest.raises(OwnershipLostError):
        sleeper.note_route(record.record_id, "service", now=NOON + 102.0)
    accept(sleeper, record, "tsk_1")
    at_the_end = other.get(record.record_id)

    assert in_between is not None
    assert (in_between.state, in_between.owner) == ("processing", "p2")
    assert at_the_end is not None
    assert (at_the_end.state, at_the_end.route, len(at_the_end.images)) == ("completed", "guide", 1)


# ---- processes of this machine ---------------------------------------------------------------------------------------


def test_a_real_process_is_alive_until_it_is_killed() -> None:
    """Judged by its id and start time alone."""
    script = "from flux2_tool.journal import ThisProcess; print(ThisProcess().name, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        while_it_runs = ThisProcess().liveness(name) == "dead"
        process.kill()
        process.wait()
    after = ThisProcess().liveness(name) == "dead"

    assert (while_it_runs, after) == (False, True)


def test_a_reused_process_id_is_another_process() -> None:
    """Ids are reused; together with the start time they are unique."""
    machine, _pid, _start, part = ThisProcess().name.split(":")

    assert ThisProcess().liveness(f"{machine}:{os.getpid()}:1:{part}") == "dead"
    assert ThisProcess().liveness(ThisProcess().name) == "alive"


def test_a_process_of_another_machine_never_counts_as_dead() -> None:
    """A folder may be shared, and the ids of another machine or container mean nothing here."""
    _machine, _pid, start, part = ThisProcess().name.split(":")

    for elsewhere in (f"elsewhere/boot/pid:999999:{start}:{part}", "elsewhere", "", "a:b", "a:b:c:d"):
        assert ThisProcess().liveness(elsewhere) == "unknown"


def test_two_tools_of_one_process_are_two_owners() -> None:
    """Else closing one would let go of what the other follows."""
    one, other = ThisProcess(), ThisProcess()

    assert one.name != other.name
    assert one.name == one.name
    assert one.liveness(other.name) == "alive"
