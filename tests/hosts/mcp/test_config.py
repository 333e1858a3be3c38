"""`mcp config`: what it prints must start the server in each host as it stands."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from flux2_tool.cli.mcp_hosts import HOSTS as CONFIGS
from flux2_tool.cli.mcp_launch import Launch
from flux2_tool.schema.install_text import install_extra_text
from flux2_tool.schema.installation import this_installation
from tests.hosts.mcp.host import talk

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


@pytest.mark.parametrize("host", ["openai-agents", "langchain", "smolagents"])
def test_the_code_for_a_framework_starts_the_server(environ: dict[str, str], tmp_path: Path, host: str) -> None:
    """It is pasted into a program; what it imports may not be installed here."""
    code = printed(host, environ).stdout
    lines = [line for line in code.splitlines() if not line.startswith("from ")]
    made = next(index for index, line in enumerate(lines) if re.match(r"\w+ = [A-Z]", line))
    names: dict[str, Any] = {"os": SimpleNamespace(environ=environ)}

    exec("\n".join(lines[1:made]), names)  # noqa: S102 - our own output
    ast.parse(code)
    server = names["server"]

    async def tools(client: Any) -> int:
        return len((await client.list_tools()).tools)

    variables = {"HOME": environ["HOME"], **server["env"]}
    assert talk(variables, tools, command=server["command"], arguments=tuple(server["args"]), folder=tmp_path) == 3


@pytest.mark.parametrize("host", ["cursor", "claude-desktop"])
@pytest.mark.parametrize(("wait_s", "passed"), [("300", "50"), ("20", "20")])
def test_a_host_with_a_fixed_limit_gets_answers_within_it(
    environ: dict[str, str], host: str, wait_s: str, passed: str
) -> None:
    """It would end a longer call, and the model would make the picture again."""
    done = printed(host, {**environ, "FLUX2_TOOL_WAIT_S": wait_s})

    assert of_json(done.stdout)["env"]["FLUX2_TOOL_WAIT_S"] == passed
    assert ("ends a call after 60 s" in done.stderr) is (wait_s != passed)


def test_a_temporary_environment_is_never_printed(environ: dict[str, str], tmp_path: Path) -> None:
    """`uvx` runs from a cache; `uv cache clean` would break what the host has stored."""
    prefix = tmp_path / "uv" / "archive-v0" / "2mXhash"
    venv.create(prefix, with_pip=False)
    [packages] = prefix.glob("lib/python3*/site-packages")
    (packages / "all.pth").write_text("\n".join(path for path in sys.path if path))
    python = str(prefix / "bin" / "python")

    config = subprocess.run(
        [python, "-m", "flux2_tool", "mcp", "config", "--host", "claude-code"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )

    entry = of_json(config.stdout)
    assert "archive-v0" not in config.stdout + config.stderr
    assert Path(entry["command"]).name == "uvx"
    assert entry["args"][0] == "--from"
    assert re.match(r"flux2-tool\[(\w+,)*mcp\b", entry["args"][1])
    assert entry["args"][2:] == ["flux2-tool", "mcp"]


@pytest.mark.parametrize("host", HOSTS)
def test_the_key_is_named_and_never_printed(host: str, environ: dict[str, str]) -> None:
    """The output is pasted into files that are shared, and stays in a shell's history."""
    done = printed(host, {**environ, "RUNAPI_API_KEY": SECRET})

    assert SECRET not in done.stdout + done.stderr
    assert "RUNAPI_API_KEY" in done.stdout


@pytest.mark.parametrize(("wait_s", "timeout_s"), [("50", 180), ("300", 330), ("0.5", 180)])
def test_a_host_waits_longer_than_a_call_does(environ: dict[str, str], wait_s: str, timeout_s: int) -> None:
    """A host that gives up first turns a picture that is paid for into an error."""
    environ["FLUX2_TOOL_WAIT_S"] = wait_s

    assert of_openclaw(printed("openclaw", environ).stdout)["requestTimeoutMs"] == timeout_s * 1000
    assert of_codex(printed("codex", environ).stdout)["tool_timeout_sec"] == timeout_s


def test_the_servers_environment_goes_along_without_passwords(environ: dict[str, str]) -> None:
    """Hosts start it with an environment of their own; a proxy's password must not land in a file that is shared."""
    needed = {"XDG_DATA_HOME": "/d", "SSL_CERT_FILE": "/c.pem", "https_proxy": "http://proxy:3128", "NO_PROXY": "a.b"}
    secret = {"HTTPS_PROXY": "http://ada:hunter2@proxy:3128"}

    done = printed("cursor", {**environ, **needed, **secret})

    found = of_json(done.stdout)["env"]
    assert needed.items() <= found.items()
    assert "HTTPS_PROXY" not in found
    assert "HTTPS_PROXY" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize("configured", [True, False], ids=["of its config", "its default"])
