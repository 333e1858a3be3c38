"""Which requests share a task: no image is paid twice, and a second image is never refused wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux2_tool.context import CONNECTION
from flux2_tool.journal import Claim, ClaimRules, SavedCopy
from flux2_tool.tasks.deduplication import dedup_key, inherited_session_prefix
from tests.support.journal import NEVER, NOON, ORPHANED, SESSION, Machine, accept, begun, complete, end

DAY_S = 24 * 3600.0


def test_in_a_session_an_equal_request_joins_what_is_in_flight(machine: Machine) -> None:
    """A host that times out calls again while the first image is still being made."""
    journal = machine.open()
    first = begun(machine.begin(journal))

    again = machine.begin(journal, at_s=5.0)
    accept(journal, first)
    and_again = machine.begin(journal, at_s=9.0)

    assert (again.outcome, and_again.outcome) == ("joined", "joined")
    assert again.record is not None
    assert again.record.record_id == first.record_id


def test_a_finished_image_is_joined_until_it_was_delivered(machine: Machine) -> None:
    """An agent that lost the result gets the paid image; one that has it gets a new one."""
    journal = machine.open()
    first = begun(machine.begin(journal))
    accept(journal, first)
    complete(journal, first)
    before = machine.begin(journal, at_s=60.0)
    journal.note_delivered(first.record_id, now=NOON + 61.0)
    after = machine.begin(journal, at_s=62.0)

    assert before.outcome == "joined"
    assert after.outcome == "new"


@pytest.mark.parametrize("is_saved", [False, True])
def test_an_image_that_can_no_longer_be_fetched_is_not_joined(machine: Machine, tmp_path: Path, is_saved: bool) -> None:
    """An expired link is worth nothing, unless a copy is on this disk."""
    journal = machine.open()
    first = begun(machine.begin(journal))
    accept(journal, first)
    complete(journal, first)
    journal.note_saved(first.record_id, [SavedCopy(path=str(tmp_path / "fox.png"), width_px=8, height_px=8)])
    if is_saved:
        (tmp_path / "fox.png").write_bytes(b"a picture")

    in_time = machine.begin(journal, at_s=7 * DAY_S)
    late = machine.begin(journal, at_s=7 * DAY_S + 60.0)

    assert in_time.outcome == "joined"
    assert late.outcome == ("joined" if is_saved else "new")


def test_an_image_whose_link_has_no_known_end_is_joined(machine: Machine) -> None:
    """It may well work, and costs nothing to try."""
    journal = machine.open()
    record = begun(machine.begin(journal))
    end(journal, record, "completed", images=(("https://cdn.example/fox.png", None),))

    assert machine.begin(journal, at_s=30 * DAY_S).outcome == "joined"


HEIR = ClaimRules(join="session", inherited_session_prefix="connection:")


def _ask_over(machine: Machine, process: str, *, at_s: float = 0.0) -> Claim:
    """Have a connection, which is named by its process, ask for a fox."""
    session = f"connection:{process}"
    values = {"session": session, "dedup_key": f"a fox of {session}", "cross_session_dedup_key": "a fox"}
    return machine.begin(machine.open(process), HEIR, at_s=at_s, **values)


@pytest.mark.parametrize("state", ["sending", "processing", "completed", "unknown"])
def test_a_connection_inherits_tasks_of_a_dead_one(machine: Machine, state: str) -> None:
    """The host reconnects, and the model repeats the call it got no result for: the record moves to its session."""
    journal = machine.open("p1")
    left = begun(_ask_over(machine, "p1"))
    if state in ("processing", "completed"):
        accept(journal, left)
    if state == "completed":
        complete(journal, left)
    if state == "unknown":
        end(journal, left, "unknown")
    machine.dead.add("p1")

    inherited = _ask_over(machine, "p2", at_s=9.0)
    other = _ask_over(machine, "p3", at_s=10.0)
    again = _ask_over(machine, "p2", at_s=11.0)

    assert (inherited.outcome, other.outcome, again.outcome) == ("joined", "new", "joined")
    assert inherited.record is not None
    assert (inherited.record.record_id, inherited.record.session) == (left.record_id, "connection:p2")


def test_a_connection_inherits_what_another_one_closed(machine: Machine) -> None:
    """Of a process in another container nobody can tell that it is dead; but it gave up what it had."""
    left = begun(_ask_over(machine, "p1"))
    machine.open("p1").close()

    inherited = _ask_over(machine, "p2", at_s=9.0)

    assert inherited.record is not None
    assert (inherited.outcome, inherited.record.record_id) == ("joined", left.record_id)


def test_nothing_living_or_delivered_is_inherited(machine: Machine) -> None:
    """Two people who ask for the same thing get a picture each; and who has one may have another."""
    living, lost = begun(_ask_over(machine, "p1")), begun(_ask_over(machine, "p2"))
    end(machine.open("p2"), lost, "unknown")
    shown = begun(_ask_over(machine, "p3"))
    complete(machine.open("p3"), shown)
    machine.open("p3").note_delivered(shown.record_id, now=NOON + 8.0)
    machine.dead.add("p3")
    stranger = begun(
        machine.begin(machine.open("p4"), session="main", dedup_key="a fox of main", cross_session_dedup_key="a fox")
    )
    machine.dead.add("p4")

    slow = begun(_ask_over(machine, "p6"))
    machine.open("p6").release(slow.record_id, abandoned=True)  # it follows others, and may be asked for this one again

    assert _ask_over(machine, "p5", at_s=9.0).outcome == "new"
    assert {living.session, lost.session, stranger.session} == {"connection:p1", "connection:p2", "main"}


@pytest.mark.parametrize("state", ["failed", "not_created"])
def test_a_request_without_an_image_is_not_joined(machine: Machine, state: str) -> None:
    """Trying once more is what the user wants then, and it was not charged."""
    journal = machine.open()
    first = begun(machine.begin(journal))
    end(journal, first, state, at_s=3.0, error=("generation_failed", "no"))

    assert machine.begin(journal, at_s=4.0).outcome == "new"


@pytest.mark.parametrize("rules", [SESSION, ORPHANED], ids=["in a session", "without one"])
def test_a_request_of_unknown_outcome_is_joined_under_any_rule(machine: Machine, rules: ClaimRules) -> None:
    """A new image might be the second one paid."""
    journal = machine.open()
    first = begun(machine.begin(journal, rules))
    end(journal, first, "unknown", at_s=3.0, error=("service_unavailable", "lost"))

    assert machine.begin(machine.open("p2"), rules, at_s=4000.0).outcome == "joined"


def test_without_a_session_two_calls_at_once_are_two_images(machine: Machine) -> None:
    """Somebody types the command in two windows."""
    begun(machine.begin(machine.open("p1"), ORPHANED, session=None))

    assert machine.begin(machine.open("p2"), ORPHANED, session=None, at_s=2.0).outcome == "new"


def test_without_a_session_a_call_joins_the_task_of_a_dead_process(machine: Machine) -> None:
    """Somebody closes the terminal and types the command again."""
    left = begun(machine.begin(machine.open("p1"), ORPHANED, session=None))
    machine.dead.add("p1")

    again = machine.begin(machine.open("p2"), ORPHANED, session=None, at_s=2.0)

    assert again.outcome == "joined"
    assert again.record is not None
    assert again.record.record_id == left.record_id


def test_an_orphaned_task_stays_joinable_while_another_resumes_it(machine: Machine) -> None:
    """A gateway's worker resumes a task that a command has orphaned; the same command again must get that one."""
    left = begun(machine.begin(machine.open("cli"), ORPHANED, session=None))
    machine.dead.add("cli")
    worker = machine.open("worker")
    assert worker.take_over(left.record_id, now=NOON + 1.0) is not None

    while_it_runs = machine.begin(machine.open("cli2"), ORPHANED, session=None, at_s=2.0)
    complete(worker, left)
    when_it_is_done = machine.begin(machine.open("cli3"), ORPHANED, session=None, at_s=9.0)

    assert (while_it_runs.outcome, when_it_is_done.outcome) == ("joined", "joined")


