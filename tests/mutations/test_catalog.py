"""The mutants fit the code: one that does not would say nothing of the tests. `python -m tests.mutations` runs them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.mutations.catalog import CATALOG
from tests.mutations.equivalents import LEFT_OUT
from tests.mutations.mutant import Edit, MutantError
from tests.mutations.operators import mutants_of
from tests.mutations.population import AREAS, all_mutants, chosen_mutants, random_mutants
from tests.support.readme import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / "flux2_tool").is_dir(), reason="not a checkout")


def test_each_chosen_mutant_fits_the_code_once() -> None:
    """Code that has moved on takes its mutants along, or they are forgotten."""
    chosen = chosen_mutants(ROOT)

    assert len(chosen) >= 97
    assert [name for name, count in Counter(one.name for one in chosen).items() if count > 1] == []
    assert set(CATALOG) == {*AREAS, "lower"}


@pytest.mark.parametrize(
    ("original", "replacement"),
    [
        pytest.param("no such text", "x", id="missing"),
        pytest.param("= 1", "= 2", id="twice"),
        pytest.param("a = 1", "a = (", id="no Python"),
    ],
)
def test_a_mutant_that_does_not_fit_is_an_error(tmp_path: Path, original: str, replacement: str) -> None:
    """A run must not count it as noticed."""
    (tmp_path / "module.py").write_text("a = 1\nb = 1\n", encoding="utf-8")
    edit = Edit(name="a change", path="module.py", original=original, replacement=replacement)

    with pytest.raises(MutantError):
        edit.mutant(tmp_path, "money")


def test_random_mutants_are_python_and_the_same_for_a_seed() -> None:
    """A survivor is named to be run again."""
    chosen = random_mutants(ROOT, count=300, seed=1)

    assert len({mutant.key for mutant in chosen}) == 300
    assert [mutant.key for mutant in random_mutants(ROOT, count=300, seed=1)] == [mutant.key for mutant in chosen]
    for mutant in chosen:
        compile(mutant.mutated, mutant.path, "exec", dont_inherit=True)
        assert mutant.mutated.count("\n") == mutant.source.count("\n"), mutant.diff()


def test_each_reason_to_leave_a_mutant_out_still_applies() -> None:
    """Of code that is gone it would hide the next mutant that looks alike."""
    identities = "\n".join(identity for identity, _ in all_mutants(ROOT))

    assert [pattern for pattern in LEFT_OUT if not re.search(pattern, identities, re.MULTILINE)] == []


SOURCE = '''
"""A module."""

LIMIT: Final = 3


class Thing:
    def __repr__(self) -> str:
        return "Thing" if self.name == "" else self.name

    def change(self, amount: int = 1) -> bool:
        """Change it."""
        logger.info("changed by %d", amount + 1)
        if amount > LIMIT and not self.is_closed:
            raise TooMuchError(f"{amount + 1} is too much", hint="Less.", charged="no")
        self.amount = amount
        return True
'''


def test_the_operators_leave_out_what_is_only_said() -> None:
    """Wording, log lines and what is printed for a debugger are no behaviour; the rest is."""
    found = [mutant.diff().splitlines() for _, mutant in mutants_of("thing.py", SOURCE, "money")]
    changed = {line[1:].strip() for diff in found for line in diff if line.startswith("+") and line[1] != "+"}

    assert {
        "LIMIT: Final = 4",
        "def change(self, amount: int = 2) -> bool:",
        "if (amount > LIMIT or not self.is_closed):",
        "if (amount >= LIMIT) and not self.is_closed:",
        "if amount > LIMIT and (self.is_closed):",
        "if (not self.is_closed):",
        "raise TooMuchError(f'{amount + 1} is too much', hint='Less.')",
        "pass",
        "return False",
        "return None",
    } <= changed
    assert not any("logger" in line or "Thing" in line or "A module" in line for line in changed)
