"""The journal as a file: its permissions, its migrations, and its errors when it cannot be used."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from flux2_tool.diagnostics.doctor.journal import check_journal
from flux2_tool.journal import JournalError, open_journal
from flux2_tool.journal.errors import unavailable
from flux2_tool.journal.migrations import MIGRATIONS
from flux2_tool.journal.sqlite import FILE_NAME
from flux2_tool.journal.sqlite_database import connect
from flux2_tool.journal.sqlite_schema import SCHEMA
from flux2_tool.settings import load_settings
from tests.support.journal import NOON, SESSION, Machine, Named, accept, begun, complete, end, full_disk

of_files = pytest.mark.sqlite_only("permissions, versions and damage of a file")


def mode_of(path: Path) -> int:
    """Return a file's permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


@of_files
def test_only_the_user_may_read_the_journal(machine: Machine, home: Path) -> None:
    """It holds prompts and links to pictures."""
    old = os.umask(0)
    try:
        begun(machine.begin(machine.open()))
    finally:
        os.umask(old)
    files = {path.name: mode_of(path) for path in home.iterdir()}

    assert mode_of(home) == 0o700
    assert files == {FILE_NAME: 0o600, f"{FILE_NAME}-wal": 0o600, f"{FILE_NAME}-shm": 0o600}


@of_files
def test_a_journal_is_created_once_and_kept(machine: Machine, home: Path) -> None:
    """Migrations are applied once each, in order, and what is written survives the process."""
    first = machine.open("p1")
    record = begun(machine.begin(first))
    first.close()
    again = machine.open("p2")
    kept = again.get(record.record_id)
    with contextlib.closing(sqlite3.connect(home / FILE_NAME)) as raw:
        applied = [row[0] for row in raw.execute("SELECT name FROM migrations ORDER BY rowid")]

    assert kept is not None
    assert (kept.body, kept.idempotency_key, kept.state) == (record.body, record.idempotency_key, "sending")
    assert applied == [name for name, _ in MIGRATIONS]


@of_files
def test_a_journal_of_the_first_version_is_brought_up_to_date(machine: Machine, home: Path) -> None:
    """People upgrade; what they paid for stays listed."""
    home.mkdir(mode=0o700)
    name, script = MIGRATIONS[0]
    with contextlib.closing(sqlite3.connect(home / FILE_NAME, isolation_level=None)) as raw:
        raw.executescript(script)
        raw.execute("CREATE TABLE migrations (name TEXT PRIMARY KEY, applied_at REAL NOT NULL)")
        raw.execute("INSERT INTO migrations VALUES (?, 1.0)", (name,))
        raw.execute(
            "INSERT INTO records (record_id, equal_key, fingerprint, base_url, tool, model, resolution, label, body,"
            " idempotency_key, client_request_id, route, state, created_at, task_id) VALUES ('old', 'k', 'f', 'u',"
            " 'text_to_image', 'm', '1k', 'a-fox', x'7b7d', 'i', 'c', 'guide', 'processing', 1.0, 'tsk_old')"
        )
    journal = machine.open()
    old = journal.get("old")

    assert old is not None
    assert (old.state, old.task_id, old.images, old.orphaned) == ("processing", "tsk_old", (), False)
    begun(machine.begin(journal))


@of_files
def test_opening_does_not_wait_for_who_writes(machine: Machine, home: Path) -> None:
    """A command that only reads would fail beside many that write."""
    machine.open("p1").close()
    with contextlib.closing(sqlite3.connect(home / FILE_NAME, isolation_level=None)) as writing:
        writing.execute("BEGIN IMMEDIATE")
        connect(str(home / FILE_NAME), now=NOON).close()


def test_a_new_journal_is_made_as_all_steps_leave_it() -> None:
    """It does not go through them; a claim must find the same columns, indexes and triggers in both."""
    made = []
    for statements in (SCHEMA, [script for _, script in MIGRATIONS]):
        with contextlib.closing(sqlite3.connect(":memory:")) as raw:
            raw.executescript(";\n".join(statements))
            made.append(structure(raw))

    assert made[0] == made[1]
    assert {"records", "spending", "create_slots"} <= {name for _, name in made[0]}


def structure(raw: sqlite3.Connection) -> dict[tuple[str, str], object]:
    """Return each table, index and trigger as SQLite understands it: words and spaces apart."""
    found: dict[tuple[str, str], object] = {}
    for kind, name, sql in raw.execute("SELECT type, name, sql FROM sqlite_master"):
        columns = raw.execute(f"PRAGMA table_xinfo({name})").fetchall()
        keys = raw.execute(f"PRAGMA index_xinfo({name})").fetchall()
        words = " ".join((sql or "").split())
        found[kind, name] = (columns, keys, words[words.rfind(")") :] if kind == "table" else words)
    return found


