"""Arguments that an agent may give, and lines that a broken host may write. More: python -m tests.fuzz"""

from __future__ import annotations

import json

import pytest

from tests.fuzz.__main__ import main, play_all
from tests.fuzz.leaks import KEY, forms_of, leaks_in

SEEDS = range(100)


def test_no_arguments_crash_a_tool() -> None:
    """A model gives anything; every wrong thing is a violation with words, and nothing is sent for it."""
    played = play_all("arguments", SEEDS)

    assert (played.crashes, played.leaks, played.faults) == ([], [], [])
    assert played.calls == 12 * len(SEEDS)
    assert played.errors["invalid_arguments"] > played.calls // 2
    assert played.images > 0


def test_no_line_ends_the_worker() -> None:
    """One broken message must not take the other conversations' calls down."""
    played = play_all("lines", SEEDS)

    assert (played.crashes, played.leaks, played.faults) == ([], [], [])


@pytest.mark.parametrize("form", forms_of(KEY))
def test_a_key_would_be_found_in_every_form(form: str) -> None:
    """A search that finds nothing proves nothing unless it can find something."""
    text = b"before " + forms_of(KEY)[form] + b" after"

    assert form in leaks_in(text)
    assert leaks_in(json.dumps({"error": "no"}).encode()) == []


def test_the_command_prints_the_figures_and_names_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """What is counted in a long run."""
    code = main(["--seeds", "2", "--from", "7", "--processes", "1"])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert [line.partition(":")[0] for line in lines] == ["answers", "arguments", "lines", "probe"]
    assert all("crashes 0, key leaks 0, other faults 0" in line for line in lines)
