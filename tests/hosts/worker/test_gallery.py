"""The worker's part of the gallery in OpenClaw's Control UI: the page in a file, and where a picture's copy is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flux2_tool.images.kept_files import kept_copy
from flux2_tool.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.support.harness import FOX
from tests.support.keys import KEY
from tests.support.pictures import picture
from tests.support.waiting import wait_until
from tests.support.worker_process import WorkerProcess, running_worker


@pytest.fixture
def runapi_server() -> Iterator[tuple[str, Sandbox]]:
    with running_sandbox(SandboxOptions(duration_s=0.0, drawn_images=False, seed=5)) as running:
        yield running


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """OpenClaw's state folder."""
    return tmp_path / "state"


@pytest.fixture
def worker(tmp_path: Path, state: Path) -> Iterator[WorkerProcess]:
    """A gateway's worker, which no setting tells where its data is."""
    with running_worker(tmp_path, FLUX2_TOOL_HOME="", OPENCLAW_STATE_DIR=str(state)) as running:
        running.result(running.request("initialize", {"host": "native", "config": {}}))
        yield running


def test_the_page_leads_to_the_kept_copies(
    worker: WorkerProcess, runapi_server: tuple[str, Sandbox], state: Path, tmp_path: Path
) -> None:
    """A copy is kept without any setting; the page names it by a key and by no path. What is too old goes meanwhile."""
    worker.call(FOX, api_key=KEY, base_url=runapi_server[0])
    folder = state / "flux2-tool" / "pictures"
    [copy] = wait_until(lambda: list(folder.glob("*.png")) if folder.is_dir() else [])
    source = tmp_path / "source.png"
    source.write_bytes(picture())
    old = kept_copy(source, folder, "20200101-120000-a-fox-tsk_1")

    made = Path(worker.result(worker.request("gallery", {}))["path"])
    page = made.read_text()
    key = page.partition('id="p-')[2].partition('"')[0]
    found = wait_until(lambda: worker.result(worker.request("gallery_picture", {"key": key}))["path"])

    assert made.stat().st_mode & 0o777 == 0o600
    assert "a red fox in the snow" in page
    assert "file:" not in page
    assert found == str(copy)
    assert not old.exists()


@pytest.mark.parametrize("key", ["", "x", "../journal.db", "%", "a-0"])
def test_another_key_leads_nowhere(worker: WorkerProcess, key: str) -> None:
    """Whoever asks names pictures of the journal, and never files."""
    assert worker.result(worker.request("gallery_picture", {"key": key})) == {"path": None}


def test_a_key_must_be_text(worker: WorkerProcess) -> None:
    """Anything else is a fault of the protocol."""
    answer = worker.answer(worker.request("gallery_picture", {"key": 7}))

    assert "key" in answer["error"]["message"]
