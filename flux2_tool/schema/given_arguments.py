"""Read a call's arguments as they were meant, where that is certain; `validation.py` judges the rest.

Some hosts add arguments of their own to those of the model (n8n its call's id and its chat), and some write a list as
its JSON text (Claude Code, n8n).
"""

from __future__ import annotations

import json
from typing import Any, Final

from flux2_tool.schema.manifest import Manifest

_HOST_NAMES: Final = frozenset({"toolCallId", "sessionId", "chatInput"})
# A name that other image tools have too is a host's only with this value.
_HOST_VALUES: Final = {"action": "sendMessage"}


def as_meant(manifest: Manifest, tool_name: Any, arguments: Any) -> tuple[Any, list[str]]:
    """Return the arguments without those of the host and with lists for their JSON text, and warnings for the result.

    Those of a tool that does not exist are returned as they are, and so is what is no object.
    """
    tool = manifest.tools.get(tool_name) if isinstance(tool_name, str) else None
    if tool is None or not isinstance(arguments, dict):
        return arguments, []
    properties = tool.input_schema["properties"]
    foreign = [name for name, value in arguments.items() if name not in properties and _is_of_host(name, value)]
    meant = {
        name: _list_of(value) if properties.get(name, {}).get("type") == "array" else value
        for name, value in arguments.items()
        if name not in foreign
    }
    warnings = [
        f'argument_ignored: {tool.name} has no argument "{name}"; it seems to be the host\'s' for name in foreign
    ]
    return meant, warnings


def _is_of_host(name: Any, value: Any) -> bool:
    return isinstance(value, str) and (name in _HOST_NAMES or _HOST_VALUES.get(name) == value)


def _list_of(value: Any) -> Any:
    """Return the list that a text is the JSON of; anything else unchanged."""
    if not isinstance(value, str) or not value.strip().startswith("["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