def test_an_orphaned_task_stays_joinable_when_its_own_process_continues_it(machine: Machine) -> None:
    """A script's call was cancelled, and another call of it asks for the task: the next equal call still gets it."""
    journal = machine.open("p1")
    left = begun(machine.begin(journal, ORPHANED, session=None))
    journal.note_orphaned(left.record_id)
    assert journal.take_over(left.record_id, now=NOON + 1.0) is not None

    again = machine.begin(machine.open("p2"), ORPHANED, session=None, at_s=2.0)

    assert again.record is not None
    assert (again.outcome, again.record.record_id) == ("joined", left.record_id)


def test_new_always_makes_a_new_image(machine: Machine) -> None:
    """`--new` is how a person says so."""
    journal = machine.open()
    outcomes = [machine.begin(journal, NEVER, at_s=second).outcome for second in range(8)]

    assert outcomes == ["new"] * 8


def test_the_newest_equal_request_is_the_one_joined(machine: Machine) -> None:
    """After `--new` it is the latest image that a repeated call means."""
    journal = machine.open()
    begun(machine.begin(journal, NEVER))
    second = begun(machine.begin(journal, NEVER, at_s=1.0))
    joined = machine.begin(journal, SESSION, at_s=2.0)

    assert joined.record is not None
    assert joined.record.record_id == second.record_id


