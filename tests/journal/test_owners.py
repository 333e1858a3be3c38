"""Ownership of records: leases, dead processes, and what a stalled process may still write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flux2_tool._platform import look_up_without_proc
from flux2_tool.journal import Failure, OwnershipLostError, ThisProcess
from flux2_tool.journal.lease_table import LEASE_S
from tests.support.journal import NOON, ORPHANED, Machine, accept, begun, complete, end

on_one_machine = pytest.mark.sqlite_only("in a shared database the lease alone decides, whoever lives")


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
    [settled] = living.records(states=["unknown"])

    assert settled.error == Failure(
        "unexpected_answer", "The process that sent the request ended before the response arrived."
    )
    assert (settled.owner, settled.lease_until) == (None, None)
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
    """Judged by its id and start time alone; to be asked about does it no harm."""
    script = (
        "from flux2_tool.journal import ThisProcess; print(ThisProcess().name, flush=True); print(input(), flush=True)"
    )
    script += "; input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        while_it_runs = ThisProcess().liveness(name)
        # A signal would have come before the line.
        process.stdin.write("still here\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        process.kill()
        process.wait()
    after = ThisProcess().liveness(name)

    assert (while_it_runs, answer, after) == ("alive", "still here\n", "dead")


def test_a_reused_process_id_is_another_process() -> None:
    """Ids are reused; together with the start time they are unique."""
    machine, _pid, _start, part = ThisProcess().name.split(":")

    owner = ThisProcess()
    assert owner.liveness(f"{machine}:{os.getpid()}:1:{part}") == "dead"
    assert owner.liveness(owner.name) == "alive"


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


def test_a_tool_that_was_cut_off_while_it_was_closed_holds_by_its_lease() -> None:
    """Its process goes on, and nobody follows what it did not release; a tool that is dropped is never closed."""
    one, closed, dropped = ThisProcess(), ThisProcess(), ThisProcess()
    names = [closed.name, dropped.name]

    closed.close()
    del dropped

    assert [one.liveness(name) for name in names] == ["unknown", "unknown"]
    assert one.liveness(one.name) == "alive"


def _proc(folder: Path, *, ids: str, stat: str | None = None) -> Path:
    """Return a procfs that says of this process what it would say in a PID namespace with these ids."""
    proc = folder / "proc"
    (proc / "self/ns").mkdir(parents=True)
    (proc / "sys/kernel/random").mkdir(parents=True)
    (proc / "sys/kernel/random/boot_id").write_text(Path("/proc/sys/kernel/random/boot_id").read_text())
    for name in ("pid", "time"):
        (proc / "self/ns" / name).symlink_to(Path("/proc/self/ns", name).readlink())
    (proc / "self/status").write_text(f"Name:\tpython\nNSpid:\t{ids}\n")
    (proc / "self/stat").write_text(stat or Path("/proc/self/stat").read_text())
    return proc


def test_a_proc_of_another_namespace_proves_nothing(tmp_path: Path) -> None:
    """`bwrap --unshare-pid` without a new /proc: each id in it is another process, or none."""
    foreign = ThisProcess(proc=_proc(tmp_path, ids=f"70000 {os.getpid()}"))
    machine, _pid, start, part = foreign.name.split(":")

    assert start != "?"
    assert foreign.liveness(f"{machine}:1:{start}:{part}") == "unknown"  # it exists, and may be another one
    assert foreign.liveness(foreign.name) == "alive"
    assert foreign.liveness(f"{machine}:{_ended_pid()}:{start}:{part}") == "dead"  # by kill(2), not by /proc


def test_a_proc_that_hides_other_processes_proves_nothing(tmp_path: Path) -> None:
    """With hidepid a process of another user is not in /proc, and lives."""
    owner = ThisProcess(proc=_proc(tmp_path, ids=f"{os.getpid()}"))
    machine, _pid, start, part = owner.name.split(":")

    assert owner.liveness(f"{machine}:1:{start}:{part}") == "unknown"


def test_without_proc_nothing_is_dead(tmp_path: Path) -> None:
    """Neither the boot nor the namespace is known, so an id may be another machine's; no `ps` is asked either."""
    owner = ThisProcess(proc=tmp_path / "none")
    machine, _pid, start, part = owner.name.split(":")

    assert start == "?"
    assert owner.liveness(f"{machine}:{_ended_pid()}:1:{part}") == "unknown"
    assert owner.moment().clock != ThisProcess(proc=tmp_path / "none").moment().clock


