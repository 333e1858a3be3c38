"""Import the test modules of a run with several workers, each worker a share of them first.

Pytest rewrites the asserts of a module when it is first imported, and keeps the result beside it. In a new checkout
each worker would rewrite every module, all in the same order at the same time; so, each rewrites some and reads the
others.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

import pytest


def import_share(config: pytest.Config) -> None:
    """Import this worker's share of the modules that the run collects."""
    worker = getattr(config, "workerinput", None)  # of pytest-xdist
    if worker is None:
        return
    number, workers = int(worker["workerid"].removeprefix("gw")), int(worker["workercount"])
    for module in sorted(_modules(config))[number::workers]:
        # What cannot be imported is reported, or skipped, when it is collected.
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(module)


def _modules(config: pytest.Config) -> Iterator[str]:
    for argument in config.args:
        for path in (config.invocation_params.dir / argument).rglob("test_*.py"):
            yield ".".join(path.relative_to(config.rootpath).with_suffix("").parts)
