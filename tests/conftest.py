"""What most tests begin with: an empty data folder, and the sandbox in process."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest

from tests.support import network, reaching, shared_imports, stores
from tests.support.harness import SandboxTransport

# Where PYTHONDONTWRITEBYTECODE is set, each of the workers would compile all modules in every run.
sys.dont_write_bytecode = False

REPEATED = ("engine", "journal", "tasks")
"""The folders whose tests run over sockets, too."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--network",
        choices=network.WAYS,
        default="transport",
        help="How requests reach the service: through a transport in process, or over real sockets on loopback.",
    )
    parser.addoption(
        "--journal", choices=stores.STORES, default="sqlite", help="Which store the journal's own tests use."
    )


@pytest.hookimpl(optionalhook=True)  # where pytest-xdist is not installed, or not used
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers for `-n auto`: most tests that take long wait for processes of their own."""
    return 3 * (os.cpu_count() or 1)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "transport_only(reason): skipped with --network=sockets, for the reason given")
    config.addinivalue_line(
        "markers", "sqlite_only(reason): left out with --journal=postgres, because only a file is like that"
    )
    network.choose(config.getoption("--network"))
    stores.choose(config.getoption("--journal"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    shared_imports.import_share(session.config)


def pytest_collection_finish() -> None:
    """Keep what has been imported and collected out of the collector's way, which else looks at all of it each time."""
    _first_property()
    gc.collect()
    gc.freeze()


def _first_property() -> None:
    """Hypothesis asks the collector, at its first property with CI set, who holds its random numbers: none frozen."""
    hypothesis = sys.modules.get("hypothesis")
    if hypothesis is not None:  # else no test collected has any
        hypothesis.settings(max_examples=1, database=None)(
            hypothesis.given(hypothesis.strategies.none())(lambda _: None)
        )()


def pytest_runtest_setup(item: pytest.Item) -> None:
    is_repeated = item.path.parent.name in REPEATED
    network.expect(not is_repeated or reaching.reaches_network(item))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--journal") != "sqlite":
        of_files = [item for item in items if item.get_closest_marker("sqlite_only") is not None]
        config.hook.pytest_deselected(items=of_files)
        items[:] = [item for item in items if item not in of_files]
    if config.getoption("--network") != "sockets":
        return
    silent = [item for item in items if not reaching.reaches_network(item)]
    config.hook.pytest_deselected(items=silent)
    items[:] = [item for item in items if item not in set(silent)]
    for item in items:
        marker = item.get_closest_marker("transport_only")
        if marker is not None:
            item.add_marker(pytest.mark.skip(reason=marker.args[0]))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty data folder."""
    return tmp_path / "home"


@pytest.fixture
def runapi() -> SandboxTransport:
    """The sandbox in process: every picture takes exactly six virtual seconds."""
    return SandboxTransport()