def test_only_new_tasks_in_the_window_count_as_repeats(machine: Machine) -> None:
    """A looping model is stopped; one that asks for four equal images gets four."""
    journal = machine.open()
    rules = ClaimRules(join="session", repeat_max=4, repeat_window_s=600.0)

    for number in range(4):
        record = begun(machine.begin(journal, rules, at_s=number * 10.0))
        assert machine.begin(journal, rules, at_s=number * 10.0 + 1.0).outcome == "joined"
        complete(journal, record, at_s=number * 10.0 + 2.0)
        journal.note_delivered(record.record_id, now=NOON + number * 10.0 + 3.0)
    refused = machine.begin(journal, rules, at_s=50.0)
    begun(machine.begin(journal, rules, dedup_key="another fox", at_s=51.0))
    later = machine.begin(journal, rules, at_s=600.5)

    assert refused.outcome == "repeated"
    assert len(refused.repeated) == 4
    assert later.outcome == "new"


def test_a_request_that_was_never_created_does_not_count_as_a_repeat(machine: Machine) -> None:
    """Nothing was spent on it."""
    journal = machine.open()
    rules = ClaimRules(join="session", repeat_max=1)
    first = begun(machine.begin(journal, rules))
    end(journal, first, "not_created", error=("insufficient_credits", "402"))

    assert machine.begin(journal, rules, at_s=2.0).outcome == "new"


ARGUMENTS = st.dictionaries(
    st.sampled_from(["prompt", "model", "aspect_ratio", "output_resolution"]),
    st.text(max_size=8) | st.lists(st.text(max_size=3), max_size=2),
    max_size=4,
)
PARTS = st.fixed_dictionaries(
    {
        "session": st.none() | st.sampled_from(["", "a", "b", "None", "null"]),
        "fingerprint": st.sampled_from(["f1", "f2"]),
        "base_url": st.sampled_from(["https://a.test", "https://b.test"]),
        "tool": st.sampled_from(["text_to_image", "remix_image"]),
        "arguments": ARGUMENTS,
    }
)


@settings(max_examples=300, deadline=None)
@given(PARTS, PARTS)
def test_the_dedup_key_has_session_account_tool_and_arguments(one: dict[str, object], other: dict[str, object]) -> None:
    """Distinct prompts are never merged, nor other accounts, addresses or conversations."""
    assert (dedup_key(**one) == dedup_key(**other)) == (one == other)  # type: ignore[arg-type]


@pytest.mark.parametrize("session", [None, "main", "agent:main:telegram:direct:1", "my connection:p1"])
def test_only_a_connection_inherits(session: str | None) -> None:
    """A chat is the same conversation after a restart; whatever it would inherit is somebody else's."""
    assert inherited_session_prefix(session) is None
    assert inherited_session_prefix(f"{CONNECTION}p1") == CONNECTION


def test_the_order_of_arguments_does_not_matter() -> None:
    """A model writes them as it likes."""

    def key(arguments: dict[str, str]) -> str:
        return dedup_key(session=None, fingerprint="f", base_url="u", tool="t", arguments=arguments)

    assert key({"prompt": "a", "model": "b"}) == key({"model": "b", "prompt": "a"})
