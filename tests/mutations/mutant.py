"""One change of one source file, and how it is applied."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path


class MutantError(ValueError):
    """A change that does not fit the source: its text is not there, or there more than once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A chosen change, named after the behaviour that it breaks.

    Attributes:
        name: What goes wrong, in a few words; unique.
        path: The file, from the root of the checkout.
        original: Text that occurs once in the file.
        replacement: What stands in its place.
    """

    name: str
    path: str
    original: str
    replacement: str

    def mutant(self, root: Path, area: str) -> Mutant:
        """Return the change of the file as it is.

        Raises:
            MutantError: The text does not occur once, or what results is no Python.
        """
        source = (root / self.path).read_text(encoding="utf-8")
        count = source.count(self.original)
        if count != 1:
            raise MutantError(f"{self.name}: the text occurs {count} times in {self.path}:\n{self.original}")
        mutated = source.replace(self.original, self.replacement)
        try:
            compile(mutated, self.path, "exec", dont_inherit=True)
        except SyntaxError as exc:
            raise MutantError(f"{self.name}: no Python results: {exc}") from exc
        first, last = _changed_lines(source, mutated)
        return Mutant(
            area=area, name=self.name, path=self.path, first_line=first, last_line=last, source=source, mutated=mutated
        )


def edits(path: str, *changes: tuple[str, str, str]) -> tuple[Edit, ...]:
    """Return changes of one file: of each the name, the original and the replacement."""
    return tuple(Edit(name=name, path=path, original=old, replacement=new) for name, old, new in changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A changed file.

    Attributes:
        area: What it belongs to in the report: money, isolation, keys or lower.
        name: What was changed.
        path: The file, from the root of the checkout.
        first_line: The first line of the original that differs.
        last_line: The last one.
        source: The file's text.
        mutated: The text that replaces it.
    """

    area: str
    name: str
    path: str
    first_line: int
    last_line: int
    source: str
    mutated: str

    @property
    def key(self) -> str:
        """A short name that is the same as long as the file and the change are."""
        return hashlib.sha256(f"{self.path}\0{self.source}\0{self.mutated}".encode()).hexdigest()[:12]

    def diff(self) -> str:
        """Return the change as a unified diff."""
        return "".join(
            difflib.unified_diff(
                self.source.splitlines(keepends=True),
                self.mutated.splitlines(keepends=True),
                self.path,
                self.path,
                n=2,
            )
        )


def _changed_lines(source: str, mutated: str) -> tuple[int, int]:
    """Return the first and the last line of the original that a change touches."""
    before, after = source.splitlines(), mutated.splitlines()
    first = next((at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), len(after))
    same = 0
    while same < min(len(before), len(after)) - first and before[-1 - same] == after[-1 - same]:
        same += 1
    return first + 1, max(first + 1, len(before) - same)
