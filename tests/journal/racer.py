"""One of several processes that race for one journal: `python -m tests.journal.racer`.

Each line of stdin is a data folder, and how many images; the answer is a line with the outcome of opening its journal
and claiming them there. The orders come to all at the same moment.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from flux2_tool.journal import Intent, JournalError, SqlJournal, ThisProcess
from tests.support.journal import NOON, SESSION, Machine
from tests.support.stores import is_postgres, open_store


def main() -> None:
    """Race until stdin ends."""
    held: list[SqlJournal] = []
    owner = ThisProcess()
    for line in sys.stdin:
        path, count = line.rstrip("\n").split("\t")
        folder = Path(path)
        machine = Machine(folder)
        try:
            journal = open_store(folder, owner=owner, now=NOON)
            if is_postgres() and held:
                held.pop().close(release=False)  # else there would be more than a server takes
            held.append(journal)
            intents = [_own(intent) for intent in machine.set_of(int(count), "one fox")]
            claim = journal.claim(intents, SESSION, now=NOON)
            told = {"outcome": claim.outcome, "records": [record.record_id for record in claim.records]}
        except JournalError as exc:
            told = {"outcome": "error", "records": [str(exc)]}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def _own(intent: Intent) -> Intent:
    """Return an intent under ids that no other process has."""
    own = f"{os.getpid()}-{intent.set_index}"
    set_id = None if intent.set_id is None else f"set of {os.getpid()}"
    return replace(intent, record_id=own, idempotency_key=own, set_id=set_id)


if __name__ == "__main__":
    main()
