"""`mcp`: serve the tools to any MCP host; `mcp config`: the exact command or file that registers them there."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from flux2_tool._files import is_folder
from flux2_tool._folders import expanded, home_folder
from flux2_tool.cli.exit_codes import DONE
from flux2_tool.cli.interpreter import this_python
from flux2_tool.cli.terminal import note, write_line
from flux2_tool.engine.host_profile import MCP
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.install_text import install_extra_text
from flux2_tool.schema.manifest import Manifest, load_manifest
from flux2_tool.settings import load_settings

# Longer than our own wait, so that a host never times out a call that is about to respond.
HOST_TIMEOUT_S: Final = 180
HOST_MARGIN_S: Final = 30

# Hosts start servers with an environment of their own; without these variables a server cannot use the proxy, or opens
# another journal.
_ALSO: Final = ["XDG_DATA_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "NO_PROXY", "no_proxy"]
_PROXIES: Final = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a host starts the server.

    Attributes:
        key: The name of the key's variable.
        variables: Other variables to pass.
        timeout_s: How long the host should wait for a call.
    """

    name: str
    python: str
    key: str
    variables: Mapping[str, str]
    timeout_s: int = HOST_TIMEOUT_S

    @property
    def arguments(self) -> list[str]:
        """The interpreter's arguments; -P because a host may start it in an untrusted folder."""
        return ["-P", "-m", "flux2_tool", "mcp"]

    def entry(self, reference: str) -> dict[str, Any]:
        """Return the JSON entry that most hosts share; `reference` is the host's syntax for a variable."""
        key = reference.format(self.key)
        return {"command": self.python, "args": self.arguments, "env": {self.key: key, **self.variables}}


@click.group(invoke_without_command=True)
@click.pass_context
def mcp(ctx: click.Context) -> int:
    """Serve the tools over MCP on stdin and stdout, for Claude Code, Codex, Cursor, OpenClaw and others.

    The key and the settings come from the environment. It ends with its client.
    """
    if ctx.invoked_subcommand is not None:
        return DONE
    server = _server_module()
    if sys.stdin.isatty():
        note("This waits for an MCP host to speak on stdin. To register it: flux2-tool mcp config --host HOST")
    server.main()
    return DONE


@mcp.command(short_help="Print what registers the server in a host.")
@click.option(
    "--host", type=click.Choice(["openclaw", "claude-code", "codex", "cursor"]), required=True, help="Who starts it."
)
def config(host: str) -> int:
    """Print the command or the file that registers the server in HOST; it includes this environment's settings."""
    manifest = load_manifest()
    [key] = [name for name, variable in manifest.environment.items() if variable.secret]
    wait_s = MCP.longest_wait_s(load_settings(os.environ, manifest=manifest))
    variables, left_out = _variables(manifest, os.environ)
    launch = Launch(
        name=manifest.id,
        python=this_python(),
        key=key,
        variables=variables,
        timeout_s=max(HOST_TIMEOUT_S, math.ceil(wait_s) + HOST_MARGIN_S),
    )
    text, instructions = _HOSTS[host](launch, os.environ)
    for line in text.splitlines():
        write_line(line)
    note(instructions)
    if left_out:
        note(f"Left out, because it contains a password: {', '.join(left_out)}. Set it where the host starts servers.")
    if importlib.util.find_spec("mcp") is None:
        note(f"The server needs version 2 of the package mcp, which is not installed: {_how_to_install()}")
    return DONE


