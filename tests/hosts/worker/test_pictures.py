"""A worker whose picture is still being decoded: it answers, it ends with its host, and so does the decoding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.keys import KEY
from tests.support.processes import decoding, is_running, scan_bomb
from tests.support.waiting import PATIENCE_S, wait_until
from tests.support.worker_process import COMMAND, WorkerProcess, running_worker


def _closed(worker: WorkerProcess) -> None:
    worker.end()


def _killed(worker: WorkerProcess) -> None:
    worker.process.kill()
    worker.process.wait(PATIENCE_S)


@pytest.mark.parametrize("ended", [_closed, _killed], ids=["its input is closed", "it is killed"])
def test_no_picture_outlives_the_worker(home: Path, ended: Callable[[WorkerProcess], None]) -> None:
    """A gateway that restarts must not leave processes behind that use its processors."""
    with running_worker(home, COMMAND) as worker:
        (home / "bomb.jpg").write_bytes(scan_bomb())
        worker.begin(
            {"prompt": "x", "source_image_urls": ["bomb.jpg"]},
            tool="remix_image",
            api_key=KEY,
            base_url="http://127.0.0.1:9",
            workspace_dir=str(home),
        )
        wait_until(lambda: len(decoding(worker.process.pid)) >= 2)
        children = decoding(worker.process.pid)

        ended(worker)

        wait_until(lambda: not any(is_running(pid) for pid in children))


def test_a_call_answers_when_its_wait_ends_whatever_is_decoded(home: Path) -> None:
    """The picture is given up with the call, and the worker goes on."""
    with running_worker(home, COMMAND) as worker:
        (home / "bomb.jpg").write_bytes(scan_bomb())
        result = worker.call(
            {"prompt": "x", "source_image_urls": ["bomb.jpg"]},
            tool="remix_image",
            api_key=KEY,
            base_url="http://127.0.0.1:9",
            workspace_dir=str(home),
            wait_s=0,
        )

        assert result["error"]["code"] == "service_unavailable"
        assert "the source pictures were not ready" in result["error"]["message"]
        assert result["error"]["charged"] == "no"
        wait_until(lambda: len(decoding(worker.process.pid)) == 0)
        assert worker.is_alive()
