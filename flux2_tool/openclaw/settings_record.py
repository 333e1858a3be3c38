"""What guarded money last in an OpenClaw, so that an installation does not loosen it unasked.

`openclaw doctor --fix` empties a plugin's invalid config and disables the plugin; enabled again, it has the defaults.
The plugin and the installer keep a record of what was in force (`plugin/record.js` writes it, too), in OpenClaw's state
folder. Where there is none yet, the copies that OpenClaw keeps of its config tell.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flux2_tool._files import read_file
from flux2_tool._folders import is_state_data_folder, state_data_folder
from flux2_tool.schema.entries import Setting
from flux2_tool.schema.guards import MASK, guards_in_force, loosened
from flux2_tool.schema.manifest import Manifest
from flux2_tool.settings import Settings

RECORD_FILE: Final = "settings.json"
_COPIES: Final = ("openclaw.json.bak", *(f"openclaw.json.bak.{number}" for number in range(1, 10)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loosening:
    """One guard that would be looser than it was last.

    Attributes:
        before: Its value then; None for an unset one, as is `after`, its value now.
        variable: The environment variable of a secret, whose value is shown nowhere; empty for any other.
    """

    name: str
    before: Any
    after: Any
    variable: str = ""

    def text(self) -> str:
        """What would change."""
        if self.variable:
            return f"{self.name} was set and would be unset"
        return f"{self.name} was {value_text(self.before)} and would be {value_text(self.after)}"

    def restore(self, plugin: str) -> str:
        """Return the command that sets it as it was."""
        value = f"${{{self.variable}}}" if self.variable else json.dumps(self.before)
        return f"openclaw config set plugins.entries.{plugin}.config.{self.name} '{value}'"


def value_text(value: Any) -> str:
    """Return a setting's value for a message."""
    return "unset" if value is None else value if isinstance(value, str) else json.dumps(value)


def loosenings(state: Path | None, config: Mapping[str, Any], manifest: Manifest) -> list[Loosening]:
    """Return the guards that a config has no longer, and that were in force last.

    A guard that the config sets to another value was meant that way, and is none of them.
    """
    before = None if state is None else read_record(state)
    if before is None and state is not None:
        before = _kept_copy(state, manifest)
    if before is None:
        return []
    settings = manifest.settings
    found = loosened(before, config, settings).items()
    gone = [
        (name, *values) for name, values in found if config.get(name) in (None, settings[name].schema.get("default"))
    ]
    return [Loosening(name=name, before=old, after=new, variable=_variable(settings[name])) for name, old, new in gone]


def _variable(setting: Setting) -> str:
    return (setting.env or "") if setting.sensitive else ""


def read_record(state: Path) -> dict[str, Any] | None:
    """Return the guards that were in force last and are no defaults; None where there is no record."""
    guards = _object(state_data_folder(state) / RECORD_FILE).get("guards")
    return guards if isinstance(guards, dict) else None


def is_plugins_journal_elsewhere(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Return whether the plugin of this state folder had its journal in a database last, and these settings name none.

    Args:
        settings: Of a process outside the gateway.
        environ: Its environment variables.
    """
    home = settings.home
    if home is None or settings.journal_url is not None or settings.journal == "off":
        return False
    return is_state_data_folder(home, environ) and bool((read_record(home.parent) or {}).get("journal_url"))


def write_record(state: Path | None, config: Mapping[str, Any], manifest: Manifest) -> None:
    """Record the guards of a config. A record that cannot be written is none: then OpenClaw's copies tell."""
    if state is None:
        return
    values = guards_in_force(config, manifest.settings)
    guards = {
        name: MASK if manifest.settings[name].sensitive else value
        for name, value in values.items()
        if value != manifest.settings[name].schema.get("default")
    }
    path = state_data_folder(state) / RECORD_FILE
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.touch(mode=0o600)
        part.write_text(json.dumps({"guards": guards}, indent=2) + "\n", encoding="utf-8")
        part.replace(path)


def _kept_copy(state: Path, manifest: Manifest) -> dict[str, Any] | None:
    """Return the plugin's config in the newest copy of OpenClaw's config that has one."""
    for name in _COPIES:
        config: Any = _object(state / name)
        for key in ("plugins", "entries", manifest.id, "config"):
            config = config.get(key) if isinstance(config, dict) else None
        if isinstance(config, dict) and config:
            return config
    return None


def _object(path: Path) -> dict[str, Any]:
    """Return a file's JSON object, empty when it cannot be read as one."""
    try:
        found = json.loads(read_file(path).decode())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
