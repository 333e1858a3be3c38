"""One pace for an account: what its processes share of 429s and create slots through their journal, on both stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.journal import CreateLimit, Record
from flux2_tool.runapi.rate_limit import PaceChange
from tests.support import stores
from tests.support.journal import NEVER, NOON, Machine, accept, begun, end
from tests.support.postgres import INSTALL, programs

BASE_URL, KEY = "https://runapi.test", "0123456789abcdef"
MOST = 2


@pytest.fixture(params=stores.STORES)
def machine(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """One journal, in either store."""
    if request.param == "postgres" and programs() is None:
        pytest.skip(INSTALL)
    monkeypatch.setenv("FLUX2_TEST_JOURNAL", request.param)
    machine = Machine(home)
    yield machine
    machine.close()


class Sender:
    """A process that requests pictures.

    Args:
        machine: Where it runs.
        name: Its own.
    """

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.journal = machine.open(name)
        self.records: list[Record] = []

    def new(self, **values: Any) -> Record:
        """Claim a picture."""
        record = begun(self.machine.begin(self.journal, NEVER, **values))
        self.records.append(record)
        return record

    def may_send(self, record: Record, *, own: int = 0) -> bool:
        """Note a POST, and return whether it may be sent."""
        limit = CreateLimit(MOST, own, record.base_url, record.fingerprint)
        turn, *_ = self.journal.note_route(record.record_id, "guide", now=NOON, creates=limit)
        return bool(turn.is_free)

    def meets(self, **met: Any) -> Any:
        """Tell what it has met, and return the pace."""
        return self.journal.note_pace(PaceChange(**met), base_url=BASE_URL, fingerprint=KEY).pace

    def woken(self) -> list[str]:
        """Return which requests its journal has offered a slot."""
        return [one.record_id for one in self.journal.take_woken()]


def senders(machine: Machine, count: int = 3) -> list[Sender]:
    """Return some processes."""
    return [Sender(machine, f"p{number}") for number in range(count)]


# ---- create slots ----------------------------------------------------------------------------------------------------


def test_slots_hold_for_all_processes_of_an_account_together(machine: Machine) -> None:
    """Three gateways with two slots are not six requests at once."""
    one, two, three = senders(machine)

    assert [sender.may_send(sender.new()) for sender in (one, two, three, one)] == [True, True, False, False]


def test_another_account_has_slots_of_its_own(machine: Machine) -> None:
    """One person's burst must not hold up somebody else."""
    one, two, three = senders(machine)
    for sender in (one, two):
        assert sender.may_send(sender.new())

    assert three.may_send(three.new(fingerprint="another key"))


@pytest.mark.parametrize("how", ["accepted", "refused", "paused", "closed"])
def test_a_slot_is_given_back_with_the_outcome(machine: Machine, how: str) -> None:
    """In the transaction that notes it; a request that pauses before its next attempt does not need it either."""
    one, two, three = senders(machine)
    first = one.new()
    assert one.may_send(first)
    assert two.may_send(two.new())
    waiting = three.new()
    assert not three.may_send(waiting)

    if how == "accepted":
        accept(one.journal, first)
    elif how == "refused":
        end(one.journal, first, "not_created")
    elif how == "paused":
        one.journal.give_back_slot(first.record_id)
    else:
        one.journal.close()

    assert one.woken() == [waiting.record_id]
    assert three.may_send(waiting)


def test_who_waits_for_a_slot_comes_in_order(machine: Machine) -> None:
    """First come, first served, whichever process looks first."""
    one, two, three = senders(machine)
    taken = [one.new(), one.new()]
    assert [one.may_send(taken[0]), one.may_send(taken[1], own=1)] == [True, True]
    early, late = two.new(), three.new()
    assert not two.may_send(early)
    assert not three.may_send(late)

    accept(one.journal, taken[0])

    assert not three.may_send(late), "the slot is the other one's"
    assert two.may_send(early)


def test_two_slots_that_become_free_at_once_wake_two(machine: Machine) -> None:
    """Both were offered to the first that waits; that one passes the second on."""
    one, two, three = senders(machine)
    taken = [one.new(), one.new()]
    for own, record in enumerate(taken):
        assert one.may_send(record, own=own)
    early, late = two.new(), three.new()
    assert not two.may_send(early)
    assert not three.may_send(late)

    for record in taken:
        accept(one.journal, record)
    assert one.woken() == [early.record_id] * 2
    assert two.may_send(early)

    assert two.woken() == [late.record_id]
    assert three.may_send(late)


def test_slots_of_a_process_that_is_known_dead_are_free_at_once(machine: Machine) -> None:
    """A gateway that was killed in mid-flight must not hold up its account."""
    one, two, _ = senders(machine)
    for own in range(MOST):
        assert one.may_send(one.new(), own=own)
    waiting = two.new()
    assert not two.may_send(waiting)

    machine.dead.add("p0")

    assert two.may_send(waiting)


