"""A history, true or lying: made-up durations in a client's journal, written through the journal's own interface.

The journal is where the client looks for how long such tasks took, so a lie there is as wrong as history can be: every
kind at once, many samples, and in agreement with each other.
"""

from __future__ import annotations

import random
import time
import uuid
from pathlib import Path

from benchmarks.kinds import KINDS, LEARNING_TASKS, Kind
from flux2_tool.journal import ClaimRules, Intent, Outcome, ThisProcess, open_journal

_FINGERPRINT = "of-nobody"


def write_history(home: Path, *, base_url: str, factor: float, rng: random.Random) -> None:
    """Fill the journal of a client that was not started yet.

    Args:
        home: The client's home.
        base_url: The sandbox; durations are kept by address.
        factor: The median is this many times the true one, the spread is right.
        rng: Draws the durations.
    """
    now = time.time()
    journal = open_journal(home / "data", owner=ThisProcess(), now=now)
    try:
        for kind in KINDS:
            for _ in range(LEARNING_TASKS):
                record_id = str(uuid.uuid4())
                claim = journal.claim([_intent(record_id, kind, base_url)], _RULES, now=now)
                if claim.outcome != "new":
                    raise RuntimeError(f"the journal does not take the history: {claim.outcome}")
                journal.note_accepted(record_id, now=now, task_id=record_id, status_url=None, request_id=None)
                duration_s = kind.median_s * factor * rng.lognormvariate(0.0, kind.sigma)
                journal.note_end(record_id, Outcome(state="completed", duration_s=duration_s), now=now)
        known = journal.durations(base_url=base_url, model=KINDS[0].model, resolution=KINDS[0].resolution, limit=99)
        if len(known) != LEARNING_TASKS:
            raise RuntimeError(f"the journal holds {len(known)} durations instead of {LEARNING_TASKS}")
    finally:
        journal.close()


_RULES = ClaimRules(join="never", repeat_max=None, repeat_window_s=1.0, caps=())


def _intent(record_id: str, kind: Kind, base_url: str) -> Intent:
    return Intent(
        record_id=record_id,
        session=None,
        dedup_key=record_id,
        fingerprint=_FINGERPRINT,
        base_url=base_url,
        tool="text_to_image",
        model=kind.model,
        resolution=kind.resolution,
        label="made-up",
        body=b"{}",
        idempotency_key=record_id,
        client_request_id=record_id,
        route="guide",
        price_usd=0.0,
    )
