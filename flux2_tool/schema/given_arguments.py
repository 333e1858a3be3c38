"""Read a call's arguments as they were meant, where that is certain; `validation.py` judges the rest.

Agents' hosts add names of their own to the model's, and write values as JSON text; what the schema takes as it is stays
as it is. Pure. Sources: what n8n, LangChain's adapters, Claude Code and GitHub Copilot were seen to send.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from flux2_tool.schema.manifest import Manifest
from flux2_tool.schema.value_text import shown_text

MAX_NAMED: Final = 10
# Compared without case, "_", "-" and blanks. None of them says anything about an image, so that nothing that was asked
# for is lost with it; "id" and "task" are not here, because a model means task_id by them.
_HOST_NAMES: Final = frozenset(
    [
        *("toolcallid", "tooluseid", "callid", "functioncallid", "toolcall", "tool", "toolname", "toolcalltype"),
        *("sessionid", "threadid", "conversationid", "chatid", "channelid", "messageid", "parentmessageid", "turnid"),
        *("requestid", "runid", "traceid", "spanid", "executionid", "workflowid", "chatflowid", "agentid", "userid"),
        *("chatinput", "sessioninfo", "chathistory", "meta", "progresstoken"),
        *("runtime", "runmanager", "callbacks", "config", "runnableconfig", "store", "state", "toolruntime"),
    ]
)
# A name that other image tools have too is a host's only with these values.
_HOST_VALUES: Final = {"action": ("sendMessage", "loadPreviousSession")}
_JSON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "array": (list,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
}


def as_meant(manifest: Manifest, tool_name: Any, arguments: Any, *, with_host: bool) -> tuple[Any, list[str]]:
    """Return the arguments without those of the host and with values for their JSON text, and warnings for the result.

    Those of a tool that does not exist are returned as they are, and so is what is no object.

    Args:
        with_host: Whether the host adds arguments for itself.
    """
    arguments, dropped = without_host_names(manifest, tool_name, arguments) if with_host else (arguments, [])
    return with_json_values(manifest, tool_name, arguments), [dropped_text(dropped)] if dropped else []


def without_host_names(manifest: Manifest, tool_name: Any, arguments: Any) -> tuple[Any, list[str]]:
    """Return arguments without those that a host adds for itself, and the names of these.

    A name that begins with "_" is always a host's. A name of the tool's own schema is never dropped, nor is an object
    with such names in it: what is asked for there must be refused rather than lost.
    """
    properties = _properties(manifest, tool_name)
    if not isinstance(arguments, dict) or properties is None:
        return arguments, []
    dropped = [
        name
        for name, value in arguments.items()
        if name not in properties
        and _is_of_host(name, value)
        and not (isinstance(value, dict) and any(inner in properties for inner in value))
    ]
    return {name: value for name, value in arguments.items() if name not in dropped}, dropped


def dropped_text(names: list[str]) -> str:
    """Return the warning about names that were dropped."""
    listed = ", ".join(shown_text(name) for name in names[:MAX_NAMED])
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"argument_ignored: the host added {listed}{more}, which no tool here takes; left out"


def with_json_values(manifest: Manifest, tool_name: Any, arguments: Any) -> Any:
    """Return arguments in which a text that is exactly the JSON of the type that the schema wants is that value.

    Only for lists, numbers and booleans: nothing else can be meant by such a text, which the schema would refuse.
    """
    properties = _properties(manifest, tool_name)
    if not isinstance(arguments, dict) or properties is None:
        return arguments
    return {name: _json_value(value, properties.get(name)) for name, value in arguments.items()}


def _properties(manifest: Manifest, tool_name: Any) -> Mapping[str, Any] | None:
    tool = manifest.tools.get(tool_name) if isinstance(tool_name, str) else None
    return None if tool is None else tool.input_schema["properties"]


def _is_of_host(name: Any, value: Any) -> bool:
    if not isinstance(name, str):
        return False
    folded = name.casefold().translate({ord(c): None for c in "_- "})
    return name.startswith("_") or folded in _HOST_NAMES or value in _HOST_VALUES.get(name, ())


def _json_value(value: Any, schema: Any) -> Any:
    wanted = _JSON_TYPES.get(schema.get("type", "")) if isinstance(schema, Mapping) else None
    if wanted is None or not isinstance(value, str):
        return value
    try:
        found = json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return value
    return found if isinstance(found, wanted) and (bool in wanted or not isinstance(found, bool)) else value


def _refuse(name: str) -> Any:
    raise ValueError(name)
