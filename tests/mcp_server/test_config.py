"""`mcp config`: what it prints must start the server in each host as it stands."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .host import talk

SECRET = "sk-never-to-be-printed-0123456789"


def printed(host: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "flux2_tool", "mcp", "config", "--host", host],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )


def of_openclaw(text: str) -> dict[str, Any]:
    """Read the command's last argument."""
    *command, entry = shlex.split(text)
    assert command == ["openclaw", "mcp", "set", "flux2"]
    found: dict[str, Any] = json.loads(entry)
    return found


def of_json(text: str) -> dict[str, Any]:
    """Read a file of Claude Code or Cursor."""
    found: dict[str, Any] = json.loads(text)["mcpServers"]["flux2"]
    return found


def of_codex(text: str) -> dict[str, Any]:
    """Read a part of Codex' config.toml; it passes on the variables that it is told to."""
    found: dict[str, Any] = tomllib.loads(text)["mcp_servers"]["flux2"]
    return {**found, "env": {**found.get("env", {}), **{name: f"${{{name}}}" for name in found["env_vars"]}}}


HOSTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "openclaw": of_openclaw,
    "claude-code": of_json,
    "codex": of_codex,
    "cursor": of_json,
}


@pytest.mark.parametrize("host", HOSTS)
def test_what_is_printed_starts_the_server(host: str, environ: dict[str, str], tmp_path: Path) -> None:
    """With nothing but what stands in it and the key that the host fills in, from any folder."""
    # A folder that an agent works in may hold anything, also a package of our name.
    (tmp_path / "flux2_tool").mkdir()
    (tmp_path / "flux2_tool" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    entry = HOSTS[host](printed(host, {**environ, "FLUX2_TOOL_TIERS": "max"}).stdout)
    filled = {
        name: re.sub(r"^\$\{(env:)?RUNAPI_API_KEY(:-)?\}$", environ["RUNAPI_API_KEY"], value)
        for name, value in entry["env"].items()
    }

    async def call(client: Any) -> tuple[list[str], Any]:
        models = [tool.input_schema["properties"].get("model", {}) for tool in (await client.list_tools()).tools]
        arguments = {"prompt": "a fox", "model": "flux-2-max-text-to-image", "aspect_ratio": "1:1"}
        return models[0]["enum"], await client.call_tool("text_to_image", arguments)

    models, answer = talk(
        {"HOME": environ["HOME"], **filled},
        call,
        command=entry["command"],
        arguments=tuple(entry["args"]),
        folder=tmp_path,
    )

    assert models == ["flux-2-max-text-to-image"]
    assert not answer.is_error


@pytest.mark.parametrize("host", HOSTS)
def test_the_key_is_named_and_never_printed(host: str, environ: dict[str, str]) -> None:
    """The output is pasted into files that are shared, and stays in a shell's history."""
    done = printed(host, {**environ, "RUNAPI_API_KEY": SECRET})

    assert SECRET not in done.stdout + done.stderr
    assert "RUNAPI_API_KEY" in done.stdout


def test_openclaw_waits_longer_than_we_do_and_shares_its_inbox(environ: dict[str, str]) -> None:
    """Its own limit of a minute would end a call that is about to answer; pictures from the chat are sources."""
    entry = of_openclaw(printed("openclaw", environ).stdout)

    assert entry["requestTimeoutMs"] > 60_000
    assert entry["env"]["OPENCLAW_STATE_DIR"] == f"{environ['HOME']}/.openclaw"
