"""The choice of the journal, where a file can be opened and takes no record."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from flux2_tool.exceptions import JournalUnavailableError
from flux2_tool.journal import ClaimRules, JournalError, Moment, RecordHandle, open_threaded_journal
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

    async def __call__(self, folder: Path | None, *, owner: Owner, now: float) -> Journal:
        journal = await open_threaded_journal(folder, owner=owner, now=now)
        self.opened.append(journal)
        if self.is_bad and folder is not None:
            with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as raw, raw:
                raw.execute("DROP TABLE records")
        return journal


def _delete(home: Path, names: str = "*") -> None:
    for path in home.glob(names):
        path.unlink()


def test_a_file_that_takes_no_records_is_closed_and_tried_again(home: Path, machine: Machine) -> None:
    """A request that is in flight must be in the file before the next one is paid for, and no file may stay open."""
    disk, handles = BadDisk(), list[RecordHandle]()

    async def main() -> None:
        journals = JournalWithFallback(
            folder=home,
            mode="required",
            owner=Named("p1"),
            now=lambda: NOON,
            opener=disk,
            record_handles=lambda: handles,
        )
        journal, _ = await journals.for_spending()
        record = begun(await journal.claim(machine.intent(), ClaimRules(join="never"), now=NOON))
        handles.append(
            RecordHandle(journal, record, now=lambda: NOON, moment=lambda: Moment("a boot", 0.0), is_ours=True)
        )

        _delete(home)
        disk.is_bad = True
        with pytest.raises(JournalUnavailableError):
            await journals.for_spending()
        with pytest.raises(JournalError, match="closed"):
            await disk.opened[-1].records()

        _delete(home)
        disk.is_bad = False
        recovered, warnings = await journals.for_spending()

        assert [one.record_id for one in await recovered.records()] == [record.record_id]
        assert [said.partition(":")[0] for said in warnings] == ["journal_replaced"]
        await journals.close()

    asyncio.run(main())


@pytest.mark.parametrize("lost", ["-wal", "all"])
def test_a_journal_that_is_closed_after_its_files_were_lost_gives_up_its_records(
    home: Path, machine: Machine, lost: str
) -> None:
    """The process may live on; a record that it kept would be nobody's to send again, and its image lost."""
    handles = list[RecordHandle]()

    async def main() -> None:
        journals = JournalWithFallback(
            folder=home,
            mode="required",
            owner=Named("p1"),
            now=lambda: NOON,
            opener=open_threaded_journal,
            record_handles=lambda: handles,
        )
        journal, _ = await journals.for_spending()
        record = begun(await journal.claim(machine.intent(), ClaimRules(join="never"), now=NOON))
        handles.append(
            RecordHandle(journal, record, now=lambda: NOON, moment=lambda: Moment("a boot", 0.0), is_ours=True)
        )
        _delete(home, "*" if lost == "all" else "*-???")

        await journals.close()

        other = await open_threaded_journal(home, owner=Named("p2", alive=["p1"]), now=NOON)
        taken = await other.take_over(record.record_id, now=NOON)
        await other.close()
        assert taken is not None
        assert taken.owner == "p2"

    asyncio.run(main())
