"""How editors and chat programs are told to start the MCP server; see `mcp_hosts.py`.

Sources: code.visualstudio.com/docs/agents/reference/mcp-configuration (`servers`, `inputs`); docs.windsurf.com,
Cascade (`${env:NAME}`); zed.dev/docs/ai/mcp and `ContextServerSettingsContent` of its settings (`timeout` in seconds);
docs.roocode.com, features/mcp (`${env:NAME}`, `timeout` 1 to 3600 s); Cline's `McpSettingsSchema` (`timeout` in
seconds); librechat.ai, `mcpServers` (`${NAME}`, `timeout` in milliseconds).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flux2_tool.cli.mcp_launch import Launch

_PUT_KEY = "put-your-key-here"


def vs_code(launch: Launch, _environ: Mapping[str, str]) -> tuple[str, str]:
    """`.vscode/mcp.json`: VS Code asks for the key once and keeps it."""
    asked = {
        "type": "promptString",
        "id": "runapi-api-key",
        "description": f"RunAPI key ({launch.key})",
        "password": True,
    }
    entry = {"type": "stdio", **launch.entry("${{input:runapi-api-key}}")}
    return (
        json.dumps({"inputs": [asked], "servers": {launch.name: entry}}, indent=2),
        "Save it as .vscode/mcp.json in your project, or add it to the file that `MCP: Open User Configuration` opens. "
        f"VS Code asks for {launch.key} once and keeps it in its secret storage. It ends no call by itself.",
    )


def windsurf(launch: Launch, _environ: Mapping[str, str]) -> tuple[str, str]:
    """`mcp_config.json`."""
    return (
        _mcp_servers(launch, launch.entry("${{env:{}}}")),
        "Save it as ~/.codeium/windsurf/mcp_config.json, or add the entry to the one there. Windsurf fills in "
        f"{launch.key} from its own environment.",
    )


def zed(launch: Launch, _environ: Mapping[str, str]) -> tuple[str, str]:
    """`settings.json`; Zed fills in no variables."""
    entry = {**launch.entry(_PUT_KEY), "timeout": launch.timeout_s}
    return (
        json.dumps({"context_servers": {launch.name: entry}}, indent=2),
        "Add the entry to Zed's settings.json (zed: open settings file), and put the key in: Zed fills in no "
        "variables. Keep that file to yourself.",
    )


def roo(launch: Launch, _environ: Mapping[str, str]) -> tuple[str, str]:
    """`.roo/mcp.json`."""
    entry = {"type": "stdio", **launch.entry("${{env:{}}}"), "timeout": min(launch.timeout_s, 3600)}
    return (
        _mcp_servers(launch, entry),
        "Save it as .roo/mcp.json in your project, or add the entry to mcp_settings.json (Edit Global MCP). Roo Code "
        f"fills in {launch.key} from the environment of VS Code.",
    )


def cline(launch: Launch, _environ: Mapping[str, str]) -> tuple[str, str]:
    """`cline_mcp_settings.json`; Cline fills in no variables."""
    entry = {"type": "stdio", **launch.entry(_PUT_KEY), "timeout": launch.timeout_s, "disabled": False}
    return (
        _mcp_servers(launch, entry),
        "Add the entry to cline_mcp_settings.json (MCP Servers, Configure, Configure MCP Servers), and put the key in: "
        "Cline fills in no variables. Keep that file to yourself.",
    )


def librechat(launch: Launch, _environ: Mapping[str, str]) -> tuple[str, str]:
    """A part of `librechat.yaml`; a JSON string or list is the same in YAML."""
    entry = launch.entry("${{{}}}")
    lines = [
        "mcpServers:",
        f"  {launch.name}:",
        "    type: stdio",
        f"    command: {json.dumps(entry['command'])}",
        f"    args: {json.dumps(entry['args'])}",
        f"    timeout: {launch.timeout_s * 1000}",
        "    env:",
        *(f"      {name}: {json.dumps(value)}" for name, value in entry["env"].items()),
    ]
    return (
        "\n".join(lines),
        f"Add it to librechat.yaml and restart LibreChat, which fills in {launch.key} from its .env. In a container it "
        "can start only what is in there: serve it beside it with `flux2-tool mcp --http`, and name that URL.",
    )


def _mcp_servers(launch: Launch, entry: Mapping[str, Any]) -> str:
    return json.dumps({"mcpServers": {launch.name: entry}}, indent=2)
