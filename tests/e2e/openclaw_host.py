"""A real OpenClaw in a scratch folder: its commands, its gateway, and one agent turn at a time.

Everything it writes stays below `home`; its environment is built up from nothing, so that no key, setting or
running gateway of the machine reaches a test.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flux2_tool.openclaw.bundle import plugin_files, write_plugin
from flux2_tool.schema.manifest import load_manifest

TOKEN = "a-token-of-this-test"
COMMAND_TIMEOUT_S = 240.0
START_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one agent turn brought into the chat."""

    payloads: Sequence[Mapping[str, Any]]
    meta: Mapping[str, Any]

    @property
    def text(self) -> str:
        """Everything the agent said."""
        return "\n".join(str(payload.get("text") or "") for payload in self.payloads)

    @property
    def media_urls(self) -> list[str]:
        """Every attachment, in order."""
        return [url for payload in self.payloads for url in payload.get("mediaUrls") or []]

    @property
    def failed_calls(self) -> int:
        """How many tool calls counted as failed."""
        return int(self.meta.get("toolSummary", {}).get("failures", 0))


@dataclass(slots=True)
class OpenClaw:
    """One installation of OpenClaw with a state folder of its own."""

    node: Path
    script: Path
    home: Path
    environ: dict[str, str] = field(default_factory=dict)
    port: int = 0

    def __post_init__(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        self.command.parent.mkdir(exist_ok=True)
        # OpenClaw runs the npm beside its own Node, and the one of the wheel is broken: give it another.
        node = self.command.with_name("node")
        try:
            node.hardlink_to(self.node)
        except OSError:
            shutil.copy2(self.node, node)
        npm = self.node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        self._write_program("npm", f'"{node}" "{npm}"')
        self._write_program("openclaw", f'"{node}" "{self.script}"')
        self.node = node
        self.port = self.port or free_port()

    def _write_program(self, name: str, runs: str) -> None:
        path = self.command.with_name(name)
        path.write_text(f'#!/bin/sh\nexec {runs} "$@"\n')
        path.chmod(0o755)

    @property
    def state(self) -> Path:
        """OpenClaw's state folder."""
        return self.home / ".openclaw"

    @property
    def command(self) -> Path:
        """The `openclaw` command, as it would be on PATH."""
        return self.home / "bin" / "openclaw"

    def full_environ(self) -> dict[str, str]:
        """Return the whole environment that its processes get."""
        return {
            "PATH": f"{self.command.parent}:/usr/bin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "OPENCLAW_STATE_DIR": str(self.state),
            "OPENCLAW_NO_AUTO_UPDATE": "1",
            "NO_COLOR": "1",
            # Nothing may be fetched: the discard port answers nobody.
            "npm_config_registry": "http://127.0.0.1:9",
            "npm_config_fetch_retries": "0",
            **self.environ,
        }

    def configure(self, **sections: Any) -> None:
        """Replace top-level sections of `openclaw.json`."""
        path = self.state / "openclaw.json"
        config = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**config, **sections}, indent=2))

    def run(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run one `openclaw` command; it must succeed."""
        done = self.attempt(*arguments, timeout_s=timeout_s)
        assert done.returncode == 0, f"openclaw {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done

    def attempt(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run one `openclaw` command, whatever comes of it."""
        return subprocess.run(
            [self.command, *arguments],
            env=self.full_environ(),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def begin_turn(self, message: str, *, session: str, local: bool = False) -> subprocess.Popen[str]:
        """Start an agent turn and return its process; see `finish_turn`."""
        target = ["--agent", "main", "--session-key", f"agent:main:{session}"]
        where = ["--local"] if local else []
        return subprocess.Popen(
            [self.command, "agent", *where, *target, "--message", message, "--json"],
            env=self.full_environ(),
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def finish_turn(process: subprocess.Popen[str], *, timeout_s: float = COMMAND_TIMEOUT_S) -> Turn:
        """Wait for a turn that was begun, and return what it brought."""
        with process:
            out, err = process.communicate(timeout=timeout_s)
        assert process.returncode == 0, f"{out}\n{err}"
        answer = json.loads(out[out.index("{") :])
        result = answer.get("result", answer)
        return Turn(payloads=result["payloads"], meta=result["meta"])

    def turn(self, message: str, *, session: str, local: bool = False) -> Turn:
        """Run one agent turn and return what it brought into the chat."""
        return self.finish_turn(self.begin_turn(message, session=session, local=local))

    def call_gateway(self, method: str, **params: Any) -> Any:
        """Call a method of the running gateway and return its answer."""
        return json.loads(self.run("gateway", "call", method, "--params", json.dumps(params), "--json").stdout)

    def flux2_tool(self, *arguments: str, python: Path | str = sys.executable) -> subprocess.CompletedProcess[str]:
        """Run `flux2-tool` of an interpreter beside this OpenClaw, whatever comes of it."""
        return subprocess.run(
            [python, "-P", "-m", "flux2_tool", *arguments],
            env=self.full_environ(),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def add_plugin(self, *, python: Path | str = sys.executable) -> None:
        """Install the plugin by OpenClaw alone, in half the time: nothing is verified after it."""
        folder = self.home / "plugin"
        write_plugin(folder, plugin_files(load_manifest(), python=str(python)))
        self.run("plugins", "install", str(folder), "--force", "--accept-capabilities")

    def install_plugin(self, *, python: Path | str = sys.executable) -> None:
        """Install the plugin with the command that people use."""
        done = self.flux2_tool("openclaw", "install", "--yes", python=python)
        assert done.returncode == 0, done.stderr

    @contextlib.contextmanager
    def gateway(self) -> Iterator[Gateway]:
        """Run the gateway until the block ends, which kills it: an orderly end takes two seconds of a processor.

        A test that is about the end calls `Gateway.stop`.
        """
        log = self.home / "gateway.log"
        with log.open("ab") as stream:
            process = subprocess.Popen(
                [self.node, self.script, "gateway", "run"],
                env=self.full_environ(),
                cwd=self.home,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            gateway = Gateway(process=process, log=log, port=self.port)
            try:
                gateway.wait_until_ready()
                yield gateway
            finally:
                gateway.kill()


@dataclass(slots=True)
class Gateway:
    """A running gateway."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    def wait_until_ready(self) -> None:
        """Return once it accepts connections; fail with its log when it ends before."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.1)
        raise AssertionError(f"the gateway is not ready after {START_TIMEOUT_S:.0f} s\n{self.log.read_text()}")

    def stop(self) -> None:
        """Ask it to stop, then insist."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=30)
        self.kill()

    def kill(self) -> None:
        """End it with all that it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=10)

    def workers(self) -> list[int]:
        """Return the process ids of the workers that this gateway started."""
        return [pid for pid in _children(self.process.pid) if "flux2_tool worker" in self.process_text(pid, "cmdline")]

    @staticmethod
    def process_text(pid: int, name: str) -> str:
        """Return a file of /proc of a process with spaces for its null bytes; empty when the process is gone."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/{name}").read_text().replace("\0", " ")
        return ""


def scripted_provider(base_url: str, *, api_key: str = "${RUNAPI_API_KEY}", model: str = "scripted") -> dict[str, Any]:
    """Return the `models.providers` entry of a scripted model."""
    cost = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}
    limits = {"contextWindow": 200_000, "maxTokens": 8_000, "reasoning": False, "input": ["text", "image"]}
    return {
        "baseUrl": base_url,
        "apiKey": api_key,
        "api": "openai-completions",
        "models": [{"id": model, "name": model, "cost": cost, **limits}],
    }


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return [child for direct in found for child in (direct, *_children(direct))]
