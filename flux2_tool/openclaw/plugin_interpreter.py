"""The interpreter that the installed plugin runs its worker with, and whether it still starts.

The plugin itself decides, in `plugin/settings.js` and `plugin/python_choice.js`; here the same is read from files.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flux2_tool._folders import state_data_folder
from flux2_tool.schema.installation import DISTRIBUTION
from flux2_tool.schema.manifest import Manifest

START_TIMEOUT_S: Final = 60.0
_MOST_CHARS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInterpreter:
    """An interpreter that the plugin names.

    Attributes:
        python: Its absolute path.
        fix: The command that gives the plugin one that works; it begins with what works now.
    """

    python: str
    fix: str


def plugins_interpreter(
    bundle: Mapping[str, Any], plugins: Mapping[str, Any], manifest: Manifest, *, state: Path
) -> PluginInterpreter | None:
    """Return the interpreter of the plugin's settings, else the plugin's own; None where it takes one from PATH.

    Args:
        bundle: The installed plugin's `tools.json`.
        plugins: The section `plugins` of OpenClaw's config.
        manifest: The plugin's.
        state: The state folder that is addressed.
    """
    here = shlex.quote(sys.executable)
    config = _at(plugins, "entries", manifest.id, "config")
    if isinstance(configured := _at(config, "python"), str) and configured:
        setting = f"plugins.entries.{manifest.id}.config.python"
        return PluginInterpreter(python=configured, fix=f"openclaw config set {setting} {here}")
    if isinstance(python := bundle.get("python"), str):
        # `flux2-tool` lay beside an interpreter that is gone.
        return PluginInterpreter(python=python, fix=f"{here} -m flux2_tool openclaw install")
    wheel = _at(bundle, "wheel", "sha256")
    if not isinstance(wheel, str):
        return None
    folder = state_data_folder(state) / "python" / f"{bundle.get('version')}-{wheel[:12]}"
    # The gateway makes a new one when it does not start.
    fix = "openclaw gateway restart"
    return PluginInterpreter(python=str(folder / "bin" / "python"), fix=fix) if folder.is_dir() else None


def why_it_does_not_start(interpreter: PluginInterpreter, manifest: Manifest) -> str | None:
    """Start the interpreter and return why it does not run this version; the text completes "it …"."""
    command = [interpreter.python, "-P", "-m", "flux2_tool", "--version"]
    try:
        done = subprocess.run(  # noqa: S603 - what the plugin itself runs
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        return "does not exist any more"
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"does not start: {exc}"
    if done.returncode != 0:
        return (
            f"does not start flux2-tool: {(done.stderr.strip().splitlines() or ['no reason given'])[-1][:_MOST_CHARS]}"
        )
    version = done.stdout.strip().removeprefix(DISTRIBUTION).strip()
    return None if version == manifest.version else f"has flux2-tool {version}, not {manifest.version}"


def _at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
