"""What OpenClaw's channels show of a call's progress, and the command that shows all of it.

Source: OpenClaw's own docs, `concepts/streaming.md` and `concepts/progress-drafts.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# The mode of a channel that sets none. Channels that are not named here show no progress of tools.
_DEFAULT_MODES: Final = {
    "discord": "off",
    "mattermost": "partial",
    "msteams": "partial",
    "slack": "progress",
    "telegram": "progress",
}


def progress_notes(channels: Any) -> list[str]:
    """Return a note for each configured channel that does not show how far a picture is.

    Args:
        channels: `channels` of OpenClaw's config, of any shape.
    """
    notes = []
    for name, default in _DEFAULT_MODES.items():
        channel = channels.get(name) if isinstance(channels, Mapping) else None
        if not isinstance(channel, Mapping) or channel.get("enabled") is False:
            continue
        streaming = _object(channel.get("streaming"))
        mode = streaming.get("mode", default)
        setting = f"openclaw config set channels.{name}.streaming"
        if mode == "off":
            turn_on = f"{setting}.mode progress; {setting}.progress.toolProgress true"
            notes.append(f"{name} shows no progress while a picture is made; to show it: {turn_on}")
        elif mode == "progress" and _object(streaming.get("progress")).get("toolProgress") is not True:
            turn_on = f"{setting}.progress.toolProgress true"
            notes.append(f"{name} shows that the agent works, but not how far a picture is; to show it: {turn_on}")
        elif mode != "progress" and _object(streaming.get("preview")).get("toolProgress") is False:
            turn_on = f"{setting}.preview.toolProgress true"
            notes.append(f"{name} shows no progress while a picture is made; to show it: {turn_on}")
    return notes


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
