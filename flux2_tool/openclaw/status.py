"""Look at the plugin from both sides: what this package is, what OpenClaw has, and what keeps tools from a model.

Never shows a key: only the places that have one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flux2_tool.credentials import KEY_VARIABLE, resolve_credentials
from flux2_tool.exceptions import ConfigurationError, MissingApiKeyError
from flux2_tool.openclaw.image_provider import PROVIDER
from flux2_tool.openclaw.install import inspected, is_error, message_of
from flux2_tool.openclaw.openclaw_cli import GATEWAY_TIMEOUT_S, Host
from flux2_tool.openclaw.tool_policy import HostConfig, PolicyBlock, conflicts, find_policy_blocks
from flux2_tool.schema.manifest import Manifest

INSTALL = "flux2-tool openclaw install"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is wrong, and the command that mends it."""

    what: str
    mend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What was found. `plugin_version` and the like are None when the plugin is not installed."""

    openclaw_command: str
    openclaw_version: str
    package_version: str
    plugin_version: str | None
    plugin_enabled: bool
    python: str | None
    key_sources: tuple[str, ...]
    gateway: str
    tools: tuple[str, ...]
    """The tools that the plugin registers."""
    offered: tuple[str, ...]
    """Those of them that nothing hides from every model."""
    hidden: tuple[PolicyBlock, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    """What OpenClaw says of the plugin that is no fault."""

    @property
    def ok(self) -> bool:
        """Whether a model is offered every tool and a key is there."""
        return not self.hidden and not self.problems

    def as_object(self) -> dict[str, Any]:
        """Return the JSON-ready object."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(slots=True)
class _Answers:
    """OpenClaw's answers, asked for at the same time, because each takes seconds."""

    values: dict[str, Any] = field(default_factory=dict)

    def ask(self, questions: Mapping[str, Callable[[], Any]]) -> None:
        with ThreadPoolExecutor(max_workers=4) as pool:
            running = {name: pool.submit(question) for name, question in questions.items()}
        self.values = {name: future.result() for name, future in running.items()}


def examine(host: Host, manifest: Manifest, environ: Mapping[str, str]) -> Status:
    """Return the state of the plugin in this OpenClaw.

    Raises:
        ConfigurationError: OpenClaw's config is invalid, or one of its commands failed.
    """
    answers = _Answers()
    answers.ask(
        {
            "plugin": lambda: inspected(host, manifest),
            "others": lambda: host.run_json("plugins", "list", "--json")["plugins"],
            "tools": lambda: host.setting("tools") or {},
            "agents": lambda: host.setting("agents") or {},
            "plugins": lambda: host.setting("plugins") or {},
            "provider_key": lambda: host.setting(f"models.providers.{PROVIDER}.apiKey"),
            "catalog": lambda: _catalog(host),
        }
    )
    found = answers.values
    names = tuple(manifest.tools)
    plugin: Mapping[str, Any] = (found["plugin"] or {}).get("plugin", {})
    config = HostConfig(tools=found["tools"], agents=found["agents"], plugins=found["plugins"])
    hidden: list[PolicyBlock] = []
    if plugin:
        hidden = [
            *find_policy_blocks(config, plugin=manifest.id, tools=names),
            *conflicts(found["others"], plugin=manifest.id, tools=names),
        ]
    made = _made(plugin)
    keys = _key_sources(environ, in_host=_is_filled(found["provider_key"]))
    tools = tuple(tool for tool in names if tool in (plugin.get("toolNames") or ()))
    everywhere = {tool for item in hidden if not item.is_partial for tool in item.tools}
    return Status(
        openclaw_command=str(host.command),
        openclaw_version=host.version,
        package_version=manifest.version,
        plugin_version=made.get("version") or plugin.get("version"),
        plugin_enabled=bool(plugin.get("enabled")),
        python=made.get("python"),
        key_sources=tuple(keys),
        gateway=_gateway(found["catalog"], manifest),
        tools=tools,
        offered=tuple(tool for tool in tools if tool not in everywhere),
        hidden=tuple(hidden),
        notes=tuple(
            message_of(item) for item in (found["plugin"] or {}).get("diagnostics") or [] if not is_error(item)
        ),
        problems=tuple(_problems(found["plugin"], made, keys, manifest, env_file(environ))),
    )


def _catalog(host: Host) -> list[Mapping[str, Any]] | None:
    """Return the tools that the running gateway knows, or None when none answers."""
    asked = ("gateway", "call", "tools.catalog", "--params", '{"agentId": "main"}', "--json")
    try:
        found = host.run_json(*asked, timeout_s=GATEWAY_TIMEOUT_S)
    except ConfigurationError:
        return None
    return [tool for group in found.get("groups") or [] for tool in group.get("tools") or []]


