"""The plugin's settings as OpenClaw's own page shows them, and what OpenClaw guards of them.

Source: OpenClaw's docs, `plugins/manifest/setup-and-auth.md` and `plugins/manifest/config-and-secrets.md`.
"""

from __future__ import annotations

from typing import Any

from flux2_tool.schema.entries import Setting
from flux2_tool.schema.manifest import Manifest


def settings_page(manifest: Manifest) -> dict[str, Any]:
    """Return the members of `openclaw.plugin.json` about the settings: schema, hints, groups, secrets and dangers."""
    settings = manifest.settings
    secrets = [{"path": key, "expected": "string"} for key, setting in settings.items() if setting.sensitive]
    dangers = [
        {"path": key, "equals": setting.dangerous} for key, setting in settings.items() if setting.dangerous is not None
    ]
    return {
        # An unknown key must not stop the plugin, or OpenClaw itself: the plugin, status and doctor name it.
        "configSchema": {**manifest.config_schema, "additionalProperties": True},
        "uiHints": {key: _hint(setting) for key, setting in settings.items()},
        "configGroups": [
            {"id": group.id, "title": group.title, "order": 10 * place, "properties": list(group.settings)}
            for place, group in enumerate(manifest.setting_groups, 1)
        ],
        "configContracts": {"dangerousFlags": dangers, "secretInputs": {"paths": secrets}},
    }


def _hint(setting: Setting) -> dict[str, Any]:
    return {
        "label": setting.label,
        "help": setting.help,
        **({"placeholder": setting.placeholder} if setting.placeholder else {}),
        **({"advanced": True} if setting.advanced else {}),
        **({"sensitive": True} if setting.sensitive else {}),
    }
