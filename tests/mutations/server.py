"""Run tests against one mutant after another, in forks of a process that has imported and collected everything.

    python -m tests.mutations.server IN OUT TEST…

reads one JSON object a line from the descriptor IN and answers each with one on OUT. It is started in a copy of the
tree. A function's code is replaced in the fork, which takes milliseconds; where the change is not in a function, the
answer is "reload", and a new process has to import the changed file.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final

import pytest

# A test that takes longer hangs.
TEST_LIMIT_S: Final = 60
_OPTIMIZED: Final = 0x1  # of a code object: that of a function, not of a class or module


class ReloadNeededError(Exception):
    """The change is not in the code of a function that can be replaced."""


class Server:
    """A plugin of pytest: takes the place of its loop over the tests."""

    def __init__(self, orders: int, answers: int) -> None:
        self._orders = os.fdopen(orders, "rb")
        self._answers = answers
        self._functions: defaultdict[tuple[str, CodeType], list[FunctionType]] = defaultdict(list)
        self._caches: list[Any] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        self._find_functions()
        gc.collect()
        gc.freeze()
        os.write(self._answers, b'{"outcome": "ready"}\n')
        for line in self._orders:
            order = json.loads(line)
            answer = self._answer(session, [items[name] for name in order["tests"] if name in items], order)
            os.write(self._answers, json.dumps(answer).encode() + b"\n")
        return True

    def _find_functions(self) -> None:
        package = str(Path.cwd() / "flux2_tool")
        for found in gc.get_objects():
            if isinstance(found, FunctionType) and found.__code__.co_filename.startswith(package):
                self._functions[found.__code__.co_filename, found.__code__].append(found)
            elif isinstance(found, functools._lru_cache_wrapper):
                module = getattr(found, "__module__", "")
                if module.startswith("flux2_tool.") and not module.startswith("flux2_tool.schema."):
                    self._caches.append(found)

    # ---- one mutant --------------------------------------------------------------------------------------------------

    def _answer(self, session: pytest.Session, items: list[pytest.Item], order: dict[str, Any]) -> dict[str, Any]:
        """Run tests in a fork until one fails; end all processes that it leaves."""
        begun_s = time.monotonic()
        reader, writer = os.pipe()
        scratch = tempfile.mkdtemp(prefix="mutant-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)  # noqa: S108
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.close(reader)
            self._run(session, items, order, writer, scratch)
        os.close(writer)
        said, is_late = b"", False
        while True:
            ready, _, _ = select.select([reader], [], [], max(0.0, order["limit_s"] - (time.monotonic() - begun_s)))
            if not ready:
                is_late = True
                break
            data = os.read(reader, 65536)
            if not data:
                break
            said += data
            if said.endswith(b"\n"):
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
        shutil.rmtree(scratch, ignore_errors=True)
        answer = {"outcome": "hung"} if is_late else json.loads(said or b'{"outcome": "died"}')
        return {**answer, "took_s": time.monotonic() - begun_s}

    def _run(
        self, session: pytest.Session, items: list[pytest.Item], order: dict[str, Any], writer: int, scratch: str
    ) -> None:
        try:
            answer = self._outcome(session, items, order, scratch)
        except BaseException as exc:  # noqa: BLE001 - whatever a mutant does
            answer = {"outcome": "failed", "test": f"{type(exc).__name__} outside a test"}
        os.write(writer, json.dumps(answer).encode() + b"\n")
        os._exit(0)

    def _outcome(
        self, session: pytest.Session, items: list[pytest.Item], order: dict[str, Any], scratch: str
    ) -> dict[str, Any]:
        if order["path"] is not None:
            try:
                self._replace_code(str(Path.cwd() / order["path"]), order["source"], order["mutated"])
            except ReloadNeededError:
                return {"outcome": "reload"}
        factory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        factory._given_basetemp, factory._basetemp = Path(scratch) / "pytest", None
        failures: list[str] = []

        class Listener:
            def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
                if report.failed:
                    failures.append(report.nodeid)

        session.config.pluginmanager.register(Listener())
        for at, item in enumerate(items):
            following = items[at + 1] if at + 1 < len(items) else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if failures:
                return {"outcome": "failed", "test": failures[0], "ran": at + 1}
        return {"outcome": "passed", "ran": len(items)}

    # ---- changing code -----------------------------------------------------------------------------------------------

    def _replace_code(self, path: str, source: str, mutated: str) -> None:
        old, new = (compile(text, path, "exec", dont_inherit=True) for text in (source, mutated))
        for before, after in self._changed_functions(old, new):
            functions = self._functions.get((path, before))
            if not functions:
                raise ReloadNeededError
            for function in functions:
                try:
                    function.__code__ = after
                except ValueError:  # other free variables
                    raise ReloadNeededError from None
        for cache in self._caches:
            cache.cache_clear()

    def _changed_functions(self, old: CodeType, new: CodeType) -> list[tuple[CodeType, CodeType]]:
        """Return the functions that differ, of a module's or a class's code."""
        inner = [[one for one in code.co_consts if isinstance(one, CodeType)] for code in (old, new)]
        rest = [[repr(one) for one in code.co_consts if not isinstance(one, CodeType)] for code in (old, new)]
        if old.co_code != new.co_code or old.co_names != new.co_names or rest[0] != rest[1]:
            raise ReloadNeededError
        changed = []
        for before, after in zip(*inner, strict=True):
            if before.co_flags & _OPTIMIZED:
                if before != after:
                    changed.append((before, after))
            else:
                changed += self._changed_functions(before, after)
        return changed


def main() -> int:
    """Serve until the orders end."""
    orders, answers, *tests = sys.argv[1:]
    arguments = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", f"--timeout={TEST_LIMIT_S}", *tests]
    return int(pytest.main(arguments, plugins=[Server(int(orders), int(answers))]))


if __name__ == "__main__":
    sys.exit(main())