@of_files
def test_an_open_journal_that_a_newer_version_extends_is_still_used(machine: Machine, home: Path) -> None:
    """During an upgrade the old worker finishes its calls beside the new one."""
    older = machine.open("older")
    _extend(home)
    record = begun(machine.begin(older))
    with contextlib.closing(sqlite3.connect(home / FILE_NAME, isolation_level=None)) as raw:
        raw.execute("UPDATE records SET wisdom = 'some'")
    older.carry_over([record])
    with contextlib.closing(sqlite3.connect(home / FILE_NAME)) as raw:
        wisdom = raw.execute("SELECT wisdom FROM records").fetchone()[0]

    assert wisdom == "some"


@of_files
def test_a_journal_of_a_newer_version_is_refused_and_unchanged(machine: Machine, home: Path) -> None:
    """It may count on what this version would not keep; what is refused says which file and what to do."""
    machine.begin(machine.open("newer"))
    _extend(home)

    with pytest.raises(JournalError, match="written by a newer version of flux2-tool") as caught:
        machine.open("older")
    assert (caught.value.reason, caught.value.path) == ("newer", home / FILE_NAME)
    refusal = unavailable(caught.value)
    assert "nothing was sent" in refusal.message
    assert refusal.hint.startswith("Upgrade flux2-tool")


def _extend(home: Path) -> None:
    with contextlib.closing(sqlite3.connect(home / FILE_NAME, isolation_level=None)) as raw:
        raw.execute("INSERT INTO migrations VALUES ('9999_from_the_future', 1.0)")
        raw.execute("ALTER TABLE records ADD COLUMN wisdom TEXT NOT NULL DEFAULT 'all of it'")


@of_files
def test_a_file_that_is_no_journal_is_refused_and_unchanged(home: Path) -> None:
    """It may be somebody's file, or the remains of a journal that a person can still read."""
    home.mkdir()
    (home / FILE_NAME).write_bytes(b"this is not a database, it is a letter\n" * 200)

    with pytest.raises(JournalError, match=r"journal\.db cannot be opened") as caught:
        open_journal(home, owner=Named("p1", set()), now=NOON)
    assert caught.value.reason == "damaged"
    assert (home / FILE_NAME).read_bytes().startswith(b"this is not a database")


@of_files
@pytest.mark.parametrize(
    ("make", "what"),
    [
        pytest.param(Path.mkdir, "is a folder", id="folder"),
        pytest.param(os.mkfifo, "is a pipe", id="pipe"),
        pytest.param(lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "is a socket", id="socket"),
        pytest.param(lambda path: path.symlink_to("/dev/null"), "leads to /dev/null, which is a device", id="device"),
        pytest.param(lambda path: path.symlink_to(path.name), "is a circle of links", id="circle"),
    ],
)
def test_what_is_no_file_in_the_files_place_is_named(home: Path, make: Callable[[Path], None], what: str) -> None:
    """Not as a broken disk or as damage, and SQLite neither reads nor writes it; doctor moves nothing away."""
    home.mkdir()
    path = home / FILE_NAME
    make(path)

    with pytest.raises(JournalError) as caught:
        open_journal(home, owner=Named("p1", set()), now=NOON)
    found = check_journal(load_settings({}, overrides={"home": str(home)}), now=NOON)

    assert str(caught.value) == found.message == f"the journal {path} {what}; it must be a file, or a link to one"
    assert caught.value.hint == found.fix == f"move away what is at {path}, or set FLUX2_TOOL_HOME to another folder"
    assert [one.name for one in home.iterdir()] == [FILE_NAME]


@of_files
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_what_is_no_file_beside_the_journal_is_named(home: Path, suffix: str) -> None:
    """SQLite opens these too, and waits for a pipe."""
    open_journal(home, owner=Named("p1", set()), now=NOON).close()
    path = home / f"{FILE_NAME}{suffix}"
    path.unlink(missing_ok=True)
    os.mkfifo(path)

    with pytest.raises(JournalError) as caught:
        open_journal(home, owner=Named("p1", set()), now=NOON)
    found = check_journal(load_settings({}, overrides={"home": str(home)}), now=NOON)

    assert str(caught.value) == found.message == f"the journal {path} is a pipe; it must be a file, or a link to one"


