"""Random mutants: every small change that these operators can make to a module.

The positions of the syntax tree say which text is replaced, so the rest of a file stays as it is. Left out is what
changes nothing that anybody relies on: docstrings, annotations, decorators, log lines, the wording of messages,
`__repr__` and `__str__`, and lines that are marked as unreachable.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from tests.mutations.mutant import Mutant

_COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}
_CALLS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
# In SQL, which is text to Python. The first one of a text that occurs is replaced.
_SQL: Final = ((" AND ", " OR "), ("IS NOT NULL", "IS NULL"), ("!=", "="), (">=", ">"), (" = ?", " != ?"))
# Of an exception's arguments, those that decide something; the rest is wording.
_DECIDING: Final = frozenset({"charged", "retryable", "task_id", "conflict"})
_SPOKEN: Final = frozenset({"__repr__", "__str__"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A replacement of some text.

    Attributes:
        operator: What kind of change it is.
        where: The function or class it is in, by its qualified name; empty for the module.
        start: Where the text begins, in bytes.
        end: Where it ends.
        replacement: The new text.
        first_line: The text's first line.
        last_line: Its last one.
    """

    operator: str
    where: str
    start: int
    end: int
    replacement: str
    first_line: int
    last_line: int


def mutants_of(path: str, source: str, area: str) -> Iterator[tuple[str, Mutant]]:
    """Yield all mutants of a module, each with an identity that does not depend on the lines around it."""
    data = source.encode("utf-8")
    seen: Counter[str] = Counter()
    for change in _changes_of(source):
        original = data[change.start : change.end].decode("utf-8")
        identity = f"{path} {change.where} {change.operator} {original!r} -> {change.replacement!r}"
        seen[identity] += 1
        mutated = (data[: change.start] + change.replacement.encode("utf-8") + data[change.end :]).decode("utf-8")
        mutant = Mutant(
            area=area,
            name=f"{change.where or 'module'}: {change.operator}",
            path=path,
            first_line=change.first_line,
            last_line=change.last_line,
            source=source,
            mutated=mutated,
        )
        yield f"{identity} #{seen[identity]}", mutant


def rank(identity: str, seed: int) -> str:
    """Return what a seeded choice sorts by: other mutants that come or go do not change the order of the rest."""
    return hashlib.sha256(f"{seed} {identity}".encode()).hexdigest()


@cache
def _changes_of(source: str) -> tuple[Change, ...]:
    return tuple(_Finder(source).changes)


