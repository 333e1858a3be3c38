"""Whose a task is, as the journal keeps it: by its id, beyond its record, and never for another account."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flux2_tool.journal import Conversation, Failure
from tests.support.journal import NOON, Machine, accept, begun, complete, end
from tests.support.stores import raw


def test_what_prune_and_forget_keep_says_whose_a_task_was(machine: Machine) -> None:
    """The record may go; the picture stays its conversation's, and nothing else of it is kept."""
    journal = machine.open("p1")
    for number, (session, at_s) in enumerate([("a session", 0.0), (None, 0.0), ("a session", 1.0)]):
        service = f"https://runapi-{number}.test"  # no service's task is two requests'
        record = begun(machine.begin(journal, dedup_key=f"fox {number}", session=session, at_s=at_s, base_url=service))
        accept(journal, record, "TSK-1")
        end(journal, record, "failed", error=Failure("generation_failed", "no"))
    lost = begun(machine.begin(journal, dedup_key="lost", session="another"))
    accept(journal, lost, "tsk2")
    end(journal, lost, "unknown", abandoned=True)
    journal.release(lost.record_id)

    assert journal.prune(before=NOON + 100.0) == 3
    assert journal.forget(lost.record_id, now=NOON + 100.0)

    assert journal.records() == []
    assert sorted(map(str, journal.conversations_of("tsk1"))) == ["None", "a session"]
    assert journal.conversations_of("tsk2") == ["another"]
    assert journal.conversations_of("tsk3") == []
    with raw(machine.home) as database:
        kept = database.execute("SELECT * FROM task_conversations")
        assert [column[0] for column in kept.description] == ["task_key", "session"]
        assert len(kept.fetchall()) == 3


@pytest.mark.parametrize("other", [{"fingerprint": "ffff"}, {"base_url": "https://other.test"}])
def test_what_a_session_is_given_is_of_the_account_that_asks(machine: Machine, other: dict[str, str]) -> None:
    """The last picture, an inherited one, and a task by its id: never another account's."""
    journal = machine.open("p1")
    inherited = "connection:"
    for session in ("s", f"{inherited}gone"):
        record = begun(machine.begin(journal, dedup_key=session, session=session, **other))
        accept(journal, record, "tsk_other")
        complete(journal, record)
    machine.dead.add("gone")
    account = {"fingerprint": record.fingerprint, "base_url": record.base_url}
    mine = {"fingerprint": "0123456789abcdef", "base_url": "https://runapi.test"}

    for asked, expected in ((account, True), (mine, False)):
        last = journal.newest(session="s", **asked)
        gone = journal.newest(session=f"{inherited}new", inherited_session_prefix=inherited, **asked)
        assert [one is not None for one in (last, gone, journal.find_task("tsk_other", **asked))] == [expected] * 3


def test_the_last_picture_is_the_sessions_own(machine: Machine) -> None:
    """Also if another session, or one without a name, made a newer one."""
    journal = machine.open("p1")
    account = {"fingerprint": "0123456789abcdef", "base_url": "https://runapi.test"}
    for session in ("alice", None, "mallory", "connection:living"):
        record = begun(machine.begin(journal, dedup_key=f"a fox of {session}", session=session))
        accept(journal, record, f"tsk_{session}")
        complete(journal, record)
    machine.alive.add("living")

    last = [journal.newest(session=session, **account) for session in ("alice", None, "bob", "connection:new")]
    inherited = journal.newest(session="connection:new", inherited_session_prefix="connection:", **account)

    assert [one and one.task_id for one in [*last, inherited]] == ["tsk_alice", "tsk_None", None, None, None]


def test_the_newest_connection_that_has_ended_is_inherited(machine: Machine) -> None:
    """The one before it, and whoever uses it still, are other conversations."""
    journal = machine.open("p1")
    for name in ("oldest", "newest", "living"):
        record = begun(machine.begin(journal, dedup_key=name, session=f"connection:{name}"))
        accept(journal, record, f"tsk_{name}")
        complete(journal, record)
    machine.dead |= {"oldest", "newest"}
    account = {"fingerprint": record.fingerprint, "base_url": record.base_url}

    found = journal.newest(session="connection:now", inherited_session_prefix="connection:", **account)

    assert found is not None
    assert found.task_id == "tsk_newest"


def test_what_was_not_given_leaves_out_what_is_known(machine: Machine) -> None:
    """A process knows more of the images that it makes than is written yet."""
    journal = machine.open("p1")
    records = [begun(machine.begin(journal, dedup_key=f"fox {number}", session="mine")) for number in range(3)]
    for number, record in enumerate(records):
        accept(journal, record, f"tsk_{number}")
    given, known, left = records
    complete(journal, given)
    journal.note_delivered(given.record_id, now=NOON)

    def not_given(*of: str) -> list[str]:
        found = journal.not_given(["mine"], since=NOON - 1.0, now=NOON, known=of)
        return [record.record_id for record in found]

    assert not_given() == [known.record_id, left.record_id]
    assert not_given(known.record_id) == [left.record_id]


@pytest.mark.parametrize("other", [{"fingerprint": "ffff"}, {"base_url": "https://other.test"}])
def test_the_last_pictures_are_a_conversations_own(machine: Machine, other: dict[str, str]) -> None:
    """With what it has spawned, what was shown in it, and what the connection before it made; newest first."""
    journal = machine.open("p1")
    sessions = ("connection:oldest", "connection:newest", "connection:living", "mine", "child", "shown", "bob", None)
    for session in sessions:
        record = begun(machine.begin(journal, dedup_key=f"a fox of {session}", session=session))
        accept(journal, record, f"tsk_{session}")
        complete(journal, record)
        if session == "shown":
            journal.note_delivered(record.record_id, now=NOON, elsewhere="mine")
    for state in ("failed", "not_created"):
        end(journal, begun(machine.begin(journal, dedup_key=state, session="mine")), state)
    begun(machine.begin(journal, dedup_key="another account's", session="mine", **other))
    machine.dead |= {"oldest", "newest"}
    mine = Conversation(
        fingerprint="0123456789abcdef",
        base_url="https://runapi.test",
        session="mine",
        descendants=frozenset({"child"}),
        inherited_session_prefix="connection:",
    )
    without_name = replace(mine, session=None, descendants=frozenset(), inherited_session_prefix=None)

    found = [
        [record.session for record in journal.recent(wanted, limit=limit)]
        for wanted, limit in ((mine, 10), (mine, 2), (without_name, 10))
    ]

    assert found == [["shown", "child", "mine", "connection:newest"], ["shown", "child"], [None]]


@pytest.mark.parametrize("other", [{"fingerprint": "ffff"}, {"base_url": "https://other.test"}])
def test_an_inherited_picture_is_the_accounts_own_even_if_another_account_made_the_newest(
    machine: Machine, other: dict[str, str]
) -> None:
    """Another account's newer conversation hides nothing."""
    journal = machine.open("p1")
    for number, (name, account) in enumerate([("old", {}), ("new", other)]):
        session = f"connection:{name}"
        record = begun(machine.begin(journal, dedup_key=name, session=session, at_s=float(number), **account))
        accept(journal, record, f"tsk_{name}")
        complete(journal, record)
    machine.dead |= {"old", "new"}

    found = journal.newest(
        fingerprint="0123456789abcdef",
        base_url="https://runapi.test",
        session="connection:now",
        inherited_session_prefix="connection:",
    )

    assert found is not None
    assert found.task_id == "tsk_old"
