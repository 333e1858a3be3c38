"""What an installation says of the settings that guard money: those in force after it, and what would loosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flux2_tool.openclaw.openclaw_cli import OpenClawCli
from flux2_tool.openclaw.settings_record import Loosening, loosenings, value_text, write_record
from flux2_tool.schema.guards import MASK, guards_in_force, unknown_settings
from flux2_tool.schema.manifest import Manifest

# Shown although they are defaults: what a reader of a bill asks for first.
_ALWAYS: Final = ("daily_cap_usd", "spenders")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardReview:
    """The review of one config.

    Attributes:
        lines: For the user.
        looser: What would be looser than it was last.
    """

    lines: tuple[str, ...]
    looser: tuple[Loosening, ...]
    _config: Mapping[str, Any]
    _state: Path
    _manifest: Manifest

    def record(self) -> None:
        """Note the config's guards as those in force."""
        write_record(self._state, self._config, self._manifest)


def review_guards(cli: OpenClawCli, manifest: Manifest) -> GuardReview:
    """Compare the plugin's config with what was in force last.

    Raises:
        OpenClawCommandError: OpenClaw's config is invalid.
    """
    where = f"plugins.entries.{manifest.id}.config"
    found = cli.config_value(where)
    config: dict[str, Any] = found if isinstance(found, dict) else {}
    state = cli.state_folder
    looser = tuple(loosenings(state, config, manifest))
    lines = [f"In force after it: {guards_text(config, manifest)}."]
    for unknown in unknown_settings(config, manifest.settings):
        lines.append(f"warning: {where}.{unknown.name} {unknown.text}; openclaw config unset {where}.{unknown.name}")
    if looser:
        lines.append("Looser than what was in force last, which the config has no longer:")
        for one in looser:
            lines += [f"  {one.text()}; to keep it:", f"    {one.restore(manifest.id)}"]
    return GuardReview(lines=tuple(lines), looser=looser, _config=config, _state=state, _manifest=manifest)


def guards_text(config: Mapping[str, Any], manifest: Manifest) -> str:
    """Return the settings of a config that guard money, those that are no defaults and the most important."""
    shown = []
    for name, value in guards_in_force(config, manifest.settings).items():
        if name in _ALWAYS or value != manifest.settings[name].schema.get("default"):
            shown.append(f"{name} {MASK if manifest.settings[name].sensitive else value_text(value)}")
    return ", ".join(shown)
