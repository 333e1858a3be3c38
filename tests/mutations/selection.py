"""Choose the tests for a mutant: those that run its lines, quickest first."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

from tests.mutations.mutant import Mutant
from tests.mutations.recording import TestMap

# Of each parametrized test that runs a line, so many cases are run, and of those of the changed room all; more cases,
# and slow tests, as long as all together take no longer than the budget, by what they took when they were recorded.
CASES_AT_LEAST: Final = 2
SLOW_S: Final = 3.0
BUDGET_S: Final = 100.0


class Selector:
    """Chooses tests by what was recorded.

    Args:
        root: The checkout.
        tests: What was recorded of its tests.
        budget_s: How long the tests of one change may take together.
    """

    def __init__(self, root: Path, tests: TestMap, *, budget_s: float = BUDGET_S) -> None:
        self._tests = tests
        self._budget_s = budget_s
        self._noticed: defaultdict[str, set[str]] = defaultdict(set)
        self._importers: defaultdict[str, set[str]] = defaultdict(set)
        for path in sorted((root / "flux2_tool").rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module is not None:
                    for module in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                        self._importers[f"{module.replace('.', '/')}.py"].add(path.relative_to(root).as_posix())

    def tests_for(self, mutant: Mutant) -> tuple[str, ...]:
        """Return the tests to run, in order; none if no test runs the line."""
        lines = self._tests.lines.get(mutant.path, {})
        found = self._running(lines, range(mutant.first_line, mutant.last_line + 1))
        if self.is_run_at_import(mutant):
            # What it makes may be used by anything that imports the module.
            for path in {mutant.path, *self._importers[mutant.path]}:
                of_path = self._tests.lines.get(path, {})
                found.update(set(self._running(of_path, of_path)))
        elif not found:
            # In Python 3.11 coverage.py does not see what follows an await into which an exception was thrown, such as
            # the end of a time limit: then the nearest statement around it tells.
            for statement in _outward(mutant):
                found = self._running(lines, _own_lines(statement))
                if found:
                    break
        return self._within_budget(found, mutant.path)

    def is_run_at_import(self, mutant: Mutant) -> bool:
        """Whether the import runs the line, so that changing it afterwards is too late."""
        lines = self._tests.lines.get(mutant.path, {})
        return any("" in lines.get(line, ()) for line in range(mutant.first_line, mutant.last_line + 1))

    def duration_s(self, tests: Iterable[str]) -> float:
        """Return how long tests take together, without a mutant."""
        return sum(self._tests.durations_s[test] for test in tests)

    def _running(self, lines: dict[int, frozenset[str]], numbers: Iterable[int]) -> Counter[str]:
        """Return the tests that run any of some lines, and how many of them each runs."""
        return Counter(test for line in numbers for test in lines.get(line, ()) if test)

    def note(self, path: str, test: str) -> None:
        """Remember a test that noticed a change of a file: it is likely to notice the next one, too."""
        self._noticed[path].add(test)

    def _within_budget(self, tests: Counter[str], path: str) -> tuple[str, ...]:
        """Return the tests in order: those of the changed room, and of other parametrized ones a few cases or more.

        First come those that noticed another change of the file, and then those that run most of the changed lines;
        those of the changed room before others; the quickest first.
        """
        room = path.split("/")[1]
        near = f"tests/test{room}" if room.endswith(".py") else f"tests/{room}/"

        def order(test: str) -> tuple[bool, int, float, str]:
            weight = 0.25 if test.startswith(near) else 1.0
            return test not in self._noticed[path], -tests[test], self._tests.durations_s[test] * weight, test

        cases: Counter[str] = Counter()
        first: list[str] = []
        rest: list[str] = []
        for test in sorted(tests, key=order):
            cases[test.partition("[")[0]] += 1
            is_wanted = test.startswith(near) or cases[test.partition("[")[0]] <= CASES_AT_LEAST
            (first if is_wanted and self._tests.durations_s[test] <= SLOW_S else rest).append(test)
        left_s = self._budget_s - self.duration_s(first)
        for test in rest:
            left_s -= self._tests.durations_s[test]
            if left_s >= 0.0 or not first:
                first.append(test)
        return tuple(first)


@lru_cache(maxsize=64)
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _outward(mutant: Mutant) -> list[ast.stmt]:
    """Return the statements around a mutant's first line, the innermost first."""
    around = [
        node
        for node in ast.walk(_parsed(mutant.source))
        if isinstance(node, ast.stmt) and node.lineno <= mutant.first_line <= (node.end_lineno or node.lineno)
    ]
    return sorted(around, key=lambda node: (-node.lineno, node.end_lineno or 0))


def _own_lines(statement: ast.stmt) -> range:
    """Return a statement's lines, of a function those of its body, and of another compound one those before it."""
    body = getattr(statement, "body", None)
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return range(statement.body[0].lineno, (statement.end_lineno or statement.lineno) + 1)
    last = body[0].lineno - 1 if body else statement.end_lineno or statement.lineno
    return range(statement.lineno, max(statement.lineno, last) + 1)