class _Finder(ast.NodeVisitor):
    """Collects the changes of one module."""

    def __init__(self, source: str) -> None:
        self.changes: list[Change] = []
        self._lines = source.splitlines()
        self._starts = [0]
        for line in source.encode("utf-8").split(b"\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._names: list[str] = []
        self.visit(ast.parse(source))

    # ---- what is left out --------------------------------------------------------------------------------------------

    def visit(self, node: ast.AST) -> None:
        line = getattr(node, "lineno", None)
        if line is not None and isinstance(node, ast.stmt) and "pragma: no cover" in self._lines[line - 1]:
            return
        super().visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name in _SPOKEN:
            return
        self._names.append(node.name)
        for default in (*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)):
            self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self._names.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - named by ast

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._names.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self._names.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._remove_assignment(node, [node.target])
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Wording; before Python 3.12 the positions inside are wrong, too."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """For the type checker."""

    def visit_Import(self, node: ast.Import) -> None:
        """Nothing to change."""

    # ---- statements --------------------------------------------------------------------------------------------------

    def visit_Expr(self, node: ast.Expr) -> None:
        value = node.value
        if isinstance(value, ast.Constant) or _is_log_line(value):
            return
        if isinstance(value, ast.Call | ast.Await):
            self._replace(node, "pass", "statement removed")
        self.visit(value)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._remove_assignment(node, node.targets)
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._replace(node, "pass", "statement removed")
        other = _ARITHMETIC.get(type(node.op))
        if other is not None:
            changed = copy.copy(node)
            changed.op = other()
            self._replace(node, ast.unparse(changed), "arithmetic")
        self.visit(node.value)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._replace(node, "pass", "statement removed")

    def visit_Raise(self, node: ast.Raise) -> None:
        self._replace(node, "pass", "raise removed")
        if node.exc is not None:
            self.visit(node.exc)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            if not (isinstance(node.value, ast.Constant) and node.value.value is None):
                self._replace(node.value, "None", "None returned")
            self.visit(node.value)

    def visit_Break(self, node: ast.Break) -> None:
        self._replace(node, "continue", "break and continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace(node, "break", "break and continue")

    def visit_If(self, node: ast.If) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        if not isinstance(node.test, ast.Constant):
            self._negate(node.test)
            self.visit(node.test)
        for statement in (*node.body, *node.orelse):
            self.visit(statement)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._negate(test)
        self.visit(node.iter)
        for test in node.ifs:
            self.visit(test)

    # ---- expressions -------------------------------------------------------------------------------------------------

    def visit_Compare(self, node: ast.Compare) -> None:
        for index, operator in enumerate(node.ops):
            changed = copy.copy(node)
            changed.ops = [*node.ops[:index], _COMPARISONS[type(operator)](), *node.ops[index + 1 :]]
            self._replace(node, f"({ast.unparse(changed)})", "comparison")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        changed = copy.copy(node)
        changed.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._replace(node, f"({ast.unparse(changed)})", "and, or")
        for index in range(len(node.values)):
            changed = copy.copy(node)
            changed.values = [*node.values[:index], *node.values[index + 1 :]]
            rest = changed if len(changed.values) > 1 else changed.values[0]
            self._replace(node, f"({ast.unparse(rest)})", "operand dropped")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._replace(node, f"({ast.unparse(node.operand)})", "not dropped")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = _ARITHMETIC.get(type(node.op))
        is_text = any(
            isinstance(side, ast.JoinedStr | ast.Constant) and _is_text(side) for side in (node.left, node.right)
        )
        if other is not None and not is_text:
            changed = copy.copy(node)
            changed.op = other()
            self._replace(node, f"({ast.unparse(changed)})", "arithmetic")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace(node, str(not value), "constant")
        elif isinstance(value, int | float):
            self._replace(node, repr(value + 1), "constant")
        elif isinstance(value, str) and any(word in value for word in ("SELECT ", "UPDATE ", " = ?", "state IN")):
            for old, new in _SQL:
                if old in value:
                    self._replace(node, repr(value.replace(old, new, 1)), "SQL")

    def visit_Call(self, node: ast.Call) -> None:
        if _is_log_line(node):
            return
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in _CALLS and isinstance(node.func, ast.Name):
            self._replace(node.func, _CALLS[name], "other function")
        is_error = name.endswith("Error")
        for keyword in node.keywords:
            if keyword.arg is not None and (not is_error or keyword.arg in _DECIDING):
                changed = copy.copy(node)
                changed.keywords = [one for one in node.keywords if one is not keyword]
                self._replace(node, ast.unparse(changed), "argument dropped")
                self.visit(keyword.value)
        if not is_error:
            self.visit(node.func)
            for argument in node.args:
                self.visit(argument)

    # ---- changes -----------------------------------------------------------------------------------------------------

    def _negate(self, test: ast.expr) -> None:
        self._replace(test, f"(not ({ast.unparse(test)}))", "condition negated")

    def _remove_assignment(self, node: ast.Assign | ast.AnnAssign, targets: list[ast.expr]) -> None:
        # Without a local name the next line fails, whatever it is about.
        if self._names and not any(isinstance(target, ast.Name | ast.Tuple) for target in targets):
            self._replace(node, "pass", "statement removed")

    def _replace(self, node: ast.expr | ast.stmt, replacement: str, operator: str) -> None:
        last = node.end_lineno or node.lineno
        # The lines after it keep their numbers, so that only one function's code changes.
        blank = "\n" * (last - node.lineno)
        if blank:
            replacement = f"({replacement}{blank})" if isinstance(node, ast.expr) else replacement + blank
        self.changes.append(
            Change(
                operator=operator,
                where=".".join(self._names),
                start=self._starts[node.lineno - 1] + node.col_offset,
                end=self._starts[last - 1] + (node.end_col_offset or 0),
                replacement=replacement,
                first_line=node.lineno,
                last_line=last,
            )
        )


def _is_log_line(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "logger"
    )


def _is_text(node: ast.JoinedStr | ast.Constant) -> bool:
    return isinstance(node, ast.JoinedStr) or isinstance(node.value, str | bytes)