def _gateway(catalog: list[Mapping[str, Any]] | None, manifest: Manifest) -> str:
    if catalog is None:
        return "no running gateway answered"
    ours = [str(tool["id"]) for tool in catalog if tool.get("pluginId") == manifest.id]
    return f"running, and has {', '.join(ours) if ours else 'none of the tools'}"


def _made(plugin: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what our generator wrote into the installed plugin, empty when it cannot be read."""
    try:
        found = json.loads((Path(str(plugin["rootDir"])) / "dist" / "tools.json").read_text(encoding="utf-8"))
    except (KeyError, OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def env_file(environ: Mapping[str, str]) -> Path:
    """Return OpenClaw's own file of variables for a gateway that runs as a service."""
    state = environ.get("OPENCLAW_STATE_DIR") or str(Path(environ.get("HOME", "~")).expanduser() / ".openclaw")
    return Path(state) / ".env"


def _is_filled(key: Any) -> bool:
    """Whether a key stands there, masked or not, and not an empty text or a variable's name in its place."""
    try:
        resolve_credentials(environ={}, explicit_key=key if isinstance(key, str) else "")
    except MissingApiKeyError:
        return isinstance(key, Mapping) and bool(key)  # a reference to a secret that OpenClaw keeps elsewhere
    except ConfigurationError:
        return True
    return True


def _key_sources(environ: Mapping[str, str], *, in_host: bool) -> list[str]:
    path = env_file(environ)
    sources = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    named = [line.strip().removeprefix("export ").partition("=") for line in lines]
    if any(name.strip() == KEY_VARIABLE and _is_filled(value.strip().strip("\"'")) for name, _, value in named):
        sources.append(f"{KEY_VARIABLE} in {path}")
    if in_host:
        sources.append(f"models.providers.{PROVIDER}.apiKey in OpenClaw's config")
    try:
        # Here, not in the gateway, whose environment may be another.
        sources.append(f"{resolve_credentials(environ=environ).source}, seen from here")
    except MissingApiKeyError:
        pass
    except ConfigurationError as exc:
        sources.append(f"unusable: {exc.message}")
    return sources


def _problems(
    found: Mapping[str, Any] | None, made: Mapping[str, Any], keys: list[str], manifest: Manifest, kept: Path
) -> list[Problem]:
    problems = []
    if found is None:
        problems.append(Problem(what=f"OpenClaw has no plugin {manifest.id}", mend=INSTALL))
    else:
        plugin = found["plugin"]
        if made.get("version") != manifest.version:
            here = f"the plugin is version {made.get('version')}, this package {manifest.version}"
            problems.append(Problem(what=here, mend=INSTALL))
        elif made.get("manifest_sha256") != manifest.sha256:
            problems.append(Problem(what="the plugin was made from another manifest", mend=INSTALL))
        python = made.get("python")
        if python is not None and not os.access(python, os.X_OK):
            problems.append(Problem(what=f"the plugin's interpreter {python} does not exist any more", mend=INSTALL))
        for item in found.get("diagnostics") or []:
            if is_error(item):
                problems.append(Problem(what=message_of(item), mend="openclaw plugins doctor"))
        if plugin.get("enabled") and plugin.get("status") != "loaded":
            what = f"OpenClaw does not load the plugin: {plugin.get('error') or plugin.get('status')}"
            problems.append(Problem(what=what, mend="openclaw plugins doctor"))
    if not keys:
        # No command: whoever runs one with a placeholder in it has a wrong key instead of none.
        mend = f"add a line {KEY_VARIABLE}=… with your key to {kept}, then: openclaw gateway restart"
        problems.append(Problem(what="no RunAPI key was found", mend=mend))
    return problems


def report(status: Status) -> str:
    """Return the status as text for a person."""
    plugin = "not installed"
    if status.plugin_version is not None:
        plugin = f"{status.plugin_version}, {'enabled' if status.plugin_enabled else 'disabled'}"
    lines = [
        f"OpenClaw   {status.openclaw_version} ({status.openclaw_command})",
        f"package    {status.package_version}",
        f"plugin     {plugin}",
        f"worker     {status.python or 'flux2-tool from PATH, unless configured'}",
        f"gateway    {status.gateway}",
        f"key        {'; '.join(status.key_sources) or 'none found'}",
        f"tools      {', '.join(status.tools) or 'none'}",
    ]
    lines += [f"note       {text}" for text in status.notes]
    for item in status.hidden:
        lines.append(f"hidden     {', '.join(item.tools)} by {item.where}: {item.why}")
        lines.append(f"  mend:    {item.mend}")
    for problem in status.problems:
        lines.append(f"problem    {problem.what}")
        lines.append(f"  mend:    {problem.mend}")
    lines.append("all is well" if status.ok else "something is to be mended")
    return "\n".join(lines)
