"""The states of an image task, as one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from flux2_tool.engine.wait import Progress
from flux2_tool.journal import RecordState
from flux2_tool.tasks.status import TRANSITIONS, title_of
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


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("a red fox\n in  the snow", "a red fox in the snow"),
        ("a \u202efox\x1b[31m\x00 \u200b\ue000!", "a fox[31m !"),
        ("\u202e\u200b", None),
        (" ", None),
        ("雪地里的红狐狸" * 20, "雪地里的红狐狸" * 8 + "雪地里的" + "…"),
        ("a very " * 20 + "red fox", "a very " * 8 + "a…"),
        (7, "7"),
    ],
)
def test_a_title_is_one_line_of_what_can_be_seen(prompt: object, title: str | None) -> None:
    """A chat and a terminal show it; a prompt may be anybody's text."""
    assert title_of(json.dumps({"prompt": prompt}).encode()) == title


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b"7"])
def test_a_request_without_a_prompt_has_no_title(body: bytes) -> None:
    """A journal of a later version may have other requests."""
    assert title_of(body) is None
