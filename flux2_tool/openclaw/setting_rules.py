"""A setting's rule in `dist/tools.json`: its default, and how `guards.js` finds the stricter of two values."""

from __future__ import annotations

from typing import Any

from flux2_tool.schema.entries import Setting


def setting_rule(setting: Setting) -> dict[str, Any]:
    """Return what the plugin's JavaScript needs of a setting."""
    schema = setting.schema
    return {
        **({"default": schema["default"]} if "default" in schema else {}),
        **({"guards": setting.guards} if setting.guards else {}),
        **({"order": schema["enum"]} if setting.guards == "first" else {}),
        **({"sensitive": True} if setting.sensitive else {}),
    }
