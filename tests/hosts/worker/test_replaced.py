"""The package is replaced or removed while its worker runs: it goes on with what it began with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import flux2_tool
from flux2_tool.sandbox import SandboxOptions, running_sandbox
from tests.support.keys import KEY
from tests.support.waiting import wait_until
from tests.support.worker_process import COMMAND, WorkerProcess, running_worker

PACKAGE = Path(flux2_tool.__file__).parent


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """An installation of the test's own."""
    folder = tmp_path / "installed"
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE.parent / "openclaw_plugin.yaml", folder)
    return folder


@pytest.fixture
def worker(tmp_path: Path, installed: Path) -> Iterator[WorkerProcess]:
    """A worker of that installation, which has had time to load what it may need."""
    command = (COMMAND[0], "-P", *COMMAND[1:])
    # A copy is none of the lines that are counted.
    variables = {"PYTHONPATH": str(installed), "COVERAGE_PROCESS_CONFIG": ""}
    with running_worker(tmp_path / "home", command=command, **variables) as running:
        assert running.is_alive()
        wait_until(lambda: "what later calls need is loaded" in running.stderr)
        yield running


def test_an_upgrade_in_mid_call_costs_no_picture(worker: WorkerProcess, installed: Path, tmp_path: Path) -> None:
    """A module that is first loaded now is missing, or of another version: the picture may be paid by then."""
    shutil.rmtree(installed / PACKAGE.name)
    with running_sandbox(SandboxOptions(speed=20.0, drawn_images=False)) as (base_url, _):
        account = {"api_key": KEY, "base_url": base_url}
        caller = {**account, "session": "s", "workspace_dir": str(tmp_path), "output_dir": str(tmp_path / "saved")}
        made = worker.call({"prompt": "a fox"}, **caller)
        again = worker.call({"prompt": "at night", "source_image_urls": ["task:last"]}, tool="remix_image", **caller)
        refused = worker.call({"prompt": "a fox", "count": 4, "model": "flux-3"}, **caller)
        recent = worker.call({}, tool="get_image_task", **caller)
        overview = worker.result(worker.request("overview", {**caller, "is_operator": True}))
        balance = worker.result(worker.request("account", account))

    assert made["task"]["state"] == "completed"
    assert made["images"][0]["path"]
    assert again["task"]["state"] == "completed"
    assert refused["error"]["code"] == "invalid_arguments"
    assert len(recent["recent"]) == 2
    assert "Images of this conversation" in overview["text"]
    assert balance["service"]["status"] == 200
    assert "defect" not in worker.stderr
