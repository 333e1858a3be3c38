"""One of several processes that race for one journal: `python -m tests.journal.racer`.

Each line of stdin is a data folder; the answer is a line with the outcome of opening its journal and claiming one
image there. The orders come to all at the same moment.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from flux2_tool.journal import JournalError, SqliteJournal, ThisProcess, open_journal
from tests.support.journal import NOON, SESSION, Machine


def main() -> None:
    """Race until stdin ends."""
    held: list[SqliteJournal] = []
    owner = ThisProcess()
    for line in sys.stdin:
        folder = Path(line.strip())
        machine = Machine(folder)
        try:
            journal = open_journal(folder, owner=owner, now=NOON)
            held.append(journal)
            own = f"{os.getpid()}"
            intent = machine.intent("one fox", record_id=own, idempotency_key=own)
            claim = journal.claim([intent], SESSION, now=NOON)
            record = claim.record
            told = {"outcome": claim.outcome, "record": record and record.record_id}
        except JournalError as exc:
            told = {"outcome": "error", "record": str(exc)}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
