"""What must survive a power failure is synced to the disk before it is paid for; for the rest nobody waits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flux2_tool.journal import Outcome, Record, SqliteJournal
from flux2_tool.journal.sqlite import FILE_NAME
from flux2_tool.journal.sqlite_database import connect
from tests.support.journal import NOON, SESSION, Machine, Named, begun

pytestmark = pytest.mark.sqlite_only("SQLite's own way to sync a transaction")

Operation = Callable[[SqliteJournal, Record, Machine], object]

SYNCED: dict[str, Operation] = {
    "the intent": lambda journal, _, machine: journal.claim([machine.intent("another fox")], SESSION, now=NOON),
    "that a POST is sent": lambda journal, record, _: journal.note_route(record.record_id, "guide", now=NOON),
    "the task's id": lambda journal, record, _: journal.note_accepted(
        record.record_id, now=NOON, task_id="tsk_1", status_url=None, request_id=None
    ),
    "what another file had": lambda journal, record, _: journal.carry_over([record]),
}
UNSYNCED: dict[str, Operation] = {
    "an end": lambda journal, record, _: journal.note_end(record.record_id, Outcome(state="failed"), now=NOON),
    "a heartbeat": lambda journal, *_: journal.heartbeat(now=NOON),
    "a delivery": lambda journal, record, _: journal.note_delivered(record.record_id, now=NOON),
}


@pytest.mark.parametrize("name", [*SYNCED, *UNSYNCED])
def test_what_prevents_a_second_payment_is_synced(machine: Machine, home: Path, name: str) -> None:
    """Without its record, the machine that comes up again would pay for the same image once more."""
    machine.open("creates the file").close()
    connection = connect(str(home / FILE_NAME), now=NOON)
    journal = SqliteJournal(connection, home / FILE_NAME, Named("p1"))
    record = begun(machine.begin(journal))
    # The operation before is of the other kind: the mode that it leaves must not be taken for granted.
    before = "a delivery" if name in SYNCED else "the intent"
    {**SYNCED, **UNSYNCED}[before](journal, record, machine)
    statements: list[str] = []
    connection.set_trace_callback(statements.append)

    {**SYNCED, **UNSYNCED}[name](journal, record, machine)

    modes = [statement for statement in statements if "synchronous" in statement or statement == "COMMIT"]
    journal.close()
    assert modes[:2] == [f"PRAGMA synchronous = {'FULL' if name in SYNCED else 'NORMAL'}", "COMMIT"]
