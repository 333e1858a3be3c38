"""This project's client as a gateway runs it: the worker process, with its journal on disk and its own transport."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.client_process import Client, Made
from benchmarks.kinds import Kind
from benchmarks.line_process import LineProcess

# Far above what a run can cost, so that no cap of the operator ends it.
CONFIG = {"daily_cap_usd": 1_000_000}
WAIT_S = 600
CALLS_OF_A_SESSION = 10
_TIME_LEFT = re.compile(r"about (\d+) s left")


class OurClient(Client):
    """Drives `python -m flux2_tool worker` by its protocol."""

    name = "flux2-tool"

    def __init__(self, *, home: Path, api_key: str, base_url: str, config: dict[str, Any] | None = None) -> None:
        command = (sys.executable, "-m", "flux2_tool", "worker")
        environ = {"FLUX2_TOOL_HOME": str(home / "data")}
        process = LineProcess(command, folder=home, environ=environ, on_line=self._heard)
        super().__init__(process, api_key=api_key, base_url=base_url)
        self._config = CONFIG | (config or {})
        self._foretold_s: dict[int, float] = {}

    async def start(self) -> None:
        """Start the worker and make itself known to it."""
        await self._process.start()
        params = {"host": "native", "config": self._config}
        self._process.send({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})

    async def webhook(self, headers: dict[str, str], body: bytes) -> bool:
        """Hand a webhook to the worker, as the gateway's route does; return whether it was accepted."""
        number = next(self._numbers)
        params = {"headers": headers, "body_base64": base64.b64encode(body).decode("ascii")}
        message = {"jsonrpc": "2.0", "id": number, "method": "webhook", "params": params}
        answer = await self._ask(number, message)
        return bool(answer.get("result", {}).get("accepted"))

    async def remix(self, source: str, *, workspace: Path, wait_s: float) -> dict[str, Any]:
        """Remix one source in a conversation of its own and return the result object."""
        number = next(self._numbers)
        params = {
            "tool": "remix_image",
            "arguments": {"prompt": f"change {number}", "source_image_urls": [source]},
            "api_key": self.api_key,
            "base_url": self._base_url,
            "session": f"chat-{number}",
            "is_owner": True,
            "workspace_dir": str(workspace),
            "wait_s": wait_s,
        }
        answer = await self._ask(number, {"jsonrpc": "2.0", "id": number, "method": "call", "params": params})
        result: dict[str, Any] = answer.get("result", answer)
        return result

    def _question(self, number: int, kind: Kind, prompt: str) -> dict[str, Any]:
        params = {
            "tool": "text_to_image",
            "arguments": {"prompt": prompt, "model": kind.model, "output_resolution": kind.resolution},
            "api_key": self.api_key,
            "base_url": self._base_url,
            "session": {"agent_id": "main", "session_key": f"chat-{number // CALLS_OF_A_SESSION}"},
            "sender": "owner",
            "is_owner": True,
            "wait_s": WAIT_S,
        }
        return {"jsonrpc": "2.0", "id": number, "method": "call", "params": params}

    def _made(self, number: int, kind: Kind, answer: dict[str, Any]) -> Made:
        result = answer.get("result", answer)
        foretold_s = self._foretold_s.pop(number, None)
        if "error" in result:
            error = result["error"]
            return Made(kind=kind, task_id=None, failure=f"{error.get('code')}: {error.get('message')}")
        if not result["images"]:
            return Made(kind=kind, task_id=None, failure=f"no picture; its state is {result['task']['state']}")
        return Made(kind=kind, task_id=result["task"]["id"], foretold_s=foretold_s)

    def _heard(self, message: dict[str, Any]) -> None:
        if message.get("method") != "progress":
            self._answered(message.get("id"), message)
            return
        number = message["params"]["id"]
        said = _TIME_LEFT.search(message["params"]["message"])
        if said is not None and number not in self._foretold_s:
            self._foretold_s[number] = float(said[1]) + message["params"]["elapsed_s"]
