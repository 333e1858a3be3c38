"""Write the plugin's folder and have OpenClaw install, verify or remove it.

Everything is done in the state folder that the `openclaw` command uses, and nothing is carried from one to another."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flux2_tool._files import read_file
from flux2_tool._folders import state_data_folder
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.openclaw.bundle import plugin_files, write_plugin
from flux2_tool.openclaw.channel_progress import progress_notes
from flux2_tool.openclaw.image_provider import PROVIDER
from flux2_tool.openclaw.npm_package import npm_version
from flux2_tool.openclaw.openclaw_cli import OpenClawCli, OpenClawCommandError
from flux2_tool.schema.manifest import Manifest

RELOAD_ATTEMPTS = 60
RELOAD_PAUSE_S = 5.0

# Measured with OpenClaw 2026.9.6: it refuses at once; the new version is saved but not loaded.
_BUSY = "active retained work"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledPlugin:
    """The plugin as OpenClaw reports it after the installation."""

    version: str
    openclaw_version: str
    folder: Path
    tools: tuple[str, ...]


def plugin_folder(state: Path) -> Path:
    """Return where the generated plugin is kept in a state folder; OpenClaw copies it from there."""
    return state_data_folder(state) / "openclaw-plugin"


def serves_image_generate(state: Path) -> bool:
    """Return whether the plugin that was installed last in a state folder serves OpenClaw's own `image_generate`."""
    try:
        found = json.loads(read_file(plugin_folder(state) / "openclaw.plugin.json"))
        return bool(found["contracts"].get("imageGenerationProviders"))
    except (OSError, ValueError, LookupError, AttributeError):
        return False


_IMAGE_GENERATE = (
    f"It serves OpenClaw's own tool image_generate too, as the provider {PROVIDER}. There OpenClaw tells neither who",
    "asks nor in which conversation: session_cap_usd does not hold for it, and it refuses where spenders is owner or",
    "sender_daily_cap_usd is set. When it fails, OpenClaw may try, and pay for, another image model you have set up.",
)


def consent_text(manifest: Manifest, *, python: str, openclaw: str, image_generate: bool = False) -> str:
    """Return the text that a person agrees to before the plugin is installed."""
    also = _IMAGE_GENERATE if image_generate else ()
    prices = [f"  {model.slug}: {_prices(model.prices_usd)}" for model in manifest.models.values()]
    secret = [name for name, variable in manifest.environment.items() if variable.secret]
    read = [name for name in manifest.environment if name not in secret]
    keep_days = manifest.settings["keep_days"].schema["default"]
    return "\n".join(
        [
            f"This installs the plugin {manifest.id} {manifest.version} ({manifest.name}) into {openclaw}.",
            f"Tools it gives to your agents: {', '.join(manifest.tools)}.",
            *also,
            "Every image costs money on your RunAPI account. List prices per image:",
            *prices,
            f"It reads the key {', '.join(secret)} (or the key of the chat provider runapi) and {', '.join(read)},",
            f"sends prompts and source images to RunAPI, keeps copies of finished images here for {keep_days:g} days",
            f"(the setting keep_days), and runs one process: {python} -m flux2_tool worker.",
        ]
    )


def _prices(prices: Mapping[str, float | None]) -> str:
    return ", ".join(
        f"{resolution} {'not published' if usd is None else f'{usd:.2f} USD'}" for resolution, usd in prices.items()
    )


