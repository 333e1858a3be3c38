"""The worker in process, where what it sends can fail: a defect of one message must not take the others with it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from flux2_tool.hosts.worker.json_rpc import INTERNAL_ERROR
from flux2_tool.hosts.worker.server import Worker
from flux2_tool.schema.manifest import load_manifest
from tests.support.harness import FOX


class Outlet:
    """Takes the worker's lines; the first one fails."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.has_message = asyncio.Event()
        self._has_failed = False

    def __call__(self, line: bytes) -> None:
        if not self._has_failed:
            self._has_failed = True
            raise RuntimeError("a defect while sending")
        self.messages.append(json.loads(line))
        self.has_message.set()


def _request(request_id: int, method: str, params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}).encode()


@pytest.mark.parametrize(
    ("method", "params"),
    [
        pytest.param("initialize", {}, id="in a message"),
        pytest.param("call", {"tool": "text_to_image", "arguments": FOX}, id="in a call"),
    ],
)
def test_a_defect_is_answered_and_the_next_message_is_handled(tmp_path: Path, method: str, params: Any) -> None:
    """A request without an answer would hang its agent until the host gives up."""
    outlet = Outlet()

    async def main() -> None:
        environ = {"HOME": str(tmp_path), "FLUX2_TOOL_HOME": str(tmp_path / "data")}
        worker = Worker(outlet, environ=environ)
        await worker.receive(_request(1, method, params))
        await outlet.has_message.wait()
        await worker.receive(_request(2, "initialize", {}))
        await worker.stop(delivered=False)

    asyncio.run(main())

    fault, answer = outlet.messages
    assert (fault["id"], fault["error"]["code"]) == (1, INTERNAL_ERROR)
    assert "RuntimeError" in fault["error"]["message"]
    assert (answer["id"], answer["result"]["version"]) == (2, load_manifest().version)
