"""The worker's `question`: what the plugin has to ask a person before a call, and the consent that comes with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.hosts.worker.json_rpc import INVALID_PARAMS
from flux2_tool.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.support.harness import FOX
from tests.support.keys import KEY
from tests.support.worker_process import WorkerProcess, running_worker

FLEX = {**FOX, "model": "flux-2-flex-text-to-image"}


@pytest.fixture(scope="module")
def runapi_server() -> Iterator[tuple[str, Sandbox]]:
    """The sandbox over real sockets, twenty times as fast as life."""
    with running_sandbox(SandboxOptions(speed=20.0, drawn_images=False, seed=5)) as running:
        yield running


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker whose operator wants to be asked above ten cents."""
    with running_worker(tmp_path) as running:
        running.result(running.request("initialize", {"host": "native", "config": {"ask_above_usd": 0.10}}))
        yield running


@pytest.fixture
def account(runapi_server: tuple[str, Sandbox]) -> dict[str, Any]:
    """What travels with each call."""
    return {"api_key": KEY, "base_url": runapi_server[0], "session": {"agent_id": "main", "session_key": "s"}}


def question(worker: WorkerProcess, arguments: Any, **params: Any) -> Any:
    """Return the answer to `question`."""
    asked = {"tool": "text_to_image", "arguments": arguments, **params}
    return worker.result(worker.request("question", asked))["question"]


def test_the_consent_that_a_question_brings_makes_the_call_pass(
    worker: WorkerProcess, account: dict[str, Any], runapi_server: tuple[str, Sandbox]
) -> None:
    """As the plugin does it: ask, have it approved, pass what the question brought, and pay once."""
    found = question(worker, FLEX, **account)
    refused = worker.call(FLEX, **account)
    result = worker.call(FLEX, approval=found["approval"], **account)

    assert set(found) == {"title", "text", "amount", "currency", "approval"}
    assert (found["amount"], found["currency"], found["approval"]["usd"]) == ("0.14", "USD", 0.14)
    assert "ask_above_usd" in refused["error"]["message"]
    assert refused["error"]["code"] == "not_approved"
    assert result["task"]["state"] == "completed"
    assert len(runapi_server[1].ledger.billed_tasks) == 1


@pytest.mark.parametrize(
    ("arguments", "params"),
    [
        pytest.param(FOX, {}, id="cheap"),
        pytest.param({**FLEX, "aspect_ratio": "2:1"}, {}, id="invalid"),
        pytest.param("no object", {}, id="no arguments"),
        pytest.param(FLEX, {"api_key": None}, id="no key"),
        pytest.param({"task_id": "tsk_1"}, {"tool": "get_image_task"}, id="free"),
        pytest.param(FLEX, {"tool": "no_such_tool"}, id="no such tool"),
    ],
)
def test_a_call_that_makes_no_new_image_has_no_question(
    worker: WorkerProcess, account: dict[str, Any], arguments: Any, params: dict[str, Any]
) -> None:
    """The call itself says what is wrong with it."""
    assert question(worker, arguments, **{**account, **params}) is None


def test_wrong_settings_have_no_question(tmp_path: Path, account: dict[str, Any]) -> None:
    """Nor do they harm the worker: the call reports them."""
    with running_worker(tmp_path) as worker:
        worker.result(worker.request("initialize", {"config": {"ask_above_usd": -1}}))

        assert question(worker, FLEX, **account) is None
        assert worker.call(FLEX, **account)["error"]["code"] == "configuration_error"


@pytest.mark.parametrize(
    "approval",
    [
        pytest.param("yes", id="text"),
        pytest.param({"approval_id": "1", "request_key": "2"}, id="no amount"),
        pytest.param({"approval_id": "1", "request_key": "2", "usd": -1}, id="less than nothing"),
        pytest.param({"approval_id": "1", "request_key": "2", "usd": "0.14"}, id="an amount as text"),
    ],
)
def test_a_consent_of_another_form_is_a_fault(worker: WorkerProcess, account: dict[str, Any], approval: Any) -> None:
    """It was not `question` that made it."""
    answer = worker.answer(worker.begin(FLEX, approval=approval, **account))

    assert answer["error"]["code"] == INVALID_PARAMS
    assert answer["error"]["message"].startswith("approval")


def test_image_generate_is_told_which_tools_can_ask(worker: WorkerProcess, account: dict[str, Any]) -> None:
    """It has no way to ask a person about a single call."""
    error = worker.call(FLEX, unattributed=True, **account)["error"]

    assert error["code"] == "not_approved"
    assert "Call text_to_image or remix_image instead" in error["hint"]
