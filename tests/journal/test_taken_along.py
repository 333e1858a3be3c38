"""The journal of the user's own data folder, taken along into OpenClaw's state folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.journal import Cap, JournalError, SqliteJournal, taken_along
from flux2_tool.journal.model import Intent
from flux2_tool.journal.opening import BACKED_UP_NAME
from flux2_tool.journal.sqlite import FILE_NAME
from tests.support.journal import NOON, SESSION, Machine, accept, begun, complete, open_elsewhere

pytestmark = pytest.mark.sqlite_only("a data folder is moved")

DAY = Cap(kind="day", limit_usd=0.12, since=NOON - 43200, until=NOON + 43200)
WITHIN_THE_DAY = replace(SESSION, caps=(DAY,))


class PayingMachine(Machine):
    """Its images have a price, which is reserved."""

    def __init__(self, home: Path, *, first: int = 0) -> None:
        super().__init__(home)
        self._made = first

    def intent(self, dedup_key: str = "a fox", **values: Any) -> Intent:
        return super().intent(dedup_key, **{"reserved_usd": 0.05, **values})


class Place:
    """A user's folders: the own one of old, and those of OpenClaw's state folders."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.home = home
        self.earlier = home / ".local" / "share" / "flux2-tool"
        for name in ("XDG_DATA_HOME", "OPENCLAW_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(home))
        self.address(home / ".openclaw")

    def address(self, state: Path) -> PayingMachine:
        """Address a state folder, and return the machine that opens its journal."""
        self._monkeypatch.setenv("OPENCLAW_STATE_DIR", str(state))
        self.own = state / "flux2-tool"
        return PayingMachine(self.own, first=200)


@pytest.fixture
def place(home: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(home, monkeypatch)


@pytest.fixture
def of_old(place: Place) -> Iterator[Machine]:
    """Processes that use the journal at the old place."""
    machine = PayingMachine(place.earlier)
    yield machine
    machine.close()


@pytest.fixture
def ours(place: Place) -> Iterator[Machine]:
    """Processes that use the one in the state folder."""
    machine = PayingMachine(place.own, first=100)
    yield machine
    machine.close()


def spent(journal: SqliteJournal) -> float:
    """Return what a journal says was spent or is reserved today."""
    found = journal.spending(DAY)
    return round(found.spent_usd + found.reserved_usd, 6)


def test_a_pipe_beside_an_earlier_journal_is_named(place: Place, of_old: Machine, ours: Machine) -> None:
    """SQLite would wait for it, and what was spent before would not be known."""
    of_old.open().close()
    pipe = place.earlier / f"{FILE_NAME}-journal"
    os.mkfifo(pipe)

    with pytest.raises(JournalError, match="is a pipe") as caught:
        ours.open()

    assert str(pipe) in str(caught.value)


def test_tasks_and_money_come_along_and_a_link_stays(place: Place, of_old: Machine, ours: Machine) -> None:
    """Whoever looks at the old place uses the same journal: one cap, and no task is left behind."""
    old = of_old.open("old")
    first = begun(of_old.begin(old))
    accept(old, first)
    complete(old, first)
    lost = begun(of_old.begin(old, dedup_key="a boat", at_s=5.0))
    old.close()

    found = ours.open("new").records()

    assert [(one.record_id, one.state) for one in found] == [
        (first.record_id, "completed"),
        (lost.record_id, "sending"),
    ]
    assert found[1].idempotency_key == lost.idempotency_key
    assert (place.earlier / FILE_NAME).readlink() == place.own / BACKED_UP_NAME
    through_link = of_old.open("another")
    assert spent(through_link) == 0.1
    assert ours.begin(ours.open("new"), WITHIN_THE_DAY, dedup_key="a cat").outcome == "over_budget"
    assert of_old.begin(through_link, WITHIN_THE_DAY, dedup_key="a cat").outcome == "over_budget"
    assert through_link.is_in_place()


def test_what_is_only_in_the_wal_comes_along(place: Place, of_old: Machine, ours: Machine) -> None:
    """A process that was killed leaves the newest records there."""
    live = of_old.open("live")
    record = begun(of_old.begin(live))
    accept(live, record, "tsk_new")
    with open_elsewhere(place.earlier):
        assert ours.open("new").find_task("tsk_new", fingerprint=record.fingerprint, base_url=record.base_url)


@pytest.mark.parametrize("is_again", [False, True], ids=["linked", "copied twice"])
def test_a_conversation_keeps_what_its_subagents_made(
    of_old: Machine, ours: Machine, monkeypatch: pytest.MonkeyPatch, is_again: bool
) -> None:
    """OpenClaw may have forgotten the subagent; then only the journal says whose picture it is."""
    if is_again:
        monkeypatch.setattr(taken_along, "_linked", lambda *_: False)
    old = of_old.open("old")
    old.note_ancestors("subagent", ["parent"])
    made = begun(of_old.begin(old, session="subagent"))
    accept(old, made)
    complete(old, made)
    old.note_delivered(made.record_id, now=NOON + 8.0, elsewhere="parent")
    if is_again:
        ours.open("first")
        old.note_ancestors("another", ["parent"])

    found = ours.open("new")

    assert found.descendants_of("parent") == (["another", "subagent"] if is_again else ["subagent"])
    last = found.newest(fingerprint=made.fingerprint, base_url=made.base_url, session="parent")
    assert last is not None
    assert last.record_id == made.record_id


def test_a_process_that_has_it_open_goes_on_in_the_new_place(of_old: Machine, ours: Machine) -> None:
    """It is told that the journal has moved, and finds it where it was."""
    live = of_old.open("live")
    record = begun(of_old.begin(live))
    new = ours.open("new")

    with pytest.raises(JournalError) as caught:
        accept(live, record)
    assert caught.value.reason == "moved"
    again = of_old.open("live")
    accept(again, record)
    complete(again, record)
    assert [one.state for one in new.records()] == ["completed"]


def test_a_write_that_waited_for_the_move_is_refused(
    place: Place, of_old: Machine, ours: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had looked at the files before; written to a file without a name, money would be spent that no cap counts."""
    begun(of_old.begin(of_old.open("live")))
    late = sqlite3.connect(place.earlier / FILE_NAME, isolation_level=None)
    late.execute("SELECT count(*) FROM records").fetchone()

    ours.open("new")

    with contextlib.closing(late), pytest.raises(sqlite3.IntegrityError, match="the journal has moved"):
        late.execute("INSERT INTO records SELECT * FROM records LIMIT 1")


@pytest.mark.parametrize("at", ["_take_rest", "_linked"])
def test_a_crash_in_the_middle_loses_and_doubles_nothing(
    place: Place, of_old: Machine, ours: Machine, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Both journals are there afterwards; the next opening goes on with it."""
    old = of_old.open("old")
    pruned = begun(of_old.begin(old, at_s=-3600.0))
    accept(old, pruned)
    complete(old, pruned)
    old.note_delivered(pruned.record_id, now=NOON)
    old.prune(before=NOON - 1800.0)
    begun(of_old.begin(old, dedup_key="a boat"))
    old.close()

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as crashing:
        crashing.setattr(taken_along, at, crash)
        with pytest.raises(KeyboardInterrupt):
            ours.open("crashing")
    begun(of_old.begin(of_old.open("meanwhile"), dedup_key="a dog", at_s=60.0))
    found = ours.open("new")

    assert spent(found) == 0.15
    assert found.wrong_sums() == 0
    assert [one.record_id for one in found.records()] == ["record-2", "record-3"]
    assert (place.earlier / FILE_NAME).is_symlink()


def test_two_journals_become_one_in_the_order_of_their_time(place: Place, of_old: Machine, ours: Machine) -> None:
    """`task:last` means the newest image, in whichever it was recorded."""
    newest = begun(ours.begin(ours.open("new"), dedup_key="a cat", at_s=60.0))
    shutil.move(place.own, place.home / "kept")
    of_old.begin(of_old.open("old"))
    shutil.move(place.home / "kept", place.own)

    found = ours.open("new").records()

    assert [one.record_id for one in found] == ["record-1", newest.record_id]
    assert spent(ours.open("new")) == 0.1


def test_a_disk_that_is_read_only_is_copied_once(
    place: Place, of_old: Machine, ours: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume of an older container may be mounted so. Nobody can write to it, so there is nobody to follow a link."""
    begun(of_old.begin(of_old.open("old")))
    allowed = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: allowed(path, mode) and place.earlier not in Path(path).parents
    )

    first = ours.open("new")
    copied = spent(first)
    first.forget("record-1", now=NOON)
    again = spent(ours.open("again"))

    assert (copied, again) == (0.05, 0.05)
    assert not (place.earlier / FILE_NAME).is_symlink()
    assert [path.name for path in place.own.iterdir() if not path.name.startswith("journal.")] == []


def test_without_links_what_is_added_later_is_copied_too(
    of_old: Machine, ours: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may have no links; a process of an older version may still write there."""

    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", no_links)
    old = of_old.open("old")
    begun(of_old.begin(old))
    ours.open("new")
    begun(of_old.begin(old, dedup_key="a boat"))

    assert spent(ours.open("again")) == 0.1


def test_a_damaged_journal_of_old_stops_spending(place: Place, ours: Machine) -> None:
    """What it says of today's money is not known then; the error names the file that has to be fixed."""
    place.earlier.mkdir(parents=True)
    (place.earlier / FILE_NAME).write_bytes(b"this is not a database\n" * 200)

    with pytest.raises(JournalError, match="cannot be taken along") as caught:
        ours.open("new")
    assert (caught.value.reason, caught.value.path) == ("damaged", place.earlier / FILE_NAME)


def test_another_state_folder_counts_what_was_spent_and_sees_no_task(
    place: Place, of_old: Machine, ours: Machine
) -> None:
    """All gateways spent from one cap before, so none begins the day anew; tasks are those of the first."""
    begun(of_old.begin(of_old.open("old")))
    begun(ours.begin(ours.open("new"), dedup_key="a cat", at_s=1800.0))
    other = place.address(place.home / ".openclaw-work")

    found = other.open("other")
    again = other.open("again")

    assert (found.records(), spent(found), spent(again)) == ([], 0.05, 0.05)
    other.close()


def test_a_place_that_was_deleted_is_not_begun_anew_in_silence(place: Place, of_old: Machine, ours: Machine) -> None:
    """A disk may not be mounted; the error says what was where."""
    begun(of_old.begin(of_old.open("old")))
    ours.open("new")
    ours.close()
    shutil.rmtree(place.own)

    with pytest.raises(JournalError, match="whose folder is missing; if that was deleted on purpose, delete"):
        of_old.open("later")


def test_a_link_of_the_users_own_is_left_alone(place: Place, ours: Machine) -> None:
    """Somebody may have put the journal on another disk by hand."""
    place.earlier.mkdir(parents=True)
    place.own.mkdir(parents=True)
    (place.own / FILE_NAME).symlink_to(place.earlier / FILE_NAME)

    begun(ours.begin(ours.open("new")))

    assert (place.earlier / FILE_NAME).is_file()
    assert not (place.earlier / FILE_NAME).is_symlink()
