"""One copy of the tree, in which one mutant after another is run."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.mutations.mutant import Mutant
from tests.mutations.recording import TESTS, copy_tree, environment
from tests.mutations.selection import Selector

# What tests may take at most, in multiples of what they take without a mutant, and in seconds on top.
SLOWNESS: Final = 3.0
SPARE_S: Final = 30.0
# What a process takes at most to import and collect everything.
START_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a mutant.

    Attributes:
        outcome: "failed", "hung", "died" or "not importable" when it was noticed; else "passed", or "untested" when no
            test runs it.
        took_s: How long that took.
        test: The test that failed.
        ran: How many tests were run.
    """

    outcome: str
    took_s: float = 0.0
    test: str = ""
    ran: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


class Workspace:
    """A copy of the tree and the process that runs its tests.

    Args:
        root: The checkout.
        tree: Where the copy is made; whatever is there is replaced.
        selector: Chooses the tests.
    """

    def __init__(self, root: Path, tree: Path, selector: Selector) -> None:
        copy_tree(root, tree)
        self._tree = tree
        self._selector = selector
        self._server = _ServerProcess(tree, [name for name in TESTS if (tree / name).exists()])
        # Before a file is changed, the process must have imported it.
        self._server.wait_until_ready()
        self._sound: dict[str, bool] = {}

    def run(self, mutant: Mutant) -> Result:
        """Return whether a test notices a mutant."""
        tests = self._selector.tests_for(mutant)
        file = self._tree / mutant.path
        took_s = 0.0
        while True:
            tests = tuple(test for test in tests if self._sound.get(test, True))
            if not tests:
                return Result("untested", took_s)
            # Also for the processes that tests start.
            file.write_text(mutant.mutated, encoding="utf-8")
            try:
                answer = self._asked(mutant, tests)
            finally:
                file.write_text(mutant.source, encoding="utf-8")
            took_s += answer["took_s"]
            test = answer.get("test", "")
            if answer["outcome"] != "failed" or test not in tests or self._is_sound(test):
                if test in tests:
                    self._selector.note(mutant.path, test)
                return Result(answer["outcome"], took_s, test, answer.get("ran", 0))

    def close(self) -> None:
        """End the process."""
        self._server.close()

    def _asked(self, mutant: Mutant, tests: tuple[str, ...]) -> dict[str, Any]:
        order = {
            "tests": tests,
            "path": mutant.path,
            "source": mutant.source,
            "mutated": mutant.mutated,
            "limit_s": SPARE_S + SLOWNESS * self._selector.duration_s(tests),
        }
        if not self._selector.is_run_at_import(mutant):
            answer = self._server.ask(order)
            if answer["outcome"] != "reload":
                return answer
        files = sorted({test.partition("::")[0] for test in tests})
        server = _ServerProcess(self._tree, files)
        try:
            server.wait_until_ready()
            return server.ask({**order, "path": None})
        except ServerEndedError:
            return {"outcome": "not importable", "took_s": 0.0}
        finally:
            server.close()

    def _is_sound(self, test: str) -> bool:
        """Return whether a test passes here without a mutant; what else it says proves nothing."""
        if test not in self._sound:
            limit_s = SPARE_S + SLOWNESS * self._selector.duration_s([test])
            order = {"tests": [test], "path": None, "limit_s": limit_s}
            # Twice, because on a busy machine a test may fail once for want of time.
            self._sound[test] = any(self._server.ask(order)["outcome"] == "passed" for _ in range(2))
        return self._sound[test]


class ServerEndedError(Exception):
    """The process has ended: it could not import what it was given."""


class _ServerProcess:
    """`server.py` in a copy of the tree."""

    def __init__(self, tree: Path, tests: list[str]) -> None:
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutations.server", str(orders), str(answers), *tests],
            cwd=tree,
            env=environment(tree),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(orders, answers),
        )
        os.close(orders)
        os.close(answers)
        self._reader = os.fdopen(self._answers, "rb")

    def wait_until_ready(self) -> None:
        """Wait until everything is imported and collected.

        Raises:
            ServerEndedError: It cannot be.
        """
        self._answer_within(START_S)

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Give an order and return the answer.

        Raises:
            ServerEndedError: There is none.
        """
        try:
            with os.fdopen(self._orders, "wb", closefd=False) as orders:
                orders.write(json.dumps(order).encode() + b"\n")
        except BrokenPipeError:
            raise ServerEndedError from None
        return self._answer_within(order["limit_s"] + START_S)

    def _answer_within(self, limit_s: float) -> dict[str, Any]:
        # What a changed file does when it is imported may never end.
        ready, _, _ = select.select([self._reader], [], [], limit_s)
        line = self._reader.readline() if ready else b""
        if not line:
            raise ServerEndedError
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            os.close(self._orders)
        try:
            self._process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.close()
