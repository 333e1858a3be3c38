"""The plugin's status: this package's side, OpenClaw's side, and the settings that hide tools from a model.

Never shows a key, only the places that have one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flux2_tool._files import read_file
from flux2_tool._folders import state_folder
from flux2_tool.credentials import KEY_VARIABLE, resolve_credentials
from flux2_tool.exceptions import ConfigurationError, MissingApiKeyError
from flux2_tool.openclaw.channel_progress import progress_notes
from flux2_tool.openclaw.gateway_report import PluginReport
from flux2_tool.openclaw.image_provider import PROVIDER
from flux2_tool.openclaw.in_force import Problem, address_in_use, differences, in_force_text, unknown_problems
from flux2_tool.openclaw.install import diagnostic_message, is_error
from flux2_tool.openclaw.kept_pictures import kept_pictures
from flux2_tool.openclaw.openclaw_cli import OpenClawCli
from flux2_tool.openclaw.plugin_interpreter import PluginInterpreter, plugins_interpreter, why_it_does_not_start
from flux2_tool.openclaw.status_queries import ask_openclaw, bundle_of
from flux2_tool.openclaw.tool_policy import OpenClawConfig, PolicyBlock, find_conflicts, find_policy_blocks
from flux2_tool.schema.manifest import Manifest

INSTALL = "flux2-tool openclaw install"
SEEN_FROM_HERE = "seen from here"
"""Ends a key source of this shell, whose environment may differ from the gateway's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The plugin's status; its own values are None or empty when it is not installed.

    Attributes:
        tools: The tools that the plugin registers.
        offered: Those of them that nothing hides from every model.
        hidden: The settings that hide tools, from every model or from some.
        problems: All other problems.
        notes: OpenClaw's diagnostics of the plugin that are no errors, and what its channels do not show.
        address: RunAPI's address in use, and who says so.
        in_force: The settings that the gateway has in force, secrets masked; None where it does not say.
        running: What the running plugin reports, or why it does not.
        config: The plugin's config as it is saved.
        kept: The copies that the plugin keeps of finished pictures, in words.
    """

    openclaw_command: str
    openclaw_version: str
    state_folder: str
    package_version: str
    plugin_version: str | None
    plugin_enabled: bool
    python: str | None
    key_sources: tuple[str, ...]
    gateway: str
    address: str
    tools: tuple[str, ...]
    offered: tuple[str, ...]
    hidden: tuple[PolicyBlock, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    in_force: Mapping[str, Any] | None = None
    running: PluginReport | str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    kept: str = ""

    @property
    def ok(self) -> bool:
        """Whether a model is offered every tool and a key was found."""
        return not self.hidden and not self.problems

    def as_object(self) -> dict[str, Any]:
        """Return the JSON-ready object."""
        found = {"ok": self.ok, **asdict(self)}
        del found["running"], found["config"]
        return found


def get_status(cli: OpenClawCli, manifest: Manifest, environ: Mapping[str, str]) -> Status:
    """Return the state of the plugin in this OpenClaw.

    Raises:
        ConfigurationError: OpenClaw's config is invalid, or one of its commands failed.
    """
    found = ask_openclaw(cli, manifest)
    inspection: Mapping[str, Any] | None = found["inspection"]
    plugin: Mapping[str, Any] = (inspection or {}).get("plugin", {})
    names = tuple(manifest.tools)
    hidden = _hidden(found, manifest) if plugin else []
    bundle = bundle_of(plugin)
    worker = plugins_interpreter(bundle, found["plugins"], manifest, state=cli.state_folder) if plugin else None
    keys = _key_sources(environ, cli.state_folder / ".env", in_openclaw=_is_filled(found["provider_key"]))
    tools = tuple(tool for tool in names if tool in (plugin.get("toolNames") or ()))
    hidden_everywhere = {tool for block in hidden if not block.is_partial for tool in block.tools}
    diagnostics = (inspection or {}).get("diagnostics") or []
    running, saved = found["running"], _saved_config(found["plugins"], manifest)
    in_force = running.settings if isinstance(running, PluginReport) else None
    return Status(
        openclaw_command=str(cli.command),
        openclaw_version=cli.version,
        state_folder=str(cli.state_folder),
        package_version=manifest.version,
        plugin_version=bundle.get("version") or plugin.get("version"),
        plugin_enabled=bool(plugin.get("enabled")),
        python=None if worker is None else worker.python,
        key_sources=tuple(keys),
        gateway=_gateway(found["catalog"], manifest),
        address=address_in_use(running, saved, environ),
        tools=tools,
        offered=tuple(tool for tool in tools if tool not in hidden_everywhere),
        hidden=tuple(hidden),
        notes=(
            *(diagnostic_message(item) for item in diagnostics if not is_error(item)),
            *progress_notes(found["channels"]),
        ),
        problems=(
            *_problems(inspection, bundle, keys, manifest, cli.state_folder / ".env", worker=worker, running=running),
            *(unknown_problems(saved, manifest) if inspection is not None else ()),
            *(differences(running, saved, manifest) if isinstance(running, PluginReport) else ()),
        ),
        in_force=in_force,
        running=running,
        config=saved,
        kept="" if inspection is None else kept_pictures(saved, manifest, state=cli.state_folder),
    )


def _saved_config(plugins: Mapping[str, Any], manifest: Manifest) -> Mapping[str, Any]:
    """Return the plugin's config in the section `plugins`."""
    entries = plugins.get("entries")
    entry = entries.get(manifest.id) if isinstance(entries, Mapping) else None
    config = entry.get("config") if isinstance(entry, Mapping) else None
    return config if isinstance(config, Mapping) else {}