@of_files
@pytest.mark.parametrize("is_too_long", [False, True])
def test_a_path_that_is_too_long_for_sqlite_is_told_with_its_length(tmp_path: Path, is_too_long: bool) -> None:
    """ "unable to open database file" was told as a matter of permissions."""
    left = 504 + is_too_long - len(os.fsencode(tmp_path / FILE_NAME)) - 2
    home = tmp_path / ("a" * (left // 2)) / ("b" * (left - left // 2))
    assert len(os.fsencode(home / FILE_NAME)) == 504 + is_too_long

    if not is_too_long:
        open_journal(home, owner=Named("p1", set()), now=NOON).close()
        return
    with pytest.raises(JournalError, match="its path has 505 bytes, and SQLite takes at most 504") as caught:
        open_journal(home, owner=Named("p1", set()), now=NOON)
    found = check_journal(load_settings({}, overrides={"home": str(home)}), now=NOON)

    assert caught.value.hint == found.fix == "set FLUX2_TOOL_HOME to a folder with a shorter path"


@of_files
def test_a_file_in_the_folders_place_is_refused(home: Path) -> None:
    """The same the other way round."""
    home.write_text("not a folder")

    with pytest.raises(JournalError, match=f"cannot be opened: {home} is not a folder"):
        open_journal(home, owner=Named("p1", set()), now=NOON)


@of_files
def test_a_folder_that_cannot_be_made_is_refused() -> None:
    """A read-only system: here one where nobody can make a folder, not even the administrator."""
    with pytest.raises(JournalError, match="cannot be opened"):
        open_journal(Path("/proc/flux2-tool"), owner=Named("p1", set()), now=NOON)


@of_files
def test_a_damaged_page_is_an_error(machine: Machine, home: Path) -> None:
    """Corrupted data must not make an equal request look new."""
    journal = machine.open()
    for number in range(50):
        begun(machine.begin(journal, dedup_key=f"fox {number}"))
    journal.close()
    size = (home / FILE_NAME).stat().st_size
    with (home / FILE_NAME).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))

    with pytest.raises(JournalError):
        machine.begin(machine.open("p2"), SESSION, dedup_key="fox 7")


def test_a_full_disk_is_an_error_and_leaves_the_record_unwritten(machine: Machine) -> None:
    """An intent that is not on disk must not be taken for one that is."""
    journal = machine.open()
    before = begun(machine.begin(journal, dedup_key="before"))

    with full_disk(), pytest.raises(JournalError, match=r"full|I/O|no space") as caught:
        machine.begin(journal, dedup_key="while it is full")
    assert caught.value.reason == "disk"
    after = begun(machine.begin(journal, dedup_key="after"))

    assert {record.record_id for record in machine.open("p2").records()} == {before.record_id, after.record_id}


@of_files
def test_a_deleted_or_replaced_file_is_noticed(machine: Machine, home: Path) -> None:
    """Writing on to a file that nobody can open any more would lose everything at the process's end."""
    journal = machine.open()
    assert journal.is_in_place()
    (home / FILE_NAME).unlink()
    deleted = journal.is_in_place()
    machine.open("p2")
    replaced = journal.is_in_place()

    assert (deleted, replaced) == (False, False)


def test_a_journal_in_memory_is_always_in_place() -> None:
    """There is no file that somebody could delete."""
    journal = open_journal(None, owner=Named("p1", set()), now=NOON)

    assert journal.is_in_place()
    journal.close()


def test_only_old_and_finished_records_are_pruned(machine: Machine) -> None:
    """What is open or of unknown outcome may have been paid for, and what nobody was shown surely was."""
    journal = machine.open()
    for name in ("open", "unknown", "done", "done lately", "done, not shown"):
        record = begun(machine.begin(journal, dedup_key=name, at_s=0.0 if name == "done lately" else -5000.0))
        if name == "unknown":
            end(journal, record, "unknown", at_s=0.0)
        elif name.startswith("done"):
            accept(journal, record, f"tsk_{name[-4:]}")
            complete(journal, record)
            if name != "done, not shown":
                journal.note_delivered(record.record_id, now=NOON)

    assert journal.prune(before=NOON - 1000.0) == 1
    assert {record.dedup_key for record in journal.records()} == {"open", "unknown", "done lately", "done, not shown"}


def test_only_a_record_of_unknown_outcome_can_be_forgotten(machine: Machine) -> None:
    """A person has looked at the dashboard; everything else settles itself."""
    journal = machine.open()
    lost = begun(machine.begin(journal, dedup_key="lost"))
    end(journal, lost, "unknown", at_s=0.0, conflict=True)
    others = [begun(machine.begin(journal, dedup_key=name)) for name in ("sending", "done")]
    complete(journal, others[1])

    forgotten = [journal.forget(record.record_id, now=NOON + 1.0) for record in (lost, lost, *others)]

    assert forgotten == [True, False, False, False]
    assert {record.dedup_key for record in journal.records()} == {"sending", "done"}
    assert machine.begin(journal, dedup_key="lost", at_s=2.0).outcome == "new"