def test_openclaw_starts_the_server_in_its_workspace(environ: dict[str, str], tmp_path: Path, configured: bool) -> None:
    """Elsewhere no file of the agent's could be a source."""
    state = tmp_path / ".openclaw"
    workspace = tmp_path / "agents-own" if configured else state / "workspace"
    workspace.mkdir(parents=True)
    state.mkdir(exist_ok=True)
    config = {"agents": {"defaults": {"workspace": str(workspace)}}} if configured else {}
    (state / "openclaw.json").write_text(json.dumps(config))

    assert of_openclaw(printed("openclaw", environ).stdout)["cwd"] == str(workspace)


def test_openclaws_config_is_not_read_from_a_pipe(environ: dict[str, str], tmp_path: Path) -> None:
    """The command would wait for whoever writes to it."""
    workspace = tmp_path / ".openclaw" / "workspace"
    workspace.mkdir(parents=True)
    os.mkfifo(workspace.parent / "openclaw.json")

    assert of_openclaw(printed("openclaw", environ).stdout)["cwd"] == str(workspace)


def test_a_workspace_that_is_not_there_is_not_named(environ: dict[str, str]) -> None:
    """No server starts in a folder that does not exist."""
    assert "cwd" not in of_openclaw(printed("openclaw", environ).stdout)


def test_openclaws_operator_is_told_that_everybody_counts_as_the_owner(environ: dict[str, str]) -> None:
    """Caps per person that silently bind nobody are worse than none."""
    note = printed("openclaw", environ).stderr

    assert "spenders" in note
    assert "sender_daily_cap_usd" in note


def of_vs_code(text: str) -> dict[str, Any]:
    """Read `.vscode/mcp.json`, whose key VS Code asks for."""
    found = json.loads(text)
    [asked] = found["inputs"]
    assert (asked["type"], asked["password"]) == ("promptString", True)
    entry: dict[str, Any] = found["servers"]["flux2"]
    assert entry["env"]["RUNAPI_API_KEY"] == f"${{input:{asked['id']}}}"
    return entry


EDITORS: dict[str, tuple[Callable[[str], dict[str, Any]], str, int | None]] = {
    "vs-code": (of_vs_code, "${input:runapi-api-key}", None),
    "windsurf": (of_json, "${env:RUNAPI_API_KEY}", None),
    "zed": (lambda text: dict(json.loads(text)["context_servers"]["flux2"]), "put-your-key-here", 180),
    "roo": (of_json, "${env:RUNAPI_API_KEY}", 180),
    "cline": (of_json, "put-your-key-here", 180),
    "librechat": (lambda text: dict(yaml.safe_load(text)["mcpServers"]["flux2"]), "${RUNAPI_API_KEY}", 180_000),
}


@pytest.mark.parametrize("host", EDITORS)
def test_an_editor_gets_the_same_in_its_own_format(host: str) -> None:
    """What starts it is that of Cursor, which is tried above; the key by name, and the time-out in the host's unit."""
    launch = Launch(
        name="flux2",
        command="/usr/bin/my python",
        arguments=["-P", "-m", "flux2_tool", "mcp"],
        key="RUNAPI_API_KEY",
        variables={"FLUX2_TOOL_WAIT_S": "50", "XDG_DATA_HOME": "/data: #1"},
    )
    wanted = of_json(CONFIGS["cursor"](launch, {})[0])
    read, reference, timeout = EDITORS[host]

    entry = read(CONFIGS[host](launch, {})[0])

    assert (entry["command"], entry["args"]) == (wanted["command"], wanted["args"])
    assert entry["env"] == {**wanted["env"], "RUNAPI_API_KEY": reference}
    assert entry.get("timeout") == timeout


def test_every_host_is_known_to_the_docs() -> None:
    """Whoever looks for theirs finds the command."""
    page = (Path(__file__).parents[3] / "docs" / "mcp.md").read_text(encoding="utf-8")

    assert [host for host in CONFIGS if f"mcp config --host {host}\n" not in page] == []


def test_without_the_extra_it_says_what_to_install(environ: dict[str, str]) -> None:
    """Else the host's log is where somebody would have to find it."""
    arguments = ["mcp", "config", "--host", "cursor"]
    hidden = (
        "import importlib.util as util, sys; find = util.find_spec; "
        "util.find_spec = lambda name, *rest: None if name == 'mcp' else find(name, *rest); "
        f"from flux2_tool.cli import main; sys.exit(main({arguments}))"
    )

    done = subprocess.run([sys.executable, "-c", hidden], env=environ, capture_output=True, text=True, check=True)

    assert install_extra_text("mcp", this_installation(), command=["mcp"]) in done.stderr
    assert "pip install" not in printed("cursor", environ).stderr


def test_openclaw_waits_longer_than_we_do_and_shares_its_inbox(environ: dict[str, str]) -> None:
    """Its own limit of a minute would end a call that is about to answer; pictures from the chat are sources."""
    entry = of_openclaw(printed("openclaw", environ).stdout)

    assert entry["requestTimeoutMs"] > 60_000
    assert entry["env"]["OPENCLAW_STATE_DIR"] == f"{environ['HOME']}/.openclaw"
