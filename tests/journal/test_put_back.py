"""A journal.db of before beside a later -wal, as a restored backup and a killed process leave them."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flux2_tool.diagnostics.doctor.journal import check_journal
from flux2_tool.journal import JournalError
from flux2_tool.settings import load_settings
from tests.support.journal import NOON, SESSION, Machine, accept

pytestmark = pytest.mark.sqlite_only("a server keeps no such files")


@pytest.fixture
def put_back(home: Path, tmp_path: Path) -> Path:
    """A data folder whose journal's indexes do not match its tables: SQLite applies the -wal to the other file."""
    folder, machine = tmp_path / "put-back", Machine(home)
    folder.mkdir()
    journal = machine.open()
    machine.begin(journal, dedup_key="of before")
    shutil.copy(home / "journal.db", folder)
    for number in range(8):  # by then each page of the file was written anew
        claim = machine.begin(journal, dedup_key=f"fox {number}", count=2)
        for record in claim.records:
            accept(journal, record, f"tsk_{record.record_id}")
    shutil.copy(home / "journal.db-wal", folder)
    machine.close()
    return folder


def _index_of_sets(home: Path, condition: str) -> None:
    """Write down that the index of sets has the records that meet a condition, whichever it has."""
    with closing(sqlite3.connect(home / "journal.db")) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        sql = f"CREATE INDEX records_by_set ON records (set_id, set_index) WHERE {condition}"
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'records_by_set'", (sql,))
        connection.commit()


def test_a_set_that_is_found_without_its_pictures_is_damage(home: Path) -> None:
    """A call that joined nothing crashed."""
    machine = Machine(home)
    machine.open().close()
    _index_of_sets(home, "record_id = ''")
    with closing(machine.open()) as journal:
        machine.begin(journal, count=2)
    _index_of_sets(home, "set_id IS NOT NULL")

    with closing(machine.open("later")) as journal, pytest.raises(JournalError) as raised:
        machine.begin(journal, SESSION, count=2)

    assert raised.value.reason == "damaged"


def test_doctor_sees_an_index_that_does_not_match(put_back: Path) -> None:
    found = check_journal(load_settings({}, overrides={"home": str(put_back)}), now=NOON)

    assert found.state == "failure"
    assert "damaged" in found.message
