"""The choice of the journal, where a file can be opened and takes no record."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from flux2_tool.exceptions import JournalUnavailableError
from flux2_tool.journal import ClaimRules, JournalError, RecordHandle, open_journal
from flux2_tool.journal.fallback import JournalWithFallback
from flux2_tool.journal.process_id import Owner
from flux2_tool.journal.protocol import Journal
from flux2_tool.journal.sqlite import FILE_NAME
from tests.support.journal import NOON, Machine, Named, begun


class BadDisk:
    """Opens journals; while it is bad, a new one loses its table at once."""

    def __init__(self) -> None:
        self.is_bad = False
        self.opened: list[Journal] = []

    def __call__(self, folder: Path | None, *, owner: Owner, now: float) -> Journal:
        journal = open_journal(folder, owner=owner, now=now)
        self.opened.append(journal)
        if self.is_bad and folder is not None:
            with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as raw, raw:
                raw.execute("DROP TABLE records")
        return journal


def _delete(home: Path) -> None:
    for path in home.iterdir():
        path.unlink()


def test_a_file_that_takes_no_records_is_closed_and_tried_again(home: Path, machine: Machine) -> None:
    """A request that is in flight must be in the file before the next one is paid for, and no file may stay open."""
    disk, handles = BadDisk(), []
    journals = JournalWithFallback(
        folder=home,
        mode="required",
        owner=Named("p1", set()),
        now=lambda: NOON,
        opener=disk,
        record_handles=lambda: handles,
    )
    journal, _ = journals.for_spending()
    record = begun(journal.claim(machine.intent(), ClaimRules(join="never"), now=NOON))
    handles.append(RecordHandle(journal, record, now=lambda: NOON, is_ours=True))

    _delete(home)
    disk.is_bad = True
    with pytest.raises(JournalUnavailableError):
        journals.for_spending()
    with pytest.raises(JournalError, match="closed database"):
        disk.opened[-1].records()

    _delete(home)
    disk.is_bad = False
    recovered, warnings = journals.for_spending()

    assert [one.record_id for one in recovered.records()] == [record.record_id]
    assert warnings == []
    journals.close()