def _hidden(found: Mapping[str, Any], manifest: Manifest) -> list[PolicyBlock]:
    """Return what hides the tools of an installed plugin."""
    names = tuple(manifest.tools)
    config = OpenClawConfig(tools=found["tools"], agents=found["agents"], plugins=found["plugins"])
    blocks = [*find_policy_blocks(config, plugin=manifest.id, tools=names)]
    return [*blocks, *find_conflicts(found["others"], plugin=manifest.id, tools=names)]


def _gateway(catalog: list[Mapping[str, Any]] | None, manifest: Manifest) -> str:
    if catalog is None:
        return "no running gateway responded"
    ours = [str(tool["id"]) for tool in catalog if tool.get("pluginId") == manifest.id]
    return f"running, and has {', '.join(ours) if ours else 'none of the tools'}"


def env_file(environ: Mapping[str, str]) -> Path:
    """Return OpenClaw's own file of environment variables, for a gateway that runs as a service."""
    # Only named in advice: where this user has no home folder, the gateway's may.
    return (state_folder(environ) or Path("~/.openclaw")) / ".env"


def _is_filled(key: Any) -> bool:
    """Whether a value is a key, masked or not, rather than an empty text or a placeholder."""
    try:
        resolve_credentials(environ={}, explicit_key=key if isinstance(key, str) else "")
    except MissingApiKeyError:
        return isinstance(key, Mapping) and bool(key)  # a reference to a secret that OpenClaw keeps elsewhere
    except ConfigurationError:
        return True
    return True


def _key_sources(environ: Mapping[str, str], path: Path, *, in_openclaw: bool) -> list[str]:
    sources = []
    try:
        lines = read_file(path).decode().splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    assignments = [line.strip().removeprefix("export ").partition("=") for line in lines]
    if any(name.strip() == KEY_VARIABLE and _is_filled(value.strip().strip("\"'")) for name, _, value in assignments):
        sources.append(f"{KEY_VARIABLE} in {path}")
    if in_openclaw:
        sources.append(f"models.providers.{PROVIDER}.apiKey in OpenClaw's config")
    try:
        sources.append(f"{resolve_credentials(environ=environ).source}, {SEEN_FROM_HERE}")
    except MissingApiKeyError:
        pass
    except ConfigurationError as exc:
        sources.append(f"unusable: {exc.message}")
    return sources


