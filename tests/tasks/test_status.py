"""The states of an image task, as one table."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from flux2_tool.engine.wait import Progress
from flux2_tool.journal import RecordState
from flux2_tool.tasks.status import TRANSITIONS
from tests.support.harness import CREATED, FOX, json_answer, opened_tool, scripted
from tests.support.virtual_time import run_virtual


def test_the_table_has_every_state_of_the_journal() -> None:
    """One vocabulary: a record and its image task never need a translation."""
    assert set(TRANSITIONS) == set(get_args(RecordState))
    assert set().union(*TRANSITIONS.values()) <= set(TRANSITIONS)


def test_every_state_is_reached_and_ends_are_final() -> None:
    """Nothing leaves "completed": what is paid and shown stays so."""
    reached = {"sending"}
    for _ in TRANSITIONS:
        reached |= {after for state in reached for after in TRANSITIONS[state]}

    assert reached == set(TRANSITIONS)
    assert {state for state, after in TRANSITIONS.items() if not after} == {
        "completed",
        "failed",
        "not_created",
        "unknown",
    }


@pytest.mark.parametrize("status", ["pending", "processing"])
def test_progress_names_the_states_of_the_worker_protocol(home: Path, status: str) -> None:
    """Hosts show these words; the journal's own may change."""
    states: list[str] = []

    def on_progress(progress: Progress) -> None:
        states.append(progress.state)

    async def main() -> None:
        transport = scripted([json_answer(CREATED)], [json_answer({"id": "tsk_abc123", "status": status})])
        transport.delay_s = 1.0
        async with opened_tool(home, transport) as tool:
            await tool.call("text_to_image", dict(FOX), wait_s=20.0, on_progress=on_progress)

    run_virtual(main())

    assert list(dict.fromkeys(states)) == ["submitting", "processing"]
