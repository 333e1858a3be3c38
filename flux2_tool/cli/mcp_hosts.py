"""How each MCP host is told to start the server: the text to run, save or paste, and what to know about it.

Limits of the hosts: Cursor and Claude Desktop end a call after 60 s (the default of the MCP SDK for TypeScript), the
OpenAI Agents SDK after 5 s unless `client_session_timeout_seconds` says otherwise; the others can be told or wait.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from flux2_tool._files import is_folder, read_file
from flux2_tool._folders import expanded, state_folder
from flux2_tool.cli import mcp_editors as editors
from flux2_tool.cli.mcp_launch import Launch

# Of hosts that cannot be told to wait longer.
FIXED_LIMITS_S: Final[Mapping[str, int]] = {"cursor": 60, "claude-desktop": 60}


def _openclaw(launch: Launch, environ: Mapping[str, str]) -> tuple[str, str]:
    entry = launch.entry("${{{}}}")
    state = state_folder(environ)
    if state is not None:  # for pictures that came in by chat
        entry["env"]["OPENCLAW_STATE_DIR"] = str(state)
        workspace = _workspace(state, environ)
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


def _workspace(state: Path, environ: Mapping[str, str]) -> Path:
    """Return OpenClaw's workspace: that of its config, where this is plain JSON, else its default."""
    try:
        config = json.loads(read_file(state / "openclaw.json").decode("utf-8-sig"))
        return expanded(config["agents"]["defaults"]["workspace"], environ)
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
        f"command = {json.dumps(launch.command)}",
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


def _claude_desktop(launch: Launch, _environ: Mapping[str, str]) -> tuple[str, str]:
    entry = launch.entry("put-your-key-here")
    return (
        json.dumps({"mcpServers": {launch.name: entry}}, indent=2),
        "Add the entry to claude_desktop_config.json (Settings, Developer, Edit Config), and put the key in: Claude "
        "Desktop fills in no variables. Keep that file to yourself.",
    )


def _openai_agents(launch: Launch, _environ: Mapping[str, str]) -> tuple[str, str]:
    code = _python(
        launch,
        "from agents.mcp import MCPServerStdio",
        f"flux2 = MCPServerStdio(params=server, client_session_timeout_seconds={launch.timeout_s})",
    )
    return (
        code,
        "Pass it to an Agent as mcp_servers=[flux2]. Without client_session_timeout_seconds the SDK gives up after "
        "5 s, before most pictures are finished; where it cannot be set, FLUX2_TOOL_WAIT_S=3 lets the server answer in "
        "time and say how the picture is fetched.",
    )


def _langchain(launch: Launch, _environ: Mapping[str, str]) -> tuple[str, str]:
    code = _python(
        launch,
        "from langchain_mcp_adapters.client import MultiServerMCPClient",
        f'client = MultiServerMCPClient({{"{launch.name}": {{**server, "transport": "stdio"}}}})',
    )
    return (
        code,
        "await client.get_tools() returns the tools. It opens a connection for each call, and waits without a limit.",
    )


def _smolagents(launch: Launch, _environ: Mapping[str, str]) -> tuple[str, str]:
    code = _python(
        launch,
        "from mcp import StdioServerParameters",
        "from smolagents import MCPClient",
        "client = MCPClient(StdioServerParameters(**server), structured_output=False)",
    )
    return code, "client.get_tools() returns the tools for an agent; client.disconnect() ends the server."


def _python(launch: Launch, *lines: str) -> str:
    """Return Python code that makes `server`, the parameters of a server, after the lines that import something."""
    # A JSON object of strings and lists is the same in Python.
    entry = json.dumps(launch.entry("\0"), indent=4).replace(json.dumps("\0"), f'os.environ["{launch.key}"]')
    imports = [line for line in lines if line.startswith("from ")]
    rest = [line for line in lines if line not in imports]
    return "\n".join(["import os", *imports, f"server = {entry}", *rest])


HOSTS: Final[Mapping[str, Callable[[Launch, Mapping[str, str]], tuple[str, str]]]] = {
    "openclaw": _openclaw,
    "claude-code": _claude_code,
    "codex": _codex,
    "cursor": _cursor,
    "claude-desktop": _claude_desktop,
    "vs-code": editors.vs_code,
    "windsurf": editors.windsurf,
    "zed": editors.zed,
    "roo": editors.roo,
    "cline": editors.cline,
    "librechat": editors.librechat,
    "openai-agents": _openai_agents,
    "langchain": _langchain,
    "smolagents": _smolagents,
}
