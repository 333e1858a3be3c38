"""The benchmark's form: its pieces and their README agree, and a comparison names what became worse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import kept
from benchmarks.pieces import LONGEST_S, PIECES
from benchmarks.report import BEGIN, END, write_into

README = Path(kept.__file__).with_name("README.md")
MACHINE = {"processor": "one", "cores": 2}


def warm(lateness_s: float, *, error_s: float = 0.01, processor: str = "one") -> dict[str, Any]:
    """Return the kept figures of the piece "warm", of a client so late against one that is late by a second."""
    entries = []
    for client, late_s in (("flux2-tool", lateness_s), ("runapi-flux-2", 1.0)):
        about = {"client": client, "history": "warm", "kind": "all four", "finished": 4000, "failures": {}}
        figures = {"mean_lateness_s": late_s, "lateness_error_s": error_s * late_s, "p95_lateness_s": 1.0}
        polls = {"slowest_s": 2.0, "mean_polls": 6.0, "polls_of_fixed": 0.99, "polls_of_fixed_error": 0.001}
        entries.append(about | figures | polls)
    return {"warm": {"machine": MACHINE | {"processor": processor}, "figures": entries}}


def test_the_readme_lists_every_piece_in_order() -> None:
    """Whoever measures anew runs what is written there, one piece after the other."""
    text = README.read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    table = {cells[1].strip(" `"): cells for cells in rows if cells[1].strip(" `") in PIECES}

    assert list(table) == list(PIECES)
    assert {name: float(table[name][3]) for name in PIECES} == {name: one.minutes for name, one in PIECES.items()}
    assert f"for piece in {' '.join(PIECES)}; do" in text


def test_no_piece_takes_longer_than_five_minutes() -> None:
    """A run must fit into what a shell gives a command."""
    assert max(piece.minutes for piece in PIECES.values()) * 60 <= LONGEST_S


@pytest.mark.parametrize(("now_s", "said"), [(0.40, "worse"), (0.25, "better"), (0.325, None)])
def test_a_comparison_names_what_is_outside_both_intervals(now_s: float, said: str | None) -> None:
    """What chance makes of it is no news."""
    told = list(kept.compare(warm(now_s), warm(0.32)))

    found = [line for line in told if line.startswith("- **")]
    assert [line.partition(":")[0] for line in found] == ([] if said is None else [f"- **{said}**"])
    assert all("0.32 before" in line for line in found)


def test_a_comparison_says_when_the_kept_figures_are_from_another_machine() -> None:
    """Seconds and CPU times of two machines say nothing about the code."""
    told = "\n".join(kept.compare(warm(0.32), warm(0.32, processor="another")))

    assert "The kept figures of warm are from another machine." in told


def test_kept_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Pieces are kept one after the other, in one file."""
    kept.write(warm(0.32), tmp_path / "figures.json")

    assert kept.read(tmp_path / "figures.json") == warm(0.32)
    assert kept.read(tmp_path / "none.json") == {}


def test_tables_replace_what_is_between_the_marks_alone(tmp_path: Path) -> None:
    """The words around them are written by hand."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    write_into(page, "new")

    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