@pytest.mark.parametrize("part", ["boot_id", "pid", "time"])
def test_another_boot_or_namespace_is_another_machine(tmp_path: Path, part: str) -> None:
    """Ids begin anew at each boot and in each PID namespace, and start times count in a time namespace."""
    there = _proc(tmp_path, ids=f"{os.getpid()}")
    place = there / "sys/kernel/random/boot_id" if part == "boot_id" else there / "self/ns" / part
    place.unlink()
    place.write_text("another") if part == "boot_id" else place.symlink_to(f"{part}:[1]")
    name = ThisProcess(proc=there).name
    machine, _pid, start, rest = name.split(":")

    assert ThisProcess().liveness(f"{machine}:{_ended_pid()}:{start}:{rest}") == "unknown"


def test_a_leader_whose_threads_run_is_no_zombie(tmp_path: Path) -> None:
    """Its main thread has ended, and another one may be in the middle of a POST."""
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    states = {}
    for threads in ("1", "2"):
        fields = ["Z", *stat[1:17], threads, *stat[18:]]
        proc = _proc(tmp_path / threads, ids=f"{os.getpid()}", stat=f"{os.getpid()} (python) {' '.join(fields)}")
        owner = ThisProcess(proc=proc)
        states[threads] = owner.liveness(owner.name)

    assert states == {"1": "dead", "2": "alive"}


def test_a_process_reads_once_what_it_is_and_again_after_a_fork(tmp_path: Path) -> None:
    """A picture asks several times, and the more threads a process has the longer the system takes to answer."""
    owner = ThisProcess()
    name, proc = owner.name, _proc(tmp_path, ids=f"{os.getpid()}")
    of_a_file = ThisProcess(proc=proc)
    known = of_a_file.name
    (proc / "self/stat").unlink()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, f"{owner.liveness(owner.name)} {owner.liveness(name)} {owner.name}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    own, parents, childs_name = os.read(reading, 4096).decode().split(" ", 2)

    assert of_a_file.name == known
    assert (own, parents) == ("alive", "alive")
    assert childs_name.split(":")[1] != name.split(":")[1]
    assert owner.liveness(childs_name) == "dead"


def test_where_there_is_no_proc_psutil_tells_the_dead_from_the_living() -> None:
    """macOS; a start time there is by the wall clock, so that another one proves nothing."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        while_it_runs = look_up_without_proc(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie: nobody has waited for it yet
        as_zombie = look_up_without_proc(process.pid)
    afterwards = look_up_without_proc(process.pid)

    assert (while_it_runs.is_zombie, as_zombie.is_zombie) == (False, True)
    assert (while_it_runs.started is None, while_it_runs.is_start_exact) == (False, False)
    assert afterwards.started is None


@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace needs root")
def test_processes_of_another_pid_namespace_are_told_apart() -> None:
    """Two containers share a data folder: neither can tell whether a process of the other one lives."""
    script = "from flux2_tool.journal import ThisProcess; print(ThisProcess().name)"
    started = subprocess.run(
        ["unshare", "--pid", "--fork", sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    if started.returncode != 0:
        pytest.skip(f"no PID namespace can be made here: {started.stderr}")

    assert ThisProcess().liveness(started.stdout.strip()) == "unknown"


def _ended_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


# ---- leases and clocks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_s", [-86400.0, -60.0, 60.0, 86400.0, 365 * 86400.0])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["in a container of this host", "on another host"])
def test_no_step_of_the_wall_clock_ends_a_lease(machine: Machine, step_s: float, elsewhere: bool) -> None:
    """NTP sets the clock after a boot, while a POST is in flight."""
    record = begun(machine.begin(machine.open("p1")))
    other = machine.open("p2", boot="another boot" if elsewhere else "a boot")
    attempts = []
    for _ in range(3):
        attempts.append(other.take_over(record.record_id, now=NOON + step_s))
        machine.wait(LEASE_S / 3 - 1.0)

    assert attempts == [None] * 3


@pytest.mark.parametrize("step_s", [-86400.0, 0.0, 86400.0])
def test_an_owner_of_another_host_is_watched_for_a_whole_lease(machine: Machine, step_s: float) -> None:
    """Its clock and this one's may differ by any amount; what was seen here counts, in each process of this boot."""
    owner = machine.open("p1")
    record = begun(machine.begin(owner))
    now = NOON + LEASE_S + 1.0 + step_s
    first = machine.open("p2", boot="another boot")
    assert first.take_over(record.record_id, now=now) is None
    machine.wait(LEASE_S - 1.0)
    owner.heartbeat(now=NOON + LEASE_S)
    assert first.take_over(record.record_id, now=now + LEASE_S) is None
    machine.wait(LEASE_S - 1.0)
    assert first.take_over(record.record_id, now=now + 2 * LEASE_S) is None
    machine.wait(2.0)

    assert machine.open("p3", boot="another boot").take_over(record.record_id, now=now + 3 * LEASE_S) is not None


