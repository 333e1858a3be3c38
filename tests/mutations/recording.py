"""Record once, for a state of the tree, how long each test takes and which lines of the package it runs.

The tests run in a copy of the tree. What runs outside them, at import, has the empty context of coverage.py; what runs
in other processes is not seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coverage import CoverageData

# Whole calls on virtual time, and parts: what runs in the tests' own process. The other folders start processes, and
# the lines that these run are not seen.
TESTS: Final = (
    "tests/schema",
    "tests/images",
    "tests/runapi",
    "tests/journal",
    "tests/tasks",
    "tests/engine",
    "tests/hosts/python",
    "tests/test_context.py",
    "tests/test_credentials.py",
    "tests/test_net.py",
    "tests/test_redaction.py",
    "tests/test_settings.py",
)
_COPIED: Final = ("flux2_tool", "tests", "docs", ".ci", "benchmarks")
_DURATIONS: Final = "FLUX2_TEST_DURATIONS"


@dataclass(frozen=True, slots=True)
class TestMap:
    """Which tests run a line.

    Attributes:
        durations_s: How long each test takes, by its id.
        lines: By file and line, the ids of the tests; "" stands for the import.
    """

    __test__ = False

    durations_s: dict[str, float]
    lines: dict[str, dict[int, frozenset[str]]]


@dataclass(frozen=True, slots=True)
class TreeState:
    """What the tests' results depend on.

    Attributes:
        base: Stands for the package, for what the tests share, and for the version of Python.
        test_files: By name, what stands for the content of each file of tests.
    """

    base: str
    test_files: dict[str, str]

    @classmethod
    def of(cls, root: Path) -> TreeState:
        """Return the state of a checkout."""
        base = hashlib.sha256(sys.version.encode())
        test_files = {}
        files = [root / "pyproject.toml", root / "openclaw_plugin.yaml"]
        for folder in ("flux2_tool", "tests"):
            files += sorted(path for path in (root / folder).rglob("*") if path.suffix in (".py", ".yaml", ".js"))
        for path in files:
            name, data = path.relative_to(root).as_posix(), path.read_bytes()
            if name.startswith(TESTS) and path.name.startswith("test_"):
                test_files[name] = hashlib.sha256(data).hexdigest()[:16]
            # This package decides which mutants there are, and not what the tests say of one.
            elif not name.startswith("tests/mutations/"):
                base.update(f"{name}\0".encode() + data + b"\0")
        return cls(base.hexdigest()[:16], test_files)


def copy_tree(root: Path, target: Path) -> None:
    """Copy what the tests need, without anything that they or version control leave behind."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in _COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path in root.iterdir():
        if path.is_file() and path.name not in (".git", ".coverage"):
            shutil.copy2(path, target / path.name)


def environment(tree: Path) -> dict[str, str]:
    """Return the environment for a process that runs the tests of a copy."""
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


def recorded(root: Path, work: Path, *, jobs: int) -> TestMap:
    """Return the map of the tree as it is; record what was not recorded before.

    Raises:
        RuntimeError: The tests could not be run.
    """
    state = TreeState.of(root)
    file = work / f"map-{state.base}.json"
    known: dict[str, Any] = {"files": {}, "tests": [], "durations_s": [], "lines": {}}
    if file.exists():
        known = json.loads(file.read_text(encoding="utf-8"))
    new = sorted(name for name, content in state.test_files.items() if known["files"].get(name) != content)
    if new:
        tree = work / "recorded"
        copy_tree(root, tree)
        is_first = not known["files"]
        added = _record(tree, work, jobs, [name for name in TESTS if (tree / name).exists()] if is_first else new)
        known = {"files": state.test_files, **_merged(known, added, is_current=set(state.test_files) - set(new))}
        file.write_text(json.dumps(known), encoding="utf-8")
    names: list[str] = known["tests"]
    is_there = [name.partition("::")[0] in state.test_files for name in names]
    return TestMap(
        durations_s=dict(zip(names, known["durations_s"], strict=True)),
        lines={
            path: {
                int(line): frozenset("" if at < 0 else names[at] for at in tests if at < 0 or is_there[at])
                for line, tests in lines.items()
            }
            for path, lines in known["lines"].items()
        },
    )


def _merged(known: dict[str, Any], added: dict[str, Any], *, is_current: set[str]) -> dict[str, Any]:
    """Return two recordings as one; of the first only what is of files that are current."""
    tests: list[str] = []
    durations_s: list[float] = []
    lines: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for recording, is_kept in ((known, is_current.__contains__), (added, lambda _: True)):
        index = {-1: -1}
        for at, (name, took_s) in enumerate(zip(recording["tests"], recording["durations_s"], strict=True)):
            if is_kept(name.partition("::")[0]):
                index[at] = len(tests)
                tests.append(name)
                durations_s.append(took_s)
        for path, of_file in recording["lines"].items():
            for line, found in of_file.items():
                lines[path][str(line)] += [index[at] for at in found if at in index]
    return {"tests": tests, "durations_s": durations_s, "lines": lines}


def _record(tree: Path, work: Path, jobs: int, tests: list[str]) -> dict[str, Any]:
    config, data, durations = work / "coverage.ini", work / "coverage.data", work / "durations.json"
    config.write_text("[run]\nsource_pkgs = flux2_tool\n", encoding="utf-8")
    data.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(jobs), "-p", "no:cacheprovider"]
    command += ["-p", "tests.mutations.recording", "--cov", f"--cov-config={config}", "--cov-context=test"]
    command += ["--cov-report=", *tests]
    ran = subprocess.run(
        command,
        cwd=tree,
        env={**environment(tree), "COVERAGE_FILE": str(data), _DURATIONS: str(durations)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ran.returncode not in (0, 1):
        raise RuntimeError(f"the tests could not be run:\n{ran.stdout[-3000:]}")
    for line in ran.stdout.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            print(f"left out, because it fails without any change: {line}", file=sys.stderr, flush=True)
    took_s: dict[str, float] = json.loads(durations.read_text(encoding="utf-8"))
    names = list(took_s)
    index = {name: at for at, name in enumerate(names)}
    lines: dict[str, dict[int, list[int]]] = {}
    coverage = CoverageData(str(data))
    coverage.read()
    for measured in coverage.measured_files():
        of_file: dict[int, list[int]] = {}
        for line, contexts in coverage.contexts_by_lineno(measured).items():
            tests = {context.rpartition("|")[0] for context in contexts}
            # A test that failed without any mutant is not in `took_s`.
            of_file[line] = sorted({-1 if not one else index[one] for one in tests if not one or one in index})
        lines[Path(measured).relative_to(tree).as_posix()] = of_file
    return {"tests": names, "durations_s": list(took_s.values()), "lines": lines}


# ---- as a plugin of pytest, in the process that collects the reports ----------------------------------------------

_took_s: defaultdict[str, float] = defaultdict(float)
_failed: set[str] = set()


def pytest_runtest_logreport(report: Any) -> None:
    _took_s[report.nodeid] += report.duration
    if not report.passed:
        _failed.add(report.nodeid)


def pytest_sessionfinish(session: Any) -> None:
    if _DURATIONS in os.environ and not hasattr(session.config, "workerinput"):
        passed = {name: took_s for name, took_s in _took_s.items() if name not in _failed}
        Path(os.environ[_DURATIONS]).write_text(json.dumps(passed), encoding="utf-8")
