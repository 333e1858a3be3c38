"""What the plugin keeps of finished pictures, by its config as it is saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from flux2_tool.engine.kept_report import kept_report
from flux2_tool.exceptions import ConfigurationError
from flux2_tool.schema.manifest import Manifest
from flux2_tool.settings import load_settings

_WANTED: Final = ("home", "save_dir", "keep_days", "keep_mb")


def kept_pictures(config: Mapping[str, Any], manifest: Manifest, *, state: Path) -> str:
    """Return how much is kept, in words; "" where the config cannot say it.

    Args:
        config: The plugin's.
        manifest: Where the settings are.
        state: OpenClaw's state folder.
    """
    wanted = {name: config[name] for name in _WANTED if name in config}
    try:
        found = kept_report(load_settings({}, config=wanted, manifest=manifest, state=state))
    except ConfigurationError:  # one of the status's problems
        return ""
    return f"{found.text}; {found.problem}" if found.problem else found.text