@on_one_machine
def test_a_living_owner_keeps_a_request_in_flight_however_long_it_is_stopped(machine: Machine) -> None:
    """Somebody pressed Ctrl-Z in the middle of the POST; its task may be followed by others once it is known."""
    machine.alive.add("p1")
    owner, other = machine.open("p1"), machine.open("p2")
    record = begun(machine.begin(owner))
    machine.wait(86400.0)
    while_sending = other.take_over(record.record_id, now=NOON + 86400.0)
    accept(owner, record)
    at_once = other.take_over(record.record_id, now=NOON + 86400.0)
    machine.wait(LEASE_S + 1.0)

    assert (while_sending, at_once) == (None, None)
    assert other.take_over(record.record_id, now=NOON + 86400.0) is not None


@on_one_machine
def test_only_a_task_of_a_stopped_owner_may_be_followed_by_others(machine: Machine) -> None:
    """A request that a living process may be sending is nobody else's, and is not joined as one that was left."""
    machine.alive.add("p1")
    owner, other = machine.open("p1"), machine.open("p2")
    sending, accepted = (begun(machine.begin(owner, dedup_key=name, session=None)) for name in ("one", "other"))
    accept(owner, accepted)
    account: dict[str, Any] = {"fingerprint": sending.fingerprint, "base_url": sending.base_url}
    machine.wait(LEASE_S + 1.0)
    late_s = LEASE_S + 1.0

    unowned = other.unowned(**account, now=NOON + late_s, resend_since=NOON - 600.0)
    claims = [machine.begin(other, ORPHANED, session=None, dedup_key=name) for name in ("one", "other")]

    assert [record.record_id for record in unowned] == [accepted.record_id]
    assert [claim.outcome for claim in claims] == ["new", "joined"]


@on_one_machine
def test_what_may_be_orphaned_is_joined_but_not_sent(machine: Machine) -> None:
    """After a reboot nobody can tell whether the old process lives elsewhere: join it, and watch it first."""
    left = begun(machine.begin(machine.open("p1"), ORPHANED, session=None))
    other = machine.open("p2", boot="another boot")
    late_s = LEASE_S + 1.0
    again = machine.begin(other, ORPHANED, session=None, at_s=late_s)
    account: dict[str, Any] = {"fingerprint": left.fingerprint, "base_url": left.base_url}
    unowned = other.unowned(**account, now=NOON + late_s, resend_since=NOON - 600.0)

    assert again.outcome == "joined"
    assert [record.record_id for record in unowned] == [left.record_id]
    assert other.take_over(left.record_id, now=NOON + late_s) is None


def test_what_another_host_may_hold_is_neither_joined_nor_listed(machine: Machine) -> None:
    """Its lease runs by both clocks: a terminal there may be in the middle of its POST."""
    held = begun(machine.begin(machine.open("p1"), ORPHANED, session=None))
    other = machine.open("p2", boot="another boot")
    in_time_s = LEASE_S - 1.0
    again = machine.begin(other, ORPHANED, session=None, at_s=in_time_s)
    unowned = other.unowned(
        fingerprint=held.fingerprint, base_url=held.base_url, now=NOON + in_time_s, resend_since=NOON - 600.0
    )

    assert again.outcome == "new"
    assert held.record_id not in {record.record_id for record in unowned}


# ---- fencing ---------------------------------------------------------------------------------------------------------


def test_who_lost_a_record_may_neither_send_nor_write(machine: Machine) -> None:
    """A container was frozen for a minute, and another one took its request over."""
    frozen, other = machine.open("p1"), machine.open("p2")
    record = begun(machine.begin(frozen))
    machine.wait(LEASE_S + 1.0)
    other.take_over(record.record_id, now=NOON + 31.0)
    before = other.get(record.record_id)

    with pytest.raises(OwnershipLostError):
        frozen.note_route(record.record_id, "guide", now=NOON + 32.0)
    accept(frozen, record, "tsk_frozen")
    complete(frozen, record)
    end(frozen, record, "failed")
    end(frozen, record, "unknown")
    frozen.heartbeat(now=NOON + 33.0)
    frozen.release(record.record_id)

    assert other.get(record.record_id) == before


def test_each_post_renews_the_lease(machine: Machine) -> None:
    """A process that was frozen without anybody looking goes on, and must not be taken over in the next moment."""
    frozen, other = machine.open("p1"), machine.open("p2")
    record = begun(machine.begin(frozen))
    machine.wait(LEASE_S + 1.0)
    frozen.note_route(record.record_id, "guide", now=NOON + 31.0)

    assert other.take_over(record.record_id, now=NOON + 32.0) is None