def _problems(
    inspection: Mapping[str, Any] | None,
    bundle: Mapping[str, Any],
    keys: list[str],
    manifest: Manifest,
    kept: Path,
    *,
    worker: PluginInterpreter | None,
    running: PluginReport | str,
) -> list[Problem]:
    problems = []
    if inspection is None:
        problems.append(Problem(message=f"OpenClaw has no plugin {manifest.id}", fix=INSTALL))
    else:
        problems += _plugin_problems(inspection, bundle, manifest)
    reason = None if worker is None else why_it_does_not_start(worker, manifest)
    if worker is not None and reason is not None:
        problems.append(Problem(message=f"the plugin's interpreter {worker.python} {reason}", fix=worker.fix))
    # No command: run with its placeholder unchanged, it would set a wrong key.
    fix = f"add a line {KEY_VARIABLE}=… with your key to {kept}, then: openclaw gateway restart"
    if isinstance(running, PluginReport) and running.key is not None:
        if not running.has_key:
            problems.append(Problem(message="the gateway has no RunAPI key", fix=fix))
    elif not keys:
        problems.append(Problem(message="no RunAPI key was found", fix=fix))
    return problems


def _plugin_problems(inspection: Mapping[str, Any], bundle: Mapping[str, Any], manifest: Manifest) -> list[Problem]:
    problems = []
    plugin = inspection["plugin"]
    if bundle.get("version") != manifest.version:
        message = f"the plugin is version {bundle.get('version')}, this package {manifest.version}"
        problems.append(Problem(message=message, fix=INSTALL))
    elif bundle.get("manifest_sha256") != manifest.sha256:
        problems.append(Problem(message="the plugin was made from another manifest", fix=INSTALL))
    messages = [diagnostic_message(item) for item in inspection.get("diagnostics") or [] if is_error(item)]
    if plugin.get("enabled") and plugin.get("status") != "loaded":
        messages.append(f"OpenClaw does not load the plugin: {plugin.get('error') or plugin.get('status')}")
    problems += [Problem(message=message, fix="openclaw plugins doctor") for message in messages]
    return problems


def _key_text(status: Status) -> str:
    key = status.running.key if isinstance(status.running, PluginReport) else None
    if key is not None and key.state == "set":
        return f"set, in the gateway (from {'its environment' if key.source == 'environment' else 'its config'})"
    return "; ".join(status.key_sources) or "none found"


def report(status: Status) -> str:
    """Return the status as text for a person."""
    plugin = "not installed"
    if status.plugin_version is not None:
        plugin = f"{status.plugin_version}, {'enabled' if status.plugin_enabled else 'disabled'}"
    lines = [
        f"OpenClaw   {status.openclaw_version} ({status.openclaw_command})",
        f"state      {status.state_folder}",
        f"package    {status.package_version}",
        f"plugin     {plugin}",
        f"worker     {status.python or 'flux2-tool from PATH, else an environment that the gateway makes'}",
        f"gateway    {status.gateway}",
        f"key        {_key_text(status)}",
        f"address    {status.address}",
        f"tools      {', '.join(status.tools) or 'none'}",
    ]
    if status.kept:
        lines.append(f"pictures   {status.kept}")
    if status.in_force is not None:
        lines.append(f"in force   {in_force_text(status.in_force)}")
    lines += [f"note       {text}" for text in status.notes]
    for block in status.hidden:
        lines.append(f"hidden     {', '.join(block.tools)} by {block.where}: {block.reason}")
        lines.append(f"  fix:     {block.fix}")
    for problem in status.problems:
        lines.append(f"problem    {problem.message}")
        lines.append(f"  fix:     {problem.fix}")
    lines.append("no problems found" if status.ok else "problems found")
    return "\n".join(lines)