def test_a_request_that_a_process_asks_about_again_is_not_forgotten(machine: Machine) -> None:
    """It may be settled in a moment; forgotten, its image would be paid for and lost, and its cost in no cap."""
    journal, other = machine.open("p1"), machine.open("p2")
    lost = begun(machine.begin(journal, dedup_key="lost"))
    end(journal, lost, "unknown", at_s=0.0)
    assert other.take_over(lost.record_id, now=NOON + 1.0) is not None

    assert journal.forget(lost.record_id, now=NOON + 2.0) is False
    machine.dead.add("p2")
    assert journal.forget(lost.record_id, now=NOON + 3.0) is True


def test_records_are_listed_by_state_and_age(machine: Machine) -> None:
    """`flux2-tool tasks --state --since`."""
    journal = machine.open()
    old = begun(machine.begin(journal, dedup_key="old", at_s=-100.0))
    accept(journal, old)
    begun(machine.begin(journal, dedup_key="new"))

    assert [record.dedup_key for record in journal.records()] == ["old", "new"]
    assert [record.dedup_key for record in journal.records(states=["processing"])] == ["old"]
    assert [record.dedup_key for record in journal.records(since=NOON - 1.0)] == ["new"]


def test_carry_over_keeps_the_record_that_is_further_along(machine: Machine) -> None:
    """After a file could not be used for a while, what happened meanwhile goes back into it, and nothing else does."""
    file = machine.open("p1")
    stale = begun(machine.begin(file, dedup_key="finished meanwhile"))
    taken = begun(machine.begin(file, dedup_key="taken over meanwhile"))
    memory = open_journal(None, owner=Named("p1", set()), now=NOON)
    memory.carry_over([stale, taken])
    accept(memory, stale)
    complete(memory, stale)
    machine.dead.add("p1")
    other = machine.open("p2")
    other.take_over(taken.record_id, now=NOON + 5.0)
    accept(other, taken, "tsk_2")
    file.carry_over(memory.records())
    memory.close()
    finished, kept = file.get(stale.record_id), file.get(taken.record_id)

    assert finished is not None
    assert (finished.state, finished.task_id, len(finished.images)) == ("completed", "tsk_1", 1)
    assert kept is not None
    assert (kept.state, kept.task_id, kept.owner) == ("processing", "tsk_2", "p2")


def test_carry_over_leaves_what_another_process_has_taken_over(machine: Machine) -> None:
    """Both are at the same step; but its owner is about to send it, and this process is not any more."""
    file = machine.open("p1")
    record = begun(machine.begin(file))
    machine.dead.add("p1")
    other = machine.open("p2")
    other.take_over(record.record_id, now=NOON + 5.0)
    before = file.get(record.record_id)

    file.carry_over([record])

    assert before is not None
    assert (before.owner, before.state) == ("p2", "sending")
    assert file.get(record.record_id) == before


@pytest.mark.parametrize("is_closed", [False, True])
def test_carry_over_brings_no_request_back_to_an_earlier_step(machine: Machine, is_closed: bool) -> None:
    """An old copy of the journal says that a request is in flight, which is done and paid for."""
    journal = machine.open("p1")
    old = begun(machine.begin(journal))
    accept(journal, old)
    complete(journal, old)
    if is_closed:
        journal.note_delivered(old.record_id, now=NOON + 8.0)
    before = journal.get(old.record_id)

    journal.carry_over([old])

    assert before is not None
    assert before.state == "completed"
    assert journal.get(old.record_id) == before


@pytest.mark.parametrize("state", ["failed", "unknown", "not_created"])
def test_an_image_is_not_lost_to_a_late_end(machine: Machine, state: str) -> None:
    """Of two responses to one poll the second may arrive first; and a failure that turns out well is an image."""
    journal = machine.open()
    done, failed = (begun(machine.begin(journal, dedup_key=name)) for name in ("done", "failed"))
    complete(journal, done)
    end(journal, done, state)
    end(journal, failed, "failed")
    end(journal, failed, state)
    before = journal.get(failed.record_id)
    complete(journal, failed)
    records = [journal.get(record.record_id) for record in (done, failed)]

    assert before is not None
    assert before.state == "failed"
    assert [(record.state, len(record.images)) for record in records if record] == [("completed", 1)] * 2


def test_records_are_ordered_by_insertion_and_not_by_date(machine: Machine) -> None:
    """The clock was a year ahead for an hour: what was made then is not the newest for a year."""
    journal = machine.open()
    ahead = begun(machine.begin(journal, dedup_key="made in next year", at_s=365 * 86400.0))
    today = begun(machine.begin(journal, dedup_key="made today", at_s=60.0))
    for record in (ahead, today):
        accept(journal, record, f"tsk_{record.record_id}")
        complete(journal, record, at_s=61.0)
    newest = journal.newest(fingerprint=today.fingerprint, base_url=today.base_url, session="a session")

    assert newest is not None
    assert newest.dedup_key == "made today"
