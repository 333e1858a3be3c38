"""What the journal costs a picture when one day already has many: CPU time, from one record to a hundred thousand.

A day's cap asks what the day has spent before each picture, so this is where a cost could grow. One account, one
conversation, one day, in SQLite; CPU time of this process, its journal without a thread.
"""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from typing import Any

from benchmarks.bench import Bench, say
from benchmarks.journal_rows import DEDUP_KEY, SESSION, fill
from benchmarks.picture_chain import Picture, rules_of
from flux2_tool.journal import ThisProcess, open_journal
from flux2_tool.journal.store import SqlJournal

_PICTURES = 200
_WARM_UP = 20
# A guard that looks this far back finds none of the pictures that are made here one after the other.
_NO_WINDOW_S = 1e-6


async def measure(bench: Bench) -> list[dict[str, Any]]:
    """Return one entry for each number of records."""
    entries, filled, total = [], 0, bench.scale.day_records[-1]
    place, begun = bench.new_home(), time.time()
    for records in bench.scale.day_records:
        fill(place, "alike", first=filled + 1, last=records, total=total, now=begun)
        filled = records
        with closing(open_journal(place, owner=ThisProcess(), now=time.time())) as journal:
            _cpu_ms(journal, _WARM_UP)
            turns = [_cpu_ms(journal, _PICTURES) for _ in range(bench.scale.day_turns)]
        entries.append({"records": records, "cpu_ms": round(statistics.median(turns), 4)})
        say(f"day: {records} records, {entries[-1]['cpu_ms']:.3f} ms of CPU a picture")
    return entries


def _cpu_ms(journal: SqlJournal, pictures: int) -> float:
    begun_s = time.process_time()
    for _ in range(pictures):
        picture, now = Picture.of(SESSION, dedup_key=DEDUP_KEY), time.time()
        claim = journal.claim([picture.intent], rules_of(SESSION, now=now, repeat_window_s=_NO_WINDOW_S), now=now)
        if claim.outcome != "new":
            raise RuntimeError(f"the claim is {claim.outcome}")
        journal.note_route(picture.record_id, "guide", now=now)
        journal.note_accepted(picture.record_id, now=now, **picture.accepted())
        journal.note_end(picture.record_id, picture.outcome(), now=now)
        journal.note_delivered(picture.record_id, now=now)
    return (time.process_time() - begun_s) / pictures * 1000
