"""The worker's `overview`: what the chat command /flux2 answers, and whose images it shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.support.harness import FOX
from tests.support.keys import KEY
from tests.support.worker_process import WorkerProcess, running_worker


@pytest.fixture(scope="module")
def runapi_server() -> Iterator[tuple[str, Sandbox]]:
    with running_sandbox(SandboxOptions(speed=20.0, drawn_images=False, seed=5)) as running:
        yield running


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """OpenClaw's state folder."""
    return tmp_path / "state"


@pytest.fixture
def worker(tmp_path: Path, state: Path) -> Iterator[WorkerProcess]:
    """A gateway's worker, which no setting tells where its data is."""
    with running_worker(tmp_path, FLUX2_TOOL_HOME="", OPENCLAW_STATE_DIR=str(state)) as running:
        running.result(running.request("initialize", {"host": "native", "config": {"session_cap_usd": 1}}))
        yield running


def of(runapi_server: tuple[str, Sandbox], session_key: str, **params: Any) -> dict[str, Any]:
    """Return the params of one conversation."""
    session = {"agent_id": "main", "session_key": session_key}
    return {"api_key": KEY, "base_url": runapi_server[0], "session": session, **params}


def overview(worker: WorkerProcess, params: dict[str, Any]) -> str:
    """Return the answer's text."""
    return str(worker.result(worker.request("overview", params))["text"])


def test_a_conversation_sees_its_own_images_and_what_all_have_spent(
    worker: WorkerProcess, runapi_server: tuple[str, Sandbox], state: Path
) -> None:
    """Another group's images are not its own; the cap of the day is everybody's. The journal is OpenClaw's."""
    made = worker.call(FOX, **of(runapi_server, "group-a"))
    worker.call({"prompt": "a boat"}, **of(runapi_server, "group-b"))

    seen = overview(worker, of(runapi_server, "group-a"))

    assert made["task"]["ref"] in seen
    assert "boat" not in seen
    assert "Today: 0.10 USD spent of 5.00 USD" in seen
    assert "This conversation: 0.05 USD spent of 1.00 USD" in seen
    assert "\n\nToday: " in seen  # as Markdown it would stand in the list's last point
    assert "Balance" not in seen
    assert (state / "flux2-tool" / "journal.db").is_file()


def test_a_conversation_sees_what_its_subagents_made(worker: WorkerProcess, runapi_server: tuple[str, Sandbox]) -> None:
    """They are its to fetch, and a subagent that was stopped has told nobody of them."""
    parent = of(runapi_server, "group-a")
    made = worker.call(FOX, **of(runapi_server, "subagent"), ancestors=[parent["session"]], handed_over=True)

    seen, elsewhere = (overview(worker, of(runapi_server, name)) for name in ("group-a", "group-b"))

    assert "by a subagent: completed" in seen
    assert made["task"]["ref"] in seen
    assert made["task"]["ref"] not in elsewhere


def test_the_operator_reads_the_balance(worker: WorkerProcess, runapi_server: tuple[str, Sandbox]) -> None:
    """Of the gateway's own account."""
    seen = overview(worker, of(runapi_server, "web", is_operator=True))

    assert "No images in this conversation yet." in seen
    assert "Balance: " in seen
    assert "USD" in seen.partition("Balance: ")[2]


def test_an_account_that_is_missing_or_refused_is_said(
    worker: WorkerProcess, runapi_server: tuple[str, Sandbox]
) -> None:
    """The command is also what people type when something does not work."""
    missing = overview(worker, {**of(runapi_server, "web"), "api_key": None})
    unreachable = overview(worker, {**of(runapi_server, "web", is_operator=True), "base_url": "http://127.0.0.1:9"})

    assert "RUNAPI_API_KEY" in missing
    assert "Balance: RunAPI could not be reached" in unreachable


def test_params_of_another_type_are_a_protocol_fault(worker: WorkerProcess, runapi_server: tuple[str, Sandbox]) -> None:
    """As for every method; the worker goes on."""
    found = worker.answer(worker.request("overview", {"api_key": 7}))

    assert "api_key" in found["error"]["message"]
    assert "Today" in overview(worker, of(runapi_server, "web"))