def test_slots_of_a_silent_process_are_free_after_its_lease(machine: Machine) -> None:
    """On another host nobody can tell whether it lives; one that renews its lease keeps them."""
    one, two, three = senders(machine)
    assert one.may_send(one.new())
    assert two.may_send(two.new())
    waiting = three.new()
    for _ in range(2):
        machine.wait(20.0)
        two.journal.heartbeat(now=NOON)
        three.journal.heartbeat(now=NOON)
        is_free = three.may_send(waiting)

    assert is_free
    assert not three.may_send(three.new(), own=1), "the other one's is not"


def test_a_call_that_leaves_the_queue_lets_the_next_move_up(machine: Machine) -> None:
    """Its request is never sent, and its place is nobody's."""
    one, two, three = senders(machine)
    taken = [one.new(), one.new()]
    for own, record in enumerate(taken):
        assert one.may_send(record, own=own)
    leaving, staying = two.new(), three.new()
    assert not two.may_send(leaving)
    assert not three.may_send(staying)

    end(two.journal, leaving, "not_created")
    accept(one.journal, taken[0])

    assert three.may_send(staying)


def test_what_a_process_has_ended_itself_does_not_count_for_it(machine: Machine) -> None:
    """Its own limit says how many are in flight, also while the journal still has to be told."""
    one, *_ = senders(machine)
    for own in range(MOST):
        assert one.may_send(one.new(), own=own)

    assert one.may_send(one.new(), own=1)


def test_a_request_keeps_its_slot_on_the_next_route(machine: Machine) -> None:
    """An account that has only the second route must not queue twice."""
    one, two, three = senders(machine)
    record = one.new()
    assert one.may_send(record)
    assert two.may_send(two.new())
    assert not three.may_send(three.new())

    assert one.may_send(record)


# ---- 429s ------------------------------------------------------------------------------------------------------------


def test_a_429_is_known_to_a_process_that_opens_the_journal(machine: Machine) -> None:
    """A command that is started now must not ask at once for what was just refused."""
    one, *_ = senders(machine)
    one.new()
    one.meets(seen=-1, is_refusal=True, closed_s=20.0)
    machine.wait(5.0)

    [known] = machine.open("late").paces()

    assert known.pace.closed_s == pytest.approx(15.0)
    assert known.seen_by("late").senders == 2
    assert known.seen_by("late").place == 1


def test_nothing_is_sent_while_the_account_is_closed(machine: Machine) -> None:
    """Also by a process that has not heard of the 429 yet: its POST is noted first, and there it is told."""
    one, two, _ = senders(machine)
    one.meets(seen=-1, is_refusal=True, closed_s=20.0)
    record = two.new()

    assert not two.may_send(record)
    machine.wait(20.0)
    assert two.may_send(record)


def test_429s_that_processes_meet_at_once_count_as_one(machine: Machine) -> None:
    """A limit that is met once must not slow the account as if it had been met by each."""
    one, two, three = senders(machine)
    paces = [sender.meets(seen=-1, is_refusal=True, closed_s=0.25) for sender in (one, two, three)]
    again = two.meets(seen=paces[-1].refusals, is_refusal=True, closed_s=0.5)

    assert [pace.gap_s for pace in paces] == [0.1, 0.1, 0.1]
    assert again.gap_s == 0.2


def test_good_responses_of_all_processes_count(machine: Machine) -> None:
    """Each sees a part of them only."""
    one, two, _ = senders(machine)
    seen = one.meets(seen=-1, is_refusal=True, closed_s=0.25).refusals

    assert two.meets(seen=seen, responses=3).gap_s == pytest.approx(0.1 * 0.75**3)
    assert one.meets(seen=seen, responses=3).gap_s == pytest.approx(0.1 * 0.75**6)
    assert two.meets(seen=seen, responses=3).gap_s == 0.0


def test_a_429_long_ago_slows_nobody(machine: Machine) -> None:
    """Whoever met it may have ended before it recovered."""
    one, two, _ = senders(machine)
    one.meets(seen=-1, is_refusal=True, closed_s=2.0)
    machine.wait(100.0)

    assert machine.open("late").paces() == []
    assert two.may_send(two.new())


def test_heartbeats_bring_news_of_the_pace(machine: Machine) -> None:
    """Where the store tells nobody, or the connection to it broke in between."""
    one, two, _ = senders(machine)
    assert two.journal.heartbeat(now=NOON) == []

    one.meets(seen=-1, is_refusal=True, closed_s=9.0)

    assert [known.pace.closed_s for known in two.journal.heartbeat(now=NOON)] == [pytest.approx(9.0)]