def install(
    cli: OpenClawCli,
    manifest: Manifest,
    *,
    python: str,
    image_generate: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    notify: Callable[[str], None] = lambda _: None,
) -> InstalledPlugin:
    """Install or upgrade the plugin, enable it, and verify that OpenClaw loads it with all its tools.

    The user's config under `plugins.entries` stays as it is. A gateway that is busy with a turn refuses to
    replace a plugin, so this waits for it.

    Args:
        cli: The OpenClaw to install into.
        manifest: The plugin's.
        python: The interpreter that runs the worker.
        image_generate: Whether the plugin serves OpenClaw's own tool `image_generate` too.
        sleep: Waits some seconds.
        notify: Called with lines for the user: why it takes longer, and OpenClaw's notes.

    Raises:
        ConfigurationError: The folder cannot be written, OpenClaw refused, or the plugin does not load.
    """
    folder = plugin_folder(cli.state_folder)
    try:
        for private in (cli.state_folder, state_data_folder(cli.state_folder)):
            private.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_plugin(folder, plugin_files(manifest, python=python, image_generate=image_generate))
    except OSError as exc:
        raise ConfigurationError(
            f"cannot write the plugin to {folder}: {exc.strerror}",
            hint="make it a folder that is yours, or name another state folder in OPENCLAW_STATE_DIR",
        ) from exc
    try:
        cli.run("plugins", "install", str(folder), "--force", "--accept-capabilities")
    except OpenClawCommandError as exc:
        if _BUSY not in exc.message:
            raise
        notify("the gateway is in the middle of a turn with the plugin; waiting for it to finish")
        _reload_when_idle(cli, manifest, sleep=sleep)
    found = inspect_plugin(cli, manifest)
    if found is not None and not found["plugin"].get("enabled"):
        # An uninstalled or disabled plugin stays disabled when it is installed again.
        cli.run("plugins", "enable", manifest.id, "--accept-capabilities")
        found = inspect_plugin(cli, manifest)
    for note in (found or {}).get("diagnostics") or []:
        if not is_error(note):
            notify(f"OpenClaw notes: {diagnostic_message(note)}")
    done = _verify(cli, manifest, found, folder)
    for text in progress_notes(cli.config_value("channels")):
        notify(text)
    return done


def is_error(diagnostic: Any) -> bool:
    """Return whether a diagnostic of OpenClaw's is an error; one of an unknown level counts as one."""
    level = diagnostic.get("level") if isinstance(diagnostic, Mapping) else None
    return level not in ("warn", "warning", "info", "debug")


def diagnostic_message(diagnostic: Any) -> str:
    """Return the message of a diagnostic of OpenClaw's."""
    return str(diagnostic.get("message", diagnostic)) if isinstance(diagnostic, Mapping) else str(diagnostic)


def _reload_when_idle(cli: OpenClawCli, manifest: Manifest, *, sleep: Callable[[float], None]) -> None:
    """Have the gateway load what is already installed, as soon as no turn is using the old version."""
    for _ in range(RELOAD_ATTEMPTS):
        sleep(RELOAD_PAUSE_S)
        try:
            cli.run("plugins", "reload", manifest.id, "--accept-capabilities")
        except OpenClawCommandError as exc:
            if _BUSY not in exc.message:
                raise
        else:
            return
    raise ConfigurationError(
        f"{manifest.id} {manifest.version} is installed, but the gateway still uses the old version in a turn",
        hint=f"once the turn has ended, run: openclaw plugins reload {manifest.id}",
    )


def _verify(cli: OpenClawCli, manifest: Manifest, found: Mapping[str, Any] | None, folder: Path) -> InstalledPlugin:
    plugin = {} if found is None else found["plugin"]
    tools = tuple(plugin.get("toolNames") or ())
    problems = [diagnostic_message(item) for item in (found or {}).get("diagnostics") or [] if is_error(item)]
    if plugin.get("status") != "loaded":
        problems.append(f"its status is {plugin.get('status', 'missing')}: {plugin.get('error') or 'no reason given'}")
    if plugin.get("version") != npm_version(manifest.version):
        problems.append(f"its version is {plugin.get('version')} instead of {npm_version(manifest.version)}")
    missing = [name for name in manifest.tools if name not in tools]
    if missing:
        problems.append(f"it does not offer {', '.join(missing)}")
    if problems:
        raise ConfigurationError(
            f"OpenClaw installed the plugin {manifest.id}, but {'; '.join(problems)}",
            hint="run: flux2-tool openclaw status",
        )
    return InstalledPlugin(version=manifest.version, openclaw_version=cli.version, folder=folder, tools=tools)


def inspect_plugin(cli: OpenClawCli, manifest: Manifest) -> dict[str, Any] | None:
    """Return the output of `plugins inspect --runtime` for the plugin, or None when it is not installed.

    Raises:
        OpenClawCommandError: The command failed, for instance because OpenClaw's config is invalid.
    """
    try:
        found: dict[str, Any] = cli.run_json("plugins", "inspect", manifest.id, "--runtime", "--json")
    except OpenClawCommandError as exc:
        if "not found" in exc.message.lower():
            return None
        raise
    return found
