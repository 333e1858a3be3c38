"""The worker process itself, `python -m flux2_tool worker`, as a host starts it, speaks with it and loses it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


class WorkerProcess:
    """One worker with one call."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._reader = asyncio.ensure_future(self._read())
        self.result: dict[str, Any] | None = None
        self.answered = asyncio.Event()

    @classmethod
    async def start(
        cls, *, home: Path, base_url: str, key: str, session: str, prompt: str, wait_s: float
    ) -> WorkerProcess:
        """Start a worker, initialize it, and have it make one call."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "flux2_tool",
            "worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        worker = cls(process)
        worker._send(1, "initialize", {"host": "native", "config": {"home": str(home)}})
        call = {
            "tool": "text_to_image",
            "arguments": {"prompt": prompt},
            "api_key": key,
            "base_url": base_url,
            "session": {"agent_id": "main", "session_key": session},
            "state_dir": str(home),
            "wait_s": wait_s,
        }
        worker._send(2, "call", call)
        return worker

    async def kill(self) -> bool:
        """Kill it with SIGKILL; return whether it was still alive and had not answered."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        return await self._ended() == -signal.SIGKILL

    async def lose_its_peer(self) -> None:
        """Have it see that its host is gone: its input ends, and whatever it has answered was read by nobody."""
        self.result = None
        await self.close()
        self.result = None

    async def close(self) -> None:
        """Let it end by the end of its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._ended()

    async def _ended(self) -> int:
        await self._reader
        return await self._process.wait()

    def _send(self, number: int, method: str, params: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        line = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        self._process.stdin.write(line.encode() + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = json.loads(line)
            if message.get("id") == 2:
                self.result = message.get("result")
                self.answered.set()
