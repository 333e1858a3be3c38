"""Which tests can send a request at all, so that a run over real sockets repeats those and no others.

Read from the code: a test reaches the network if it, its fixtures or what they use of `tests` names `network_of`. That
may find too many and must not find too few, which `network.py` checks whenever a test does send one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import pytest

from tests.support.network import network_of
from tests.support.readme import ROOT

_OURS: Final = ROOT / "tests"
_NAMED: dict[int, tuple[Any, bool]] = {}


def reaches_network(item: pytest.Item) -> bool:
    """Return whether a test can send a request."""
    if not isinstance(item, pytest.Function):
        return True
    given = getattr(item.obj, "hypothesis", None)  # Hypothesis wraps what it gives examples to
    fixtures = [one.func for found in item._fixtureinfo.name2fixturedefs.values() for one in found]
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return any(_reaches(part) for part in (getattr(given, "inner_test", item.obj), *fixtures, *_parts(values)))


def _reaches(start: Any) -> bool:
    """Return whether a part of the tests names `network_of`, itself or by what it uses."""
    if id(start) in _NAMED:
        return _NAMED[id(start)][1]
    seen, todo, found = set[int](), [start], False
    while todo and not found:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        found = part is network_of
        todo += _used_by(part)
    _NAMED[id(start)] = (start, found)  # holds the part, so that no other gets its number
    return found


def _used_by(part: Any) -> list[Any]:
    """Return the functions, classes and values of `tests` that a part uses."""
    part = getattr(part, "__func__", part)
    part = getattr(part, "__wrapped__", part)
    if isinstance(part, property):
        return [part.fget]
    if isinstance(part, FunctionType):
        cells = [cell.cell_contents for cell in part.__closure__ or () if cell != type(cell)()]
        used = [part.__globals__[name] for name in _names(part.__code__) if name in part.__globals__]
        modules = [sys.modules[name] for name in _names(part.__code__) if name in sys.modules]
        attributes = [
            getattr(module, name)
            for module in (*used, *modules)
            if isinstance(module, ModuleType) and _is_ours(module.__name__)
            for name in _names(part.__code__)
            if hasattr(module, name)
        ]
        return list(_parts([*cells, *used, *attributes, *(part.__defaults__ or ())]))
    if isinstance(part, type):
        return list(_parts([*vars(part).values(), *part.__bases__]))
    return [type(part)]


def _parts(values: Iterable[Any]) -> Iterator[Any]:
    """Return what is of `tests` among values, and in tables of them."""
    for value in values:
        plain = getattr(value, "__func__", value)
        if isinstance(value, (list, tuple, set, frozenset)):
            yield from _parts(value)
        elif isinstance(value, Mapping):
            yield from _parts(value.values())
        elif isinstance(plain, (FunctionType, type, property)):
            if isinstance(plain, property) or _is_ours(plain.__module__):
                yield plain
        elif _is_ours(type(value).__module__):
            yield value


@cache
def _is_ours(module: str) -> bool:
    """Return whether a module is in `tests`; pytest imports test files under shorter names than others do."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and Path(file).is_relative_to(_OURS)


@cache
def _names(code: CodeType) -> frozenset[str]:
    """Return the names that code uses, with those of the functions in it."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(code.co_names).union(*inner)
