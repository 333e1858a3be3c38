"""The vendor's SDK in a process of its own: one client, and a thread for each picture that is waited for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.client_process import Client, Made
from benchmarks.kinds import Kind
from benchmarks.line_process import LineProcess


class VendorClient(Client):
    """Drives `vendor_program.py`."""

    name = "runapi-flux-2"

    def __init__(self, *, home: Path, api_key: str, base_url: str, threads: int) -> None:
        command = (sys.executable, "-m", "benchmarks.vendor_program", str(threads))
        environ = {"RUNAPI_API_KEY": api_key, "RUNAPI_BASE_URL": base_url}
        process = LineProcess(
            command, folder=home, environ=environ, on_line=lambda line: self._answered(line["id"], line)
        )
        super().__init__(process, api_key=api_key, base_url=base_url)

    async def start(self) -> None:
        """Start the program."""
        await self._process.start()

    def _question(self, number: int, kind: Kind, prompt: str) -> dict[str, Any]:
        arguments = {"prompt": prompt, "model": kind.model, "output_resolution": kind.resolution}
        return {"id": number, "arguments": arguments}

    def _made(self, number: int, kind: Kind, answer: dict[str, Any]) -> Made:
        return Made(kind=kind, task_id=answer.get("task_id"), failure=answer.get("failure"))
