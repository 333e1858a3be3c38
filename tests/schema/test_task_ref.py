"""One type for the names of tasks."""

from __future__ import annotations

import shlex

import pytest

from flux2_tool.schema.task_ref import TaskRef


@pytest.mark.parametrize("text", ["tsk_1", "task:tsk_1"])
def test_an_id_and_its_reference_name_the_same_task(text: str) -> None:
    """Agents repeat whichever they saw last."""
    assert TaskRef.parse(text) == TaskRef("tsk_1")
    assert str(TaskRef.parse(text)) == "task:tsk_1"


def test_only_a_reference_names_a_task_as_a_source() -> None:
    """Anything else may be a file of that name."""
    assert TaskRef.parse_source("task:tsk_1") == TaskRef("tsk_1")
    assert TaskRef.parse_source("tsk_1") is None


@pytest.mark.parametrize(
    "task_id", ["tsk_1", "a;id", "$(id)", "`id`&", "it's", "-1", "--json", "task:tsk_1", "!!", "~"]
)
def test_a_command_names_the_task_whatever_its_id_is(task_id: str) -> None:
    """RunAPI chooses it, and a person pastes the line into a shell: it must run nothing, and find the task."""
    [word] = shlex.split(TaskRef.command_word(task_id))

    assert TaskRef.parse(word) == TaskRef(task_id)
    assert not word.startswith("-")
    assert TaskRef.command_word(task_id) in (task_id, shlex.quote(word))


def test_the_last_one_is_told_apart() -> None:
    """It is another one for every session."""
    assert TaskRef.parse("task:last").is_last
    assert not TaskRef.parse("task:tsk_last").is_last


def test_no_id_has_no_reference() -> None:
    """A request that RunAPI has not answered has none yet."""
    assert TaskRef.text_of(None) is None
    assert TaskRef.text_of("tsk_1") == "task:tsk_1"