def _openclaw(launch: Launch, environ: Mapping[str, str]) -> tuple[str, str]:
    entry = launch.entry("${{{}}}")
    state, home = environ.get("OPENCLAW_STATE_DIR"), home_folder(environ)
    if not state and home is not None:
        state = str(home / ".openclaw")
    if state:  # for pictures that came in by chat
        entry["env"]["OPENCLAW_STATE_DIR"] = state
        workspace = _workspace(Path(state))
        if is_folder(workspace):
            entry["cwd"] = str(workspace)
    entry["requestTimeoutMs"] = launch.timeout_s * 1000
    return (
        shlex.join(["openclaw", "mcp", "set", launch.name, json.dumps(entry)]),
        f"Run it. OpenClaw fills in {launch.key} from the gateway's environment; for a service that is "
        "~/.openclaw/.env. The plugin (flux2-tool openclaw install) offers the tools directly and attaches the "
        "pictures; use only one of the two. Over MCP OpenClaw does not identify the requester: everybody counts as the "
        "owner, so that spenders and sender_daily_cap_usd have no effect. Source files may lie in the entry's cwd, "
        "which should be the agent's workspace, or in FLUX2_TOOL_SOURCE_ROOTS.",
    )


def _workspace(state: Path) -> Path:
    """Return OpenClaw's workspace: that of its config, where this is plain JSON, else its default."""
    try:
        chosen = json.loads((state / "openclaw.json").read_text(encoding="utf-8-sig"))["agents"]["defaults"][
            "workspace"
        ]
        return expanded(chosen, os.environ)
    except (OSError, ValueError, KeyError, TypeError):
        return state / "workspace"


def _claude_code(launch: Launch, _environ: Mapping[str, str]) -> tuple[str, str]:
    entry = {"type": "stdio", **launch.entry("${{{}:-}}")}
    return (
        json.dumps({"mcpServers": {launch.name: entry}}, indent=2),
        f"Save it as .mcp.json in your project, or add the entry to the one there. Claude Code fills in {launch.key} "
        "from its own environment.",
    )


def _cursor(launch: Launch, _environ: Mapping[str, str]) -> tuple[str, str]:
    entry = launch.entry("${{env:{}}}")
    return (
        json.dumps({"mcpServers": {launch.name: entry}}, indent=2),
        f"Save it as ~/.cursor/mcp.json (or .cursor/mcp.json in a project), or add the entry to the one there. Cursor "
        f"fills in {launch.key} from its own environment.",
    )


def _codex(launch: Launch, _environ: Mapping[str, str]) -> tuple[str, str]:
    # A JSON string or list of strings is the same in TOML.
    lines = [
        f"[mcp_servers.{launch.name}]",
        f"command = {json.dumps(launch.python)}",
        f"args = {json.dumps(launch.arguments)}",
        f"env_vars = {json.dumps([launch.key])}",
        f"tool_timeout_sec = {launch.timeout_s}",
    ]
    if launch.variables:
        lines += ["", f"[mcp_servers.{launch.name}.env]"]
        lines += [f"{name} = {json.dumps(value)}" for name, value in launch.variables.items()]
    return (
        "\n".join(lines),
        f"Add it to ~/.codex/config.toml. Codex passes {launch.key} on from its own environment.",
    )


_HOSTS: Final[Mapping[str, Callable[[Launch, Mapping[str, str]], tuple[str, str]]]] = {
    "openclaw": _openclaw,
    "claude-code": _claude_code,
    "codex": _codex,
    "cursor": _cursor,
}


def _variables(manifest: Manifest, environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return this environment's variables for the server, and the names of those that must not be printed."""
    names = [hint.env for hint in manifest.settings.values() if hint.env and not hint.sensitive]
    found = {name: environ[name] for name in [*names, *_ALSO, *_PROXIES] if environ.get(name, "").strip()}
    left_out = [name for name in _PROXIES if "@" in found.get(name, "")]
    return {name: text for name, text in found.items() if name not in left_out}, left_out


def _how_to_install() -> str:
    return install_extra_text("mcp", python=this_python())


def _server_module() -> Any:
    try:
        return importlib.import_module("flux2_tool.hosts.mcp_server")
    except ImportError as exc:
        if not (exc.name or "").startswith("mcp"):
            raise
        raise ConfigurationError(
            "the MCP server needs version 2 of the package mcp, which is not installed",
            hint=_how_to_install(),
        ) from exc
