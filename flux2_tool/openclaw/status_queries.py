"""What OpenClaw's own commands and its gateway say of the plugin, asked with as few commands as will do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from flux2_tool._files import read_file
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.openclaw.gateway_config import gateway_config, value_at
from flux2_tool.openclaw.gateway_report import NoGateway, PluginReport, ask_plugin
from flux2_tool.openclaw.image_provider import PROVIDER
from flux2_tool.openclaw.install import inspect_plugin
from flux2_tool.openclaw.openclaw_cli import GATEWAY_TIMEOUT_S, OpenClawCli
from flux2_tool.schema.manifest import Manifest

_CONFIG_PATHS: Final = {
    "tools": "tools",
    "agents": "agents",
    "plugins": "plugins",
    "channels": "channels",
    "provider_key": f"models.providers.{PROVIDER}.apiKey",
}


def ask_openclaw(cli: OpenClawCli, manifest: Manifest) -> dict[str, Any]:
    """Return what OpenClaw says of the plugin and of its config, from the gateway as far as that can say it.

    Each command takes OpenClaw seconds of a processor, and the one that loads the plugin the longest of all.

    Returns:
        The inspection (None for a plugin that is not installed), other plugins, sections of the config, the gateway's
        catalog of tools (None without a gateway), and what the running plugin reports.

    Raises:
        ConfigurationError: OpenClaw's config is invalid, or one of its commands failed.
    """
    found = _run_all(
        {
            "listed": lambda: cli.run_json("plugins", "list", "--json"),
            "running": lambda: ask_plugin(cli),
        }
    )
    running, listed = found["running"], found["listed"]
    is_running = isinstance(running, PluginReport)
    found |= _run_all(
        {
            "catalog": lambda: None if isinstance(running, NoGateway) else _catalog(cli),
            "config": lambda: gateway_config(cli) if is_running else None,
        }
    )
    config, found["others"] = found["config"], listed["plugins"]
    found["inspection"] = None if config is None else _as_inspected(listed, running, found["catalog"], manifest)
    queries: dict[str, Callable[[], Any]] = {}
    if found["inspection"] is None:
        queries["inspection"] = lambda: inspect_plugin(cli, manifest)
    for name, path in _CONFIG_PATHS.items():
        if config is not None:
            found[name] = value_at(config, path)
        else:
            queries[name] = partial(cli.config_value, path)
    found |= _run_all(queries)
    return found | {name: found[name] or {} for name in ("tools", "agents", "plugins", "channels")}


def bundle_of(plugin: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the installed plugin's tools.json, empty when it cannot be read."""
    try:
        found = json.loads(read_file(Path(str(plugin["rootDir"])) / "dist" / "tools.json"))
    except (KeyError, OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _as_inspected(
    listed: Mapping[str, Any],
    running: PluginReport,
    catalog: list[Mapping[str, Any]] | None,
    manifest: Manifest,
) -> Mapping[str, Any] | None:
    """Return what `inspect_plugin` would: what is installed is loaded, as the gateway has it; None if that is open."""
    plugin: Mapping[str, Any] = next((one for one in listed["plugins"] if one.get("id") == manifest.id), {})
    bundle = bundle_of(plugin)
    is_installed_one = (running.version, running.manifest_sha256) == (
        bundle.get("version"),
        bundle.get("manifest_sha256"),
    )
    ours = {tool.get("id") for tool in catalog or [] if tool.get("pluginId") == manifest.id}
    if running.version is None or not is_installed_one or not ours.issuperset(manifest.tools):
        return None
    if plugin.get("status") != "loaded" or not plugin.get("enabled"):
        return None
    said = [one for one in listed.get("diagnostics") or [] if _is_about(one, manifest)]
    return {"plugin": {**plugin, "toolNames": sorted(ours & set(manifest.tools))}, "diagnostics": said}


def _is_about(diagnostic: Any, manifest: Manifest) -> bool:
    return isinstance(diagnostic, Mapping) and diagnostic.get("pluginId") == manifest.id


def _run_all(queries: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Return the results of queries that run at the same time, because each takes OpenClaw seconds."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        running = {name: pool.submit(query) for name, query in queries.items()}
    return {name: future.result() for name, future in running.items()}


def _catalog(cli: OpenClawCli) -> list[Mapping[str, Any]] | None:
    """Return the tools that the running gateway knows, or None when none responds."""
    arguments = ("gateway", "call", "tools.catalog", "--params", '{"agentId": "main"}', "--json")
    try:
        found = cli.run_json(*arguments, timeout_s=GATEWAY_TIMEOUT_S)
    except ConfigurationError:
        return None
    return [tool for group in found.get("groups") or [] for tool in group.get("tools") or []]
